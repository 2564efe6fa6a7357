"""The ways in: one module per kind of source."""

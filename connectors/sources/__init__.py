"""Sources: one module per kind."""

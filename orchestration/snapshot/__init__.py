"""The published snapshot: immutable tables that readers use."""

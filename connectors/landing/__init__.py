"""Raw streams on disk: the only code that writes or deletes them."""

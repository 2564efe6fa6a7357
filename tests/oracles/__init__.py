"""Slow, plainly right versions of what the SQL models do."""

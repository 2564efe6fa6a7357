"""The difference that an edit makes to audiences, on a copy of the home."""

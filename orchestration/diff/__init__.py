"""Shows how an edit changes audiences, computed on a copy of the home."""

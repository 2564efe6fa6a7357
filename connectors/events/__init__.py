"""The canonical event and the one way through admission: pure functions."""

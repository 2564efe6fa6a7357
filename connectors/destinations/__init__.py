"""One module per way out.

A module with a model `Settings` and a function `connect` is a kind of destination,
found by its name; see `webhook` for the smallest example.
"""

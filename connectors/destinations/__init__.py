"""Destinations: one module per kind.

A module with a model `Settings` and a function `connect` is a kind of destination,
found by its name; `webhook` is the smallest example.
"""

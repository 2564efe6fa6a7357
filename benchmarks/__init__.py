"""Measurements quoted in the documentation; `make bench` runs them all."""

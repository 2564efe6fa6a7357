"""A made-up company's event stream, the truth about it, and a naive way to read it."""

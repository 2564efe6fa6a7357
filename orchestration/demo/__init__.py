"""The demo: a generated event stream, its true identities, and a naive baseline."""

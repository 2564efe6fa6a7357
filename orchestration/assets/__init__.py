"""The asset graph: sources → landing → models → checks → pushes → snapshot.

Each module makes one part of it from what is configured; `graph` puts them together.
The assets only call the steps of `orchestration.pipeline.run` and report their results.
"""

"""The asset graph: sources → landing → models → checks → pushes → snapshot.

Each module defines one part of it from the configuration; `graph` combines them. The
assets only call the steps of `orchestration.pipeline.run` and report their results.
"""

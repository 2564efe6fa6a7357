"""One run of the pipeline: land, build, check, push, publish."""

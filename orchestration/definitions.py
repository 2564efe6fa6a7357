"""What `dagster dev` and Dagster's daemon load.

Every name, file and environment variable is looked at first, so that a fault is told
at the start and not in the middle of a run.
"""

from orchestration.assets.graph import graph
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project

__all__ = ["defs"]

_project = Project.find()
_project.check()

defs = graph(Models(_project))

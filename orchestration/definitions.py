"""What `dg`, the code server and Dagster's daemon load."""

from orchestration.assets.graph import graph
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project

__all__ = ["defs"]

defs = graph(Models(Project.find()))

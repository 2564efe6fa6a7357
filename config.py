"""SQLMesh looks for its configuration here; see docs/sqlmesh.md."""

from pathlib import Path

from sqlmesh.core.config import Config

from orchestration.sqlmesh_project import sqlmesh_project

config: Config = sqlmesh_project(Path(__file__).parent)

"""Dagster components: the types of the `defs.yaml` files in `orchestration/defs`.

`dg list components` lists them, `dg scaffold defs orchestration.components.Destination
NAME` creates a file, and `dg check yaml` validates files by their schemas.
"""

from orchestration.components.check_suite import CheckSuite
from orchestration.components.destination import Destination

__all__ = ["CheckSuite", "Destination"]

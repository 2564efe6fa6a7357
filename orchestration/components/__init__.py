"""Dagster components: what a `defs.yaml` in `orchestration/defs` can be.

`dg list components` shows them, `dg scaffold defs orchestration.components.Destination
NAME` writes a file to begin with, `dg check yaml` checks files against their schemas.
"""

from orchestration.components.check_suite import CheckSuite
from orchestration.components.destination import Destination

__all__ = ["CheckSuite", "Destination"]

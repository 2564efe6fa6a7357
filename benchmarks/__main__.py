"""Run every benchmark of this folder, or selected ones: `… -m benchmarks landing`."""

import importlib
import pkgutil
import sys

import benchmarks

NOT_ONE = {"__main__", "measure", "dlt_load", "collector_peer"}
"""Helpers of other benchmarks, not run by default."""


def main() -> None:
    names = sys.argv[1:] or sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in NOT_ONE
    )
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()

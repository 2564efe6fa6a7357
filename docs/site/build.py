"""Build the documentation as one site, and serve it on this machine.

dbt's pages show the tables of the home folder's warehouse. Before the first run there
are none, so they come from an empty one.
"""

import argparse
import contextlib
import functools
import http.server
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

from orchestration.project import Project

PROJECT = Path(__file__).parents[2]
TESTS = ("test", "unit_test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PROJECT / "target" / "docs")
    parser.add_argument("--serve", action="store_true", help="until interrupted")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    output = options.output.absolute()
    site = build_site(output, build_models(output))
    print(f"Built {site / 'index.html'}", flush=True)
    if options.serve:
        serve(site, options.port)


def build_site(output: Path, models: Path) -> Path:
    """Leave the site in `site/` of the output folder, with dbt's page of the models.

    Raises:
        Abort: a link leads nowhere.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    config = load_config(
        str(Path(__file__).with_name("mkdocs.yml")),
        site_dir=str(output / "site"),
        extra={"models": str(models)},
    )
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return output / "site"


def build_models(output: Path) -> Path:
    """dbt's documentation of the models as one file.

    Raises:
        CalledProcessError: dbt could not read or compile the models.
    """
    os.environ["LOOMLINE_PROJECT"] = str(PROJECT)
    if not Project.find().home.warehouse.exists():
        empty = output / "empty"
        # Tables of an earlier build may lack columns that the models have by now.
        shutil.rmtree(empty, ignore_errors=True)
        os.environ["LOOMLINE_HOME"] = str(empty)
        # The page takes the types of columns from the tables.
        run_dbt(output, "build", *(f"--exclude-resource-type={t}" for t in TESTS))
    run_dbt(output, "docs", "generate", "--static")
    return output / "dbt" / "static_index.html"


def run_dbt(output: Path, *arguments: str) -> None:
    dbt = [str(Path(sys.executable).with_name("dbt")), "--quiet"]
    target = ["--target-path", str(output / "dbt")]
    subprocess.run([*dbt, *arguments, *target], check=True)


def serve(site: Path, port: int) -> None:
    """On 127.0.0.1 until interrupted."""
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(site)
    )
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        sys.exit(f"Port {port} cannot be used ({error}). Choose one: make docs PORT=…")
    print(f"Serving http://127.0.0.1:{server.server_port}/ (Ctrl+C stops)", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()

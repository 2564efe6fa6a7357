"""Dagster for its users: `dg dev`, its API, and a killed run."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from orchestration.cli.app import STOP_S
from orchestration.demo.sandbox.server import Sandbox
from tests.support.checkouts import AT, SECRET, Checkout, Sending

LAUNCH = """
mutation($selector: JobOrPipelineSelector!) {
  launchPipelineExecution(
    executionParams: {selector: $selector, mode: "default", runConfigData: {}}
  ) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
RUN = """
query($id: ID!) {
  runOrError(runId: $id) { ... on Run { status stats {
    ... on RunStatsSnapshot { materializations stepsFailed }
  } } }
}
"""
PROCESS = """
query($id: ID!) {
  logsForRun(runId: $id) { ... on EventConnection { events {
    ... on EngineEvent { message }
  } } }
}
"""
RETRIES = """
query($id: String!) {
  runsOrError(filter: {tags: [{key: "dagster/parent_run_id", value: $id}]}) {
    ... on Runs { results { runId status } }
  }
}
"""


class Dagster:
    """The API of Dagster as `loomline dev` runs it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        answer = httpx.post(self._url, json=body, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str) -> str:
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "loomline",
            "pipelineName": job,
        }
        launched = self.ask(LAUNCH, selector=selector)["launchPipelineExecution"]
        return str(launched["run"]["runId"])

    def ended(self, run: str) -> Any:
        """Wait for the run to end; return its status and counts."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            found = self.ask(RUN, id=run)["runOrError"]
            if found["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
                return found
            time.sleep(0.5)
        raise AssertionError(f"run {run} has not ended")

    def process(self, run: str) -> int:
        """Wait for the process that executes the run's steps, and return it."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            events = self.ask(PROCESS, id=run)["logsForRun"]["events"]
            said = " ".join(event.get("message", "") for event in events)
            if found := re.search(r"Executing steps in process \(pid: (\d+)\)", said):
                return int(found[1])
            time.sleep(0.1)
        raise AssertionError(f"run {run} has not started")

    def retry_of(self, run: str) -> str:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            found = self.ask(RETRIES, id=run)["runsOrError"]["results"]
            if found:
                return str(found[0]["runId"])
            time.sleep(0.5)
        raise AssertionError(f"run {run} was not retried")


@contextmanager
def loomline_dev(checkout: Checkout) -> Iterator[Dagster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (checkout.path / "dev.log").open("w")
    process = subprocess.Popen(
        [
            *(str(checkout.bin / "loomline"), "dev", "--port", str(port)),
            *("--sandbox-port", "0", "--collector-port", "0"),
        ],
        cwd=checkout.path,
        env=checkout.env(),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/server_info", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, (checkout.path / "dev.log").read_text()
                time.sleep(0.5)
        yield Dagster(port)
    finally:
        process.terminate()
        process.wait(STOP_S + 60)  # extra time for a busy machine
        log.close()


class Developing(Sending):
    """A checkout after the demo, with LOOMLINE_NOW and DAGSTER_HOME set."""

    def env(self) -> dict[str, str]:
        home = self.path / "data"
        return super().env() | {
            "LOOMLINE_NOW": AT,
            "LOOMLINE_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
        }


def test_all_is_materialized_by_the_api_and_a_killed_run_is_retried(
    sending: Sending,
) -> None:
    with Sandbox(sending.path / "box", SECRET) as box:
        checkout = Developing(sending.path, url=box.url + "/")
        checkout.loomline("run", "--no-push")  # also leaves a dagster.yaml
        with loomline_dev(checkout) as dagster:
            killed = dagster.launch("everything")
            os.kill(dagster.process(killed), signal.SIGKILL)
            assert dagster.ended(killed)["status"] == "FAILURE"
            retry = dagster.ended(dagster.retry_of(killed))
            assert retry["status"] == "SUCCESS"
            assert box.audiences() == {"aud_cart_abandoners": 3}
            count = box.deliveries()["count"]

            again = dagster.ended(dagster.launch("everything"))
            assert again["status"] == "SUCCESS"
            assert again["stats"]["materializations"] > 60
            assert box.deliveries()["count"] == count
    runs = checkout.json(
        "sql",
        "select sum(added), sum(removed), sum(pending) from destinations.sync_runs",
    )["rows"]
    assert runs == [[6, 0, 0]]  # three people, at the webhook and as files


def test_every_fault_is_told_at_the_start(checkout: Checkout) -> None:
    audience = checkout.path / "models" / "audiences" / "aud_churn_risk.yml"
    audience.write_text(audience.read_text().replace("crm_webhook", "crm"))
    place = checkout.path / "orchestration" / "defs"
    check = place / "checks" / "landing" / "defs.yaml"
    check.write_text(check.read_text().replace("warning", "loud", 1))
    destination = place / "destinations" / "warehouse_drop" / "defs.yaml"
    destination.write_text(destination.read_text() + "  formta: csv\n")
    loaded = checkout.run(
        [sys.executable, "-c", "import orchestration.definitions"], code=1
    )
    ran = checkout.run([str(checkout.bin / "loomline"), "run"], code=2)
    served = checkout.run([str(checkout.bin / "loomline"), "dev"], code=2)
    for said in (loaded.stderr, ran.stderr, served.stderr):
        for told in (
            r"aud_churn_risk\.yml, line 5: `sync_to` names crm, but",
            r"landing/defs\.yaml, line \d+: `expectations\.1\.severity`",
            r"warehouse_drop/defs\.yaml, line 9: `formta` is not a key here",
        ):
            assert re.search(told, said), told
    assert "Traceback" not in ran.stderr
    shutil.rmtree(checkout.path / "data", ignore_errors=True)


def test_a_missing_variable_is_told_with_its_line(checkout: Checkout) -> None:
    done = checkout.run([str(checkout.bin / "loomline"), "run"], code=2)
    assert re.search(
        r"crm_webhook/defs\.yaml, line 6: "
        "set the environment variable CRM_WEBHOOK_SECRET",
        done.stderr,
    )


def test_a_run_without_its_variables_fails_before_its_first_step(
    checkout: Checkout,
) -> None:
    execute = (
        "from orchestration.definitions import defs\n"
        "defs.resolve_job_def('everything').execute_in_process()"
    )
    done = checkout.run([sys.executable, "-c", execute], code=1)
    assert re.search(
        r"crm_webhook/defs\.yaml, line 6: "
        "set the environment variable CRM_WEBHOOK_SECRET",
        done.stderr,
    )
    assert not (checkout.path / "data" / "warehouse.duckdb").exists()


HEAVY = ("great_expectations", "sqlmesh", "dbt.cli.main", "pandas")


def test_loading_imports_nothing_heavy(sending: Sending) -> None:
    load = "import orchestration.definitions, sys; print(*sys.modules)"
    sending.run([sys.executable, "-c", load])  # leaves dbt's manifest
    modules = sending.run([sys.executable, "-c", load]).stdout.split()
    assert "dagster_dbt" in modules
    assert not {*HEAVY} & {*modules}

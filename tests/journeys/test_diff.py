"""`loomline diff` predicts the next run, for every kind of edit."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from connectors.locks import exclusive
from connectors.sources.files import units
from orchestration.cli.diff import print_diff
from orchestration.demo.generator import generate
from orchestration.demo.sandbox.server import Sandbox
from orchestration.diff.diff import Diff, diff
from orchestration.diff.home_copy import copied
from orchestration.diff.members import masked
from orchestration.pipeline.build_state import built_from
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.delivery import deliver_changes, read_syncs
from orchestration.pipeline.run import running
from orchestration.project import Project
from tests.support.checkouts import Checkout, clone

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
AT = datetime(2026, 5, 1, tzinfo=UTC)

Members = dict[str, tuple[set[str], set[str]]]
"""Audience → who enters, who leaves."""


@dataclass(frozen=True)
class Shop:
    """A checkout with generated events, after one run."""

    checkout: Checkout
    generated: Path
    url: str = "http://127.0.0.1:9/"

    @property
    def path(self) -> Path:
        return self.checkout.path

    @property
    def project(self) -> Project:
        return Project(self.path, Home(self.path / "data"))

    @property
    def home(self) -> Home:
        return self.project.home

    def audience(self, name: str) -> Path:
        return self.path / "models" / "audiences" / f"aud_{name}.sql"

    def replace(self, file: Path | str, old: str, new: str) -> None:
        path = self.path / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def diff(self, at: datetime, base: str | None = None) -> Diff:
        return diff(self.project, at=at, base=base)

    def run(self, at: datetime, *, push: bool = True) -> dict[tuple[str, str], object]:
        """Run; return (added, removed, resent) by changed sync."""
        with running(Models(self.project), at=at) as run:
            run.land()
            run.build()
            destinations = self.project.destinations() if push else {}
            syncs = read_syncs(self.home)
            pushes = deliver_changes(self.home, destinations, syncs, at=at)
        return {
            (push.sync.destination, push.sync.audience): counts
            for push in pushes
            if any(counts := (push.added, push.removed, push.resent))
        }

    def land(self, number: int) -> None:
        file = self.generated / f"slice-{number}.ndjson"
        import_units(self.home, self.path, units([file]), "shop", workers=1)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.home.warehouse), read_only=True) as warehouse:
            return warehouse.sql(query).fetchall()

    def last_run(self) -> int:
        query = "select max(run_number) from audiences.int_membership_changes"
        return int(str(self.rows(query)[0][0]))

    def changed(self, since: int) -> Members:
        """Return the current ids that entered and left in runs after that number."""
        found: Members = defaultdict(lambda: (set(), set()))
        for audience, change, profile_id in self.rows(
            "select audience, change, coalesce(a.profile_id, c.profile_id) "
            "from audiences.int_membership_changes c left join "
            "identity.profile_aliases a on c.profile_id = a.old_profile_id "
            f"where run_number > {since}"
        ):
            found[str(audience)][change == "leave"].add(str(profile_id))
        return dict(found)

    def members(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for audience, profile_id in self.rows(
            "select audience, profile_id from audiences.audience_members "
            "where left_at is null"
        ):
            found[str(audience)].add(str(profile_id))
        return found

    def addresses(self) -> set[str]:
        query = (
            "select identifier_value from identity.identity_nodes "
            "where identifier_type in ('email', 'phone', 'user_id')"
        )
        return {str(value) for (value,) in self.rows(query)}

    def fingerprint(self) -> dict[str, str]:
        """Return hashes of the home's files, except locks."""
        return {
            str(path.relative_to(self.home.path)): sha256(path.read_bytes()).hexdigest()
            for path in self.home.path.rglob("*")
            if path.is_file() and not path.name.endswith(".lock")
        }

    def command(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [str(self.checkout.bin / "loomline"), *arguments],
            cwd=self.path,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    def environment(self) -> dict[str, str]:
        return self.checkout.env() | {
            "CRM_WEBHOOK_SECRET": SECRET,
            "CRM_WEBHOOK_URL": self.url,
        }


def announced(found: Diff) -> Members:
    return {
        one.audience: ({*one.entering}, {*one.leaving})
        for one in found.audiences
        if one.entering or one.leaving
    }


def announced_pushes(found: Diff) -> dict[tuple[str, str], object]:
    return {
        (sync.destination, sync.audience): counts
        for sync in found.syncs
        if any(counts := (sync.after.add, sync.after.remove, sync.after.resend))
    }


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run and push the events of two months without the last day."""
    folder = tmp_path_factory.mktemp("diff")
    generate(folder / "generated", events=3000, seed=7, compress=False)
    with Sandbox(folder / "box", SECRET) as box:
        shop = Shop(clone(folder / "loomline"), folder / "generated", box.url + "/")
        # Tests of the data change no table, and take as long as the models.
        with (shop.path / "dbt_project.yml").open("a") as settings:
            settings.write("\ndata_tests:\n  +enabled: false\n")
        prepare(shop.home)
        shop.land(1)
        with working_in(shop):
            shop.run(AT)
        yield shop


@pytest.fixture
def shop(first_run: Shop, tmp_path: Path) -> Iterator[Shop]:
    """A copy of it for each test, which this process uses as its project."""
    path = tmp_path / "loomline"
    shutil.copytree(first_run.path, path, symlinks=True)
    shop = Shop(Checkout(path), first_run.generated, first_run.url)
    with working_in(shop):
        yield shop


@contextmanager
def working_in(shop: Shop) -> Iterator[None]:
    """Set the environment variables that `loomline` sets in its process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "LOOMLINE_HOME": str(shop.home.path),
            "DBT_TARGET_PATH": str(shop.path / "target"),
            "DBT_LOG_PATH": str(shop.path / "logs"),
            "CRM_WEBHOOK_SECRET": SECRET,
            "CRM_WEBHOOK_URL": shop.url,
        }.items():
            patch.setenv(name, value)
        yield


def narrower_window(shop: Shop) -> None:
    shop.replace(shop.audience("cart_abandoners"), "days=3", "days=2")


def another_condition(shop: Shop) -> None:
    shop.replace(shop.audience("pricing_viewers"), "at_least=2", "at_least=1")


def new_audience(shop: Shop) -> None:
    shop.audience("readers").write_text(
        "{{ audience(all_of=[event_count('page')]) }}\n"
    )
    shop.audience("readers").with_suffix(".yml").write_text(
        "models:\n  - name: aud_readers\n    config:\n"
        "      meta: {sync_to: [warehouse_drop]}\n"
    )


def removed_audience(shop: Shop) -> None:
    shop.audience("enterprise_accounts").unlink()
    shop.audience("enterprise_accounts").with_suffix(".yml").unlink()


def other_destination(shop: Shop) -> None:
    file = shop.audience("churn_risk").with_suffix(".yml")
    shop.replace(file, "[crm_webhook]", "[warehouse_drop]")


def blocked_identifier(shop: Shop) -> None:
    ((value,),) = shop.rows(
        "select min(nodes.identifier_value) from identity.identity_nodes as nodes "
        "inner join audiences.audience_members as members using (profile_id) "
        "where nodes.identifier_type = 'user_id' and members.left_at is null"
    )
    file = shop.path / "seeds" / "blocked_identifiers.csv"
    file.write_text(f"{file.read_text()}user_id,{value},exact\n")


def identifier_limit(shop: Shop) -> None:
    file = "seeds/identifier_types.csv"
    shop.replace(file, "user_id,trim,3,,", "user_id,trim,1,,")


def changed_macro(shop: Shop) -> None:
    old = "events.timestamp >= {{ days_before(run_instant(), within_days) }}"
    file = shop.path / "macros" / "audience" / "conditions.sql"
    text = file.read_text()
    new = old.replace("within_days", "within_days * 2")
    file.write_text(text.replace(old, new, 1))


def trait_logic(shop: Shop) -> None:
    file = "models/profiles/profile_traits.sql"
    shop.replace(file, "order by timestamp, ", "order by timestamp desc, ")


def raw_sql(shop: Shop) -> None:
    shop.audience("trial_not_activated").write_text(
        "select distinct profile_id from {{ ref('profile_events') }}\n"
        "where event = 'trial_started'\n"
    )


def comment_only(shop: Shop) -> None:
    file = shop.audience("high_value_customers")
    file.write_text(f"-- Said in other words.\n{file.read_text()}")
    yml = shop.audience("churn_risk").with_suffix(".yml")
    shop.replace(yml, "One row per paying", "One row per still paying")


EDITS: dict[Callable[[Shop], None], set[str]] = {
    narrower_window: {"aud_cart_abandoners"},
    another_condition: {"aud_pricing_viewers"},
    new_audience: {"aud_readers"},
    removed_audience: {"aud_enterprise_accounts"},
    other_destination: {"aud_churn_risk"},
    blocked_identifier: {"every"},
    identifier_limit: {"every"},
    changed_macro: {"every"},
    trait_logic: {"every"},
    raw_sql: {"aud_trial_not_activated"},
    comment_only: {"aud_high_value_customers"},
}
"""What is edited, and the audiences that are told as edited for it."""


@pytest.mark.slow
def test_a_run_does_what_the_diff_has_announced(shop: Shop) -> None:
    at = AT
    people_moved = 0
    for edit, touched in EDITS.items():
        edit(shop)
        if edit is another_condition:
            shop.land(2)  # people become one, and memberships with them
        at += timedelta(hours=0 if edit is comment_only else 3)
        found = shop.diff(at)
        last = shop.last_run()
        pushed = shop.run(at)

        name = edit.__name__
        assert announced(found) == shop.changed(last), name
        assert announced_pushes(found) == pushed, name
        now = shop.members()
        for one in found.audiences:
            assert one.members_after == len(now[one.audience]), name
        told = {one.audience for one in found.audiences if one.status != "unedited"}
        if touched == {"every"}:
            assert len(told) >= 4, name
        else:
            assert told == touched, name
        of_identity = edit in (blocked_identifier, identifier_limit)
        assert found.rebuilds_all == of_identity, name
        if touched != {"every"} and edit not in (other_destination, comment_only):
            (audience,) = touched
            assert audience in announced(found), name
        people_moved += sum(len(a | b) for a, b in announced(found).values())
    assert people_moved > 100
    assert (announced(found), found.syncs) == ({}, ())


def git(shop: Shop, *arguments: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    done = subprocess.run(
        ["git", *who, *arguments],
        cwd=shop.path,
        env=shop.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_against_a_commit_only_the_edit_is_told(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    narrower_window(shop)  # committed and not run yet
    git(shop, "init", "-q", "-b", "main")
    git(shop, "add", "-A")
    git(shop, "commit", "-q", "-m", "cart abandoners: two days")
    another_condition(shop)
    blocked_identifier(shop)
    shop.land(2)
    at = AT + timedelta(days=1)
    before = shop.fingerprint()
    found = shop.diff(at, base="main")
    assert shop.fingerprint() == before
    assert found.base == git(shop, "rev-parse", "HEAD")
    assert found.models is not None
    assert set(found.models.modified) == {"aud_pricing_viewers", "blocked_identifiers"}
    assert "aud_pricing_viewers" in announced(found)
    assert found.rebuilds_all
    print_diff(found)
    table = capsys.readouterr().out
    assert "aud_pricing_viewers" in table and "against commit" in table
    assert "Unedited audiences" not in table and "rebuilds all models" in table

    git(shop, "stash", "-q")
    shop.run(at, push=False)
    last = shop.last_run()
    git(shop, "stash", "pop", "-q")
    shop.run(at, push=False)
    assert announced(found) == shop.changed(last)


def test_what_cannot_be_compared_with_is_told(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="needs a git checkout"):
        shop.diff(AT, base="main")
    git(shop, "init", "-q", "-b", "main")
    (shop.path / "other").mkdir()
    (shop.path / "other" / "note").touch()
    git(shop, "add", "other")
    git(shop, "commit", "-q", "-m", "no project")
    for unknown in ("origin/main", "--all", ""):
        with pytest.raises(ConfigError, match="git does not know the revision"):
            shop.diff(AT, base=unknown)
    with pytest.raises(ConfigError, match="has no Loomline project"):
        shop.diff(AT, base="main")
    with pytest.raises(ConfigError, match="before the last evaluation"):
        shop.diff(AT - timedelta(days=1))
    shutil.rmtree(shop.home.path)
    with pytest.raises(ConfigError, match="Run `loomline run` first"):
        shop.diff(AT)
    assert not shop.home.path.exists()


def test_outputs_name_no_person_and_production_stays_as_it_is(shop: Shop) -> None:
    new_audience(shop)
    waiting = shop.home.inbox / "web" / "later.ndjson"
    waiting.parent.mkdir()
    waiting.write_text("{}\n")
    limits = shop.path / "orchestration/defs/destinations/warehouse_drop/defs.yaml"
    limits.write_text(limits.read_text() + "  limits: {max_change_rows: 1}\n")
    addresses = shop.addresses()
    before = shop.fingerprint()
    file = shop.path / "comments" / "diff.md"
    arguments = ("diff", "--as-of", AT.isoformat(), "--markdown", str(file), "--json")
    out, told = shop.command(*arguments)
    assert shop.fingerprint() == before
    assert not [*shop.home.path.glob(".diff-*")]

    summary = json.loads(out)
    (audience,) = summary["audiences"]
    assert (audience["audience"], audience["status"]) == ("aud_readers", "new")
    assert audience["members_after"] == audience["entering"] > 5
    assert len(audience["entering_sample"]) == 5
    for person in audience["entering_sample"]:
        assert re.fullmatch(r"[0-9a-f]{32}", person["profile_id"])
        assert re.fullmatch(r".?…@.…|.{0,2}…", person["identifier"])
    (sync,) = summary["syncs"]
    assert (sync["destination"], sync["status"]) == ("warehouse_drop", "new")
    assert "max_change_rows is 1" in sync["held_back"]
    assert summary["models"]["added"] == ["aud_readers"]
    assert summary["waiting_files"] == 1

    markdown = file.read_text()
    assert f"| aud_readers | new | 0 | +{audience['entering']}" in markdown
    assert "would be blocked" in markdown and "wait in the inbox" in markdown
    for text in (out, told, markdown):
        assert not re.search(r"[\w.]@\w", text)
        words = {*re.split(r"[\s|\"]+", text)}
        assert not {address for address in addresses if address in words}

    _, told = shop.command("diff", "--json", "--markdown", "-", code=2)
    assert "standard output" in told


@pytest.mark.parametrize(
    ("identifier_type", "value", "shown"),
    [
        ("email", "ann.lee@example.com", "a…@e…"),
        ("user_id", "u-10427", "u-…"),
        ("user_id", "ann@example.com", "an…"),
        ("user_id", "7", "…"),
        ("phone", "+331990011", "+3…"),
        ("email", "norman", "no…"),
    ],
)
def test_masking_leaves_little(identifier_type: str, value: str, shown: str) -> None:
    assert masked(identifier_type, value) == shown


def test_models_that_fail_are_told_without_what_is_in_the_rows(shop: Shop) -> None:
    shop.audience("cart_abandoners").write_text(
        "select profile_id from {{ ref('profiles') }} where email::int = 1\n"
    )
    before = shop.fingerprint()
    out, told = shop.command("diff", "--as-of", AT.isoformat(), code=1)
    assert out == ""
    assert "models/audiences/aud_cart_abandoners.sql, line 1: " in told
    assert "Conversion Error" in told
    assert "Traceback" not in told and "@" not in told.replace("…@…", "")
    assert shop.fingerprint() == before
    assert not [*shop.home.path.glob(".diff-*")]


def test_a_killed_diff_leaves_production_and_the_next_one_clears_up(shop: Shop) -> None:
    before = shop.fingerprint()
    killed = subprocess.Popen(
        [str(shop.checkout.bin / "loomline"), "diff", "--as-of", AT.isoformat()],
        cwd=shop.path,
        env=shop.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert killed.stderr is not None
    assert "on a copy" in killed.stderr.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (left,) = shop.home.path.glob(".diff-*")
    assert left.stat().st_mode & 0o077 == 0
    with copied(shop.home) as one, copied(shop.home) as other:
        assert not left.exists()
        assert one.path.exists() and one.path != other.path
    assert not [*shop.home.path.glob(".diff-*")]
    assert shop.fingerprint() == before


def test_a_copy_waits_for_a_run_and_is_of_one_moment(shop: Shop) -> None:
    said: list[str] = []
    has_ended = threading.Event()

    def say(message: str) -> None:
        said.append(message)
        has_ended.set()

    def run() -> None:
        with exclusive(shop.home.run_lock):
            started.set()
            assert has_ended.wait(30)

    started = threading.Event()
    running = threading.Thread(target=run)
    running.start()
    started.wait()
    with copied(shop.home, say=say) as copy:
        assert "Waiting for another run to end: process" in said[0]
        with exclusive(shop.home.run_lock, on_wait=pytest.fail):
            pass  # free again while models are built
        newest = Manifest(shop.home).newest()
        shop.land(2)
        assert Manifest(shop.home).newest() > newest
        assert Manifest(copy).newest() == newest
        assert built_from(copy).read_bytes() == built_from(shop.home).read_bytes()
    running.join()


def test_a_copy_waits_for_who_writes_and_has_what_a_killed_one_left(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    prepare(home)
    write = (
        "import duckdb, sys, time, os\n"
        "held = duckdb.connect(sys.argv[1])\n"
        "held.execute('create table t as select 42 as n')\n"
        "print('held', flush=True); time.sleep(2); os._exit(1)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", write, str(home.warehouse)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    said: list[str] = []
    with copied(home, say=said.append) as copy:
        assert f"(PID {holder.pid}) to close" in said[0]
        with duckdb.connect(str(copy.warehouse)) as warehouse:
            assert warehouse.sql("from t").fetchall() == [(42,)]
    assert home.warehouse.with_name("warehouse.duckdb.wal").exists()
    holder.communicate()

"""Landing and compaction lose and repeat nothing if stopped at any step."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.ingest.inbox import land_inbox
from connectors.landing.compaction import READER_GRACE_S, compact, sweep
from connectors.landing.manifest import LoadedFile, Manifest
from connectors.landing.prepare import prepare
from connectors.locks import exclusive
from connectors.sources.files import units
from tests.support.crashes import Rows, assert_balanced, assert_whole, raw, stopped
from tests.support.warehouses import MakeWarehouse

DAYS_AGO = (time.time() // 86_400 - 5) * 86_400


def calls(name: str, *, is_plain: bool = False, count: int = 5) -> str:
    """Return a file's lines; unless plain, with consent and a broken line."""
    made: list[dict[str, Any]] = [
        {
            "messageId": f"{name}-{number}",
            "type": "identify",
            "userId": f"u{number}",
            "receivedAt": f"2026-05-01T10:00:0{number}Z",
        }
        for number in range(count)
    ]
    # It gets its arrival time from the import: written twice, it is two rows.
    del made[1]["receivedAt"]
    if is_plain:
        return "".join(f"{json.dumps(call)}\n" for call in made)
    made[0]["context"] = {"consent": {"categoryPreferences": {"analytics": False}}}
    return "".join(f"{json.dumps(call)}\n" for call in made) + '{"broken"\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A prepared home, with two files to import."""
    home = Home(tmp_path / "home")
    prepare(home)
    give(home.path / "given", "a", "b")
    return home


def give(folder: Path, *names: str, is_plain: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.ndjson").write_text(calls(name, is_plain=is_plain))


def land_given(home: Home, project: Path) -> None:
    import_units(home, project, units([home.path / "given"]), "app", workers=1)


def shown(home: Home) -> Rows:
    """Return the raw rows without the order of loads."""
    return {
        stream: sorted((row[:-1] for row in rows), key=repr)
        for stream, rows in raw(home).items()
    }


def test_an_import_killed_at_any_step_is_finished_by_the_next(
    home: Home, project_path: Path, make_warehouse: MakeWarehouse
) -> None:
    homes = stopped(home, project_path, "import")
    expected = shown(homes[-1])
    assert len(expected["events"]) == 10
    assert len(expected["dispositions"]) == 12
    for killed in homes:
        assert_whole(killed)
        assert_balanced(killed)
        land_given(killed, project_path)
        assert_whole(killed)
        assert_balanced(killed)
        assert shown(killed) == expected, killed.path.name

    # What the models make of one that was killed with half of the files in place.
    warehouse = make_warehouse()
    warehouse.land(calls("a").splitlines(), "app")
    os.rename(homes[len(homes) // 2].raw, warehouse.home.path / "killed")
    os.rename(warehouse.home.raw, warehouse.home.path / "before")
    os.rename(warehouse.home.path / "killed", warehouse.home.raw)
    warehouse.build(select="+stg_events +stg_dispositions")
    found = warehouse.rows("select message_id from staging.events order by all")
    assert found == [(f"{name}-{n}",) for name in "ab" for n in range(5)]
    assert warehouse.count("staging.dispositions") == 12


def test_the_inbox_loses_a_file_only_when_it_has_landed(
    home: Home, project_path: Path
) -> None:
    give(home.inbox / "app", "a", "b", is_plain=True)
    (home.inbox / "app" / "c.ndjson.part").write_text(calls("c"))
    homes = stopped(home, project_path, "inbox")
    expected = shown(homes[-1])
    assert len(expected["events"]) == 10
    kept = 0
    for killed in homes:
        assert_whole(killed)
        landed = {row[0].partition("-")[0] for row in raw(killed)["events"]}
        waiting = {path.stem for path in (killed.inbox / "app").glob("*.ndjson")}
        assert landed | waiting == {"a", "b"}, killed.path.name
        kept += bool(waiting)
        land_inbox(killed, project_path)
        assert_whole(killed)
        assert shown(killed) == expected, killed.path.name
        left = {path.name for path in (killed.inbox / "app").iterdir()}
        assert left == {"c.ndjson.part"}
    assert kept > 3


def test_two_imports_of_the_same_files_land_them_once(
    home: Home, project_path: Path
) -> None:
    (home.path / "given" / "b.ndjson").unlink()
    give(home.path / "given", "a", is_plain=True)
    homes = stopped(home, project_path, "import", "import")
    expected = shown(homes[-1])
    assert len(expected["events"]) == 5
    for paused in homes:
        assert_whole(paused)
        assert shown(paused) == expected, paused.path.name


def test_an_import_beside_another_one_of_other_files(
    home: Home, project_path: Path
) -> None:
    """Parallel imports: each load lands once and has its own number."""
    code = (
        "import sys; from pathlib import Path\n"
        "from connectors.home import Home\n"
        "from connectors.ingest.importing import import_units\n"
        "from connectors.sources.files import units\n"
        "home, project, *files = sys.argv[1:]\n"
        "for file in files:\n"
        "    import_units(Home(Path(home)), Path(project), units([file]), 'app',"
        " workers=1)\n"
    )
    names = [f"f{number:02}" for number in range(24)]
    give(home.path / "many", *names)
    files = [str(home.path / "many" / f"{name}.ndjson") for name in names]
    # Two share no file, the third has all of them.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home.path), str(project_path), *part],
            cwd=project_path,
        )
        for part in (files[::2], files[1::2], files[::-1])
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert_whole(home)
    assert_balanced(home)
    entries = Manifest(home).files()
    loads = {file.names[0]: file.load_seq for file in entries}
    assert sorted(loads.values()) == list(range(1, 25))
    messages = [row[0] for row in raw(home)["events"]]
    assert sorted(messages) == sorted(f"{name}-{n}" for name in names for n in range(5))


def test_importing_the_same_thing_twice_is_one_entry(
    home: Home, project_path: Path
) -> None:
    land_given(home, project_path)
    before = home.loads.read_bytes()
    again = import_units(
        home, project_path, units([home.path / "given"]), "app", workers=1
    )
    assert (again.received, again.files, again.files_known) == (0, 0, 2)
    assert home.loads.read_bytes() == before
    # The same bytes under another name are the same thing; of another source, another.
    (home.path / "given" / "a.ndjson").rename(home.path / "given" / "z.ndjson")
    land_given(home, project_path)
    assert home.loads.read_bytes() == before
    import_units(home, project_path, units([home.path / "given"]), "web", workers=1)
    assert len(raw(home)["events"]) == 20


def test_preparing_a_home_never_empties_it(home: Home, project_path: Path) -> None:
    """Another process can land between the check for a manifest and its creation."""
    home.loads.unlink()
    for paused in stopped(home, project_path, "prepare", "prepare"):
        assert Manifest(paused).files() == []
    code = (
        "import sys; from pathlib import Path\n"
        "from connectors.home import Home\n"
        "from connectors.landing.prepare import prepare\n"
        "prepare(Home(Path(sys.argv[1])))\n"
    )
    with exclusive(home.loads.with_suffix(".lock")):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(home.path)], cwd=project_path
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)  # for the process that writes the manifest
        home.loads.write_bytes(b"")
    assert process.wait(timeout=30) == 0


# Compaction


# Seconds into a day that is over.
TWO = (36_000, 54_000)
MANY = (36_000, 36_001, 54_000, 54_061, 55_000, 57_601, 86_400, 86_401, 200_000)


def land_many(home: Home, project: Path, offsets_s: tuple[int, ...]) -> None:
    """Land one load at each time of past days."""
    names = [f"m{number:02}" for number in range(len(offsets_s))]
    give(home.path / "many", *names, is_plain=True)
    for name in names:
        file = home.path / "many" / f"{name}.ndjson"
        import_units(home, project, units([file]), "app", workers=1)
    with Manifest(home).rewriting() as (files, write):
        dated: list[LoadedFile] = []
        for entry in files:
            landed_at = DAYS_AGO + offsets_s[entry.load_seq - 1]
            os.utime(home.raw / entry.path, (landed_at, landed_at))
            dated.append(msgspec.structs.replace(entry, landed_at=landed_at))
        write(dated)


def test_compaction_killed_at_any_step_is_finished_by_the_next(
    home: Home, project_path: Path
) -> None:
    land_many(home, project_path, TWO)
    before = raw(home)
    homes = stopped(home, project_path, "compact and sweep")
    count_files = len(Manifest(homes[-1]).files())
    assert count_files < len(Manifest(home).files())
    for killed in homes:
        assert_whole(killed)
        assert raw(killed) == before, killed.path.name
        compact(killed)
        assert_whole(killed)
        assert raw(killed) == before, killed.path.name
        assert len(Manifest(killed).files()) == count_files
    # Landed is landed, under whatever file.
    import_units(homes[-1], project_path, units([home.path / "many"]), "app", workers=1)
    assert raw(homes[-1]) == before


def test_compaction_goes_tier_by_tier_and_only_once(
    home: Home, project_path: Path
) -> None:
    land_many(home, project_path, MANY)
    before = raw(home)
    tiers: list[str] = []
    for passed_s in (36_030, 36_060, 57_600, 86_400, 86_460, 300_000):
        now = DAYS_AGO + passed_s
        compact(home, clock=partial(float, now))
        assert raw(home) == before
        assert_whole(home)
        named = home.loads.read_bytes()
        assert compact(home, clock=partial(float, now)) == 0
        assert home.loads.read_bytes() == named
        files = [file for file in Manifest(home).files() if file.stream == "events"]
        tiers.append("".join(sorted(file.tier[0] for file in files)))
    assert tiers == ["lllllllll", "lllllllm", "hllllm", "dlll", "dlm", "dlm"]


def test_replaced_files_stay_for_their_readers(home: Home, project_path: Path) -> None:
    land_many(home, project_path, TWO)
    replaced = {home.raw / file.path for file in Manifest(home).files()}
    start = time.time()
    # Written long ago: no new reader finds them since they were replaced.
    assert compact(home, clock=lambda: start) > 0
    named = {home.raw / file.path for file in Manifest(home).files()}
    assert all(path.is_file() for path in replaced)
    for later_s in (0, READER_GRACE_S - 1):
        sweep(home, clock=partial(float, start + later_s))
        assert all(path.is_file() for path in replaced)
    assert sweep(home, clock=lambda: start + READER_GRACE_S + 1) > 0
    assert {path for path in replaced if path.is_file()} == replaced & named
    assert set(home.raw.glob("*/*/*")) == named


def test_sweeping_does_not_mind_files_that_come_and_go(
    home: Home, project_path: Path
) -> None:
    """A parallel import renames its files between two listings of the folder."""
    land_many(home, project_path, TWO)
    folder = next(path.parent for path in home.raw.glob("*/*/*.parquet"))
    # Listed but missing, like a file that was renamed after the listing.
    (folder / ".renamed.part").symlink_to(folder / "gone")
    before = raw(home)
    assert sweep(home) == 0
    assert raw(home) == before


@pytest.mark.parametrize("actions", [("compact", "import"), ("import", "compact")])
def test_an_import_beside_a_compaction(
    home: Home, project_path: Path, actions: tuple[str, str]
) -> None:
    land_many(home, project_path, TWO)
    (home.path / "given" / "b.ndjson").unlink()
    before = raw(home)["events"]
    *beside, _ = stopped(home, project_path, *actions)  # the last was not paused
    for paused in beside:
        assert_whole(paused)
        found = raw(paused)["events"]
        assert [row for row in found if row in before] == before, paused.path.name
        assert len(found) == len(before) + 5, paused.path.name

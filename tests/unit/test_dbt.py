"""Unit tests of the models, balances of tests/data, and conditions of audiences."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec.json import encode

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.landing.prepare import prepare
from connectors.sources.files import units
from orchestration.demo.generator import AS_OF, generate
from orchestration.pipeline.dbt_runner import Models, ModelsFailed
from orchestration.pipeline.delivery import deliver_changes, read_syncs
from orchestration.project import Project

BALANCES = Path(__file__).parents[1] / "data"


@contextmanager
def home_of(models: Models) -> Iterator[None]:
    """What `loomline` sees to before it runs models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOMLINE_HOME", str(models.project.home.path))
        yield


def run(models: Models, command: str, **options: Any) -> list[Any]:
    with home_of(models):
        return models.run(command, **options)


def copy_of(models: Models, folder: Path) -> Models:
    """The same models on a copy of the warehouse."""
    shutil.copy(models.project.home.warehouse, folder / "warehouse.duckdb")
    return replace(models, project=Project(models.project.path, Home(folder)))


def test_the_warehouse_keeps_to_the_limit_of_memory(
    empty: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOMLINE_MEMORY_LIMIT", "1MB")
    with pytest.raises(ModelsFailed, match="Out of Memory"):
        run(empty, "run", at=AS_OF[0], select="int_nodes")


# ── Unit tests beside the models ────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def empty(project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Every model, without a single event."""
    folder = tmp_path_factory.mktemp("empty")
    prepare(Home(folder))
    models = Models(Project(project_path, Home(folder)))
    run(models, "seed", at=AS_OF[0])
    run(models, "run", at=AS_OF[0])
    return models


def test_the_unit_tests_of_the_models(empty: Models) -> None:
    results = run(empty, "test", at=AS_OF[0], select="test_type:unit")
    assert {result.status for result in results} == {"pass"}


def test_balances_hold_before_anything_has_arrived(empty: Models) -> None:
    run(empty, "test", at=AS_OF[0], select="test_type:data")


def test_every_model_and_seed_is_described(project_path: Path) -> None:
    described = [
        *project_path.glob("models/**/*.sql"),
        *project_path.glob("seeds/*.csv"),
    ]
    missing = [path.name for path in described if not path.with_suffix(".yml").exists()]
    assert not missing
    for path in described:
        text = path.with_suffix(".yml").read_text()
        found = re.search(r"description:\s+(?:>\s+)?(\S+ \S+ \S+)", text)
        assert found and found[1] == "One row per", path


# ── Balances: each holds on what was built, and fails on what is broken ────────────


@pytest.fixture(scope="session")
def built(project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Two runs over 300 events, the first one pushed to a file destination."""
    folder = tmp_path_factory.mktemp("built")
    home = Home(folder)
    prepare(home)
    generate(folder / "generated", events=300, seed=7, as_of=AS_OF)
    models = Models(Project(project_path, Home(folder)))
    for number, at in enumerate(AS_OF, 1):
        (file,) = (folder / "generated").glob(f"slice-{number}.*")
        import_units(home, project_path, units([file]), "shop", workers=1)
        results = run(models, "build", at=at)
        assert "unit_test" not in {result.node.resource_type for result in results}
        if number == 1:
            destinations = {
                name: settings
                for name, settings in models.project.destinations().items()
                if settings.kind == "file"
            }
            with home_of(models):
                deliver_changes(home, destinations, read_syncs(home), at=at)
                models.update_confirmed(at=at)
    return models


BREAKS = {
    "event_tables_hold_the_accepted_events": (
        "delete from events.product_viewed",
        "insert into events.product_viewed from events.product_viewed",
    ),
    "received_items_have_dispositions": (
        "delete from raw.dispositions where {one}",
        "update raw.received_counts set items = items + 1 where {one}",
        "delete from raw.received_counts",
    ),
    "admitted_items_are_accepted_or_repeat": (
        "delete from staging.int_dispositions where disposition = 'duplicate'",
        "delete from raw.dispositions where {one}",
    ),
    "admitted_items_are_raw_events": (
        "delete from raw.events where {one}",
        "insert into raw.events from raw.events limit 1",
    ),
    "accepted_items_are_events": (
        "delete from staging.int_events where {one}",
        "update staging.int_dispositions set disposition = 'duplicate' where {one}",
    ),
    "events_are_counted_once": (
        "delete from profiles.profile_events where {one}",
        "insert into profiles.profile_events from profiles.profile_events limit 1",
        "update profiles.profile_events set message_id = 'unknown' where {one}",
    ),
    "nodes_belong_to_one_profile": (
        "delete from profiles.profiles where {one}",
        "update profiles.profiles set profile_id = 'missing' where {one}",
        """insert into identity.int_nodes select * replace (
            (select max(profile_id) from profiles.profiles) as profile_id
        ) from identity.int_nodes limit 1""",
    ),
    "profiles_keep_to_their_limits": (
        """update identity.int_nodes
        set profile_id = (select min(profile_id) from identity.int_nodes)
        where identifier_type = 'user_id'""",
    ),
    "aliases_lead_to_a_profile": (
        """insert into identity.profile_aliases
        select min(profile_id), max(profile_id), now(), 'merge'
        from profiles.profiles""",
        "insert into identity.profile_aliases values ('a', 'nowhere', now(), 'merge')",
        """insert into identity.profile_aliases
        select unnest(['a', 'b']), unnest(['b', min(profile_id)]), now(), 'merge'
        from profiles.profiles""",
    ),
    "hubs_link_no_profiles": (
        "delete from identity.int_nodes__conflicts where rule = 'hub'",
    ),
    "links_join_one_profile_or_are_refused": (
        "delete from identity.int_nodes__conflicts where rule = 'later_link'",
        """insert into identity.int_nodes__conflicts
        select * replace ('unknown' as left_value)
        from identity.int_nodes__conflicts limit 1""",
    ),
    "audiences_select_profiles_once": (
        "insert into audiences.aud_pricing_viewers from audiences.aud_pricing_viewers",
        "insert into audiences.aud_pricing_viewers values (null)",
        "insert into audiences.aud_pricing_viewers values ('missing')",
    ),
    "members_are_those_the_audiences_select": (
        "delete from audiences.aud_pricing_viewers",
        "insert into audiences.aud_pricing_viewers values ('newcomer')",
    ),
    "members_are_profiles": (
        """delete from profiles.profiles where profile_id in (
            select profile_id from audiences.audience_members where left_at is null
        )""",
    ),
    "members_enter_before_they_leave": (
        """insert into audiences.int_membership_changes
        select * replace (run_number + 10 as run_number)
        from audiences.int_membership_changes where change = 'leave'""",
        "delete from audiences.int_membership_changes where change = 'enter'",
    ),
    "members_before_and_after_a_run_balance": (
        "delete from audiences.audience_members where left_at is null",
        "update audiences.audience_members set left_at = null",
    ),
    "syncs_balance": (
        "update destinations.sync_runs set eligible = eligible + 1",
        "update destinations.sync_runs set pending = null",
        """update destinations.sync_runs
        set unchanged = unchanged - 1000, added = added + 1000""",
    ),
    "desired_and_delivered_differ_by_the_changes": (
        "delete from destinations.int_sync_changes where identifier_operation = 'add'",
        """delete from destinations.int_sync_changes
        where identifier_operation = 'remove'""",
        "delete from destinations.int_delivered",
    ),
    # one for all tests of its kind
    "int_nodes,test_name:unique_together": (
        "insert into identity.int_nodes from identity.int_nodes limit 1",
    ),
}


def break_warehouse(path: Path, statement: str) -> None:
    """Run a statement that changes rows; what was a view becomes a table first."""
    found = re.search(r"(?:update|into|delete from) (\w+)\.(\w+)", statement)
    assert found is not None
    schema, name = found.groups()
    with duckdb.connect(str(path)) as warehouse:
        if warehouse.execute(
            "from duckdb_views() where schema_name = ? and view_name = ?",
            [schema, name],
        ).fetchall():
            warehouse.execute(f"create table held as from {schema}.{name}")
            warehouse.execute(f"drop view {schema}.{name}")
            warehouse.execute(f"create table {schema}.{name} as from held")
        before = rows(warehouse, schema, name)
        one = f"rowid = (select min(rowid) from {schema}.{name})"
        warehouse.execute(statement.replace("{one}", one))
        assert rows(warehouse, schema, name) != before, "nothing was broken"


def rows(warehouse: duckdb.DuckDBPyConnection, schema: str, name: str) -> list[Any]:
    return warehouse.execute(f"from {schema}.{name} order by all").fetchall()


def test_every_balance_is_seen_to_fail() -> None:
    names = {path.stem for path in BALANCES.glob("*.sql")}
    assert names <= set(BREAKS)
    for path in BALANCES.glob("**/*.sql"):
        assert path.read_text().startswith("-- "), path


@pytest.mark.parametrize(
    ("test", "statement"),
    [(test, statement) for test, given in BREAKS.items() for statement in given],
)
def test_a_balance_fails_when_rows_are_broken(
    built: Models, tmp_path: Path, test: str, statement: str
) -> None:
    models = copy_of(built, tmp_path)
    break_warehouse(tmp_path / "warehouse.duckdb", statement)
    with pytest.raises(ModelsFailed, match=r"Got [0-9]+ result"):
        run(models, "test", at=AS_OF[1], select=test)


# ── Words of audiences ─────────────────────────────────────────────────────────────

NOW = datetime(2026, 5, 1, tzinfo=UTC)

# Thirty days before NOW is 2026-04-01 00:00.
PEOPLE = """
insert into profiles.profiles by name
select unnest([
    'at_start', 'before_start', 'last_moment', 'at_now', 'often', 'quiet',
    'in_acme', 'left_acme', 'leaves_now', 'joins_now', 'in_small', 'refused', 'agreed'
]) as profile_id, '{}' as traits;

insert into profiles.profiles (profile_id, traits) values
    ('free', '{"plan": "free", "seats": "3", "o''clock": "yes"}'),
    ('growth', '{"plan": "growth", "seats": 20, "vip": true, "o": {"a": 1}}'),
    ('Free', '{"plan": "Free", "seats": "many", "a.b": "dotted"}'),
    ('taken_back', '{"plan": null}'),
    ('of_system', '{"$plan": "free"}');

insert into profiles.profile_events (event, profile_id, timestamp, properties) values
    ('viewed', 'at_start', '2026-04-01 00:00:00', '{"total": 1}'),
    ('viewed', 'before_start', '2026-03-31 23:59:59.999999', null),
    ('viewed', 'last_moment', '2026-04-30 23:59:59.999999', null),
    ('viewed', 'at_now', '2026-05-01 00:00:00', null),
    ('viewed', 'often', '2026-04-10', '{"total": 100, "kind": "Book", "a/b": "x"}'),
    ('viewed', 'often', '2026-04-11', '{"total": "99.5", "kind": "book"}'),
    ('viewed', 'often', '2026-03-01', '{"total": 150, "gift": true, "kind": null}');

insert into profiles.groups (group_type, group_id, traits) values
    ('company', 'acme', '{"plan": "enterprise", "seats": 50}'),
    ('team', 'acme', '{"plan": "free"}');

insert into profiles.group_members
    (group_type, group_id, profile_id, valid_from, valid_to)
values
    ('company', 'acme', 'in_acme', '2026-04-01', null),
    ('company', 'acme', 'left_acme', '2026-04-01', '2026-04-20'),
    ('company', 'acme', 'leaves_now', '2026-04-01', '2026-05-01'),
    ('company', 'acme', 'joins_now', '2026-05-01', null),
    ('team', 'acme', 'in_small', '2026-04-01', null);

insert into profiles.consent (profile_id, category, granted) values
    ('refused', 'advertising', false),
    ('agreed', 'advertising', true);
"""

WINDOW = "at_start last_moment often"
EVER = f"{WINDOW} before_start"
IN_ACME = "in_acme leaves_now"

# Condition → who meets it; with `not` in front, everyone but these.
WORDS = {
    # windows are half-open and end before now
    "event_count('viewed', within_days=30)": WINDOW,
    "event_count('viewed')": EVER,
    "active(within_days=30)": WINDOW,
    "event_count('other')": "",
    # counts are inclusive
    "event_count('viewed', at_least=3)": "often",
    "event_count('viewed', at_least=4)": "",
    "event_count('viewed', at_least=2, at_most=2, within_days=30)": "often",
    "event_count('viewed', at_most=1)": "at_start before_start last_moment",
    # properties: numbers as numbers, also where they were sent as text; texts exactly
    "event_count('viewed', where={'total': 100})": "often",
    "event_count('viewed', where={'total': '100'})": "often",
    "event_count('viewed', at_least=2, where={'total': {'at_least': 100}})": "often",
    "event_count('viewed', at_least=3, where={'total': {'at_least': 100}})": "",
    "event_count('viewed', at_least=3, where={'total': {'more_than': 99}})": "often",
    "event_count('viewed', where={'total': {'less_than': 99.5}})": "at_start",
    "event_count('viewed', where={'total': {'at_most': 1}})": "at_start",
    "event_count('viewed', where={'kind': 'Book'})": "often",
    "event_count('viewed', where={'kind': 'BOOK'})": "",
    "event_count('viewed', 2, where={'kind': {'one_of': ['Book', 'book']}})": "often",
    "event_count('viewed', where={'kind': {'not_equals': 'Book'}})": "often",
    "event_count('viewed', at_least=2, where={'kind': {'contains': 'ook'}})": "often",
    "event_count('viewed', at_least=2, where={'kind': {'exists': true}})": "often",
    "event_count('viewed', at_least=3, where={'kind': {'exists': true}})": "",
    "event_count('viewed', where={'gift': true})": "often",
    "event_count('viewed', where={'gift': false})": "",
    "event_count('viewed', where={'a/b': 'x'})": "often",
    "event_count('viewed', where={'kind': 'Book', 'total': {'more_than': 100}})": "",
    "event_count('viewed', where={'total': {'more_than': 1, 'at_most': 99}})": "",
    # what a profile did not do
    "did_not('viewed', within_days=30)": f"not {WINDOW}",
    "did_not('viewed')": f"not {EVER}",
    "did_not('viewed', where={'kind': 'Book'})": "not often",
    # traits
    "trait('plan', equals='free')": "free of_system",
    "trait('$plan', equals='free')": "of_system",
    "trait('plan', not_equals='free')": "growth Free",
    "trait('plan', one_of=['free', 'growth'])": "free growth of_system",
    "trait('plan', exists=true)": "free growth Free of_system",
    "trait('plan', exists=false)": "not free growth Free of_system",
    "trait('plan', contains='ree')": "free Free of_system",
    "trait('seats', at_least=3)": "free growth",
    "trait('seats', more_than=3)": "growth",
    "trait('seats', at_most=3)": "free",
    "trait('seats', less_than=3)": "",
    "trait('seats', equals=20)": "growth",
    "trait('seats', one_of=[3, 20])": "free growth",
    "trait('seats', one_of=[20.0, 'many'])": "growth Free",
    "trait('seats', one_of=[])": "",
    "trait('seats', equals='20')": "growth",
    "trait('vip', equals=true)": "growth",
    "trait('vip', one_of=[true])": "growth",
    "trait('o', exists=true)": "growth",
    "trait('a.b', equals='dotted')": "Free",
    'trait("o\'clock", equals="yes")': "free",
    "trait('plan', equals=\"' or true --\")": "",
    # groups, as they are now
    "in_group('company')": IN_ACME,
    "in_group('company', 'acme')": IN_ACME,
    "in_group('company', 'other')": "",
    "in_group('team')": "in_small",
    "in_group(group_id='acme')": f"{IN_ACME} in_small",
    "in_group('company', traits={'plan': 'enterprise'})": IN_ACME,
    "in_group(traits={'plan': 'free'})": "in_small",
    "in_group(traits={'seats': {'at_least': 50}})": IN_ACME,
    # consent: silence is no refusal
    "consented('advertising')": "not refused",
    "consented('analytics')": "not ",
    # nesting
    "all_of([trait('plan', exists=true), trait('seats', at_least=1)])": "free growth",
    "any_of([in_group('team'), trait('vip', equals=true)])": "in_small growth",
    "none_of([in_group('team'), trait('vip', equals=true)])": "not in_small growth",
    "any_of([all_of([trait('plan', equals='free'), trait('seats', equals=3)]),"
    " none_of([trait('plan', exists=false), any_of([trait('plan', equals='free'),"
    " trait('plan', equals='growth')])])])": "free Free",
}


def inline(models: Models, query: str) -> Any:
    """What dbt makes of a query that is in no file."""
    from dbt.cli.main import dbtRunner

    folder = str(models.project.path)
    with home_of(models):
        return dbtRunner(manifest=models._manifest).invoke(
            [
                *("--quiet", "compile", "--inline", query),
                *("--project-dir", folder, "--profiles-dir", folder),
                *("--vars", encode(models.project.dbt_vars()).decode()),
            ]
        )


@pytest.fixture(scope="session")
def people(empty: Models, tmp_path_factory: pytest.TempPathFactory) -> Models:
    models = copy_of(empty, tmp_path_factory.mktemp("people"))
    with duckdb.connect(str(models.project.home.warehouse)) as warehouse:
        warehouse.execute(PEOPLE)
    return models


@pytest.fixture(scope="session")
def found(people: Models) -> dict[str, set[str]]:
    """Profiles that meet each condition; `everyone` is all of them."""
    conditions = {
        "everyone": "none_of([event_count('never_sent')])",
        **{word: word for word in WORDS},
    }
    selects = [
        f"select {number} as place, profile_id from ({{{{ audience([{word}]) }}}})"
        for number, word in enumerate(conditions.values())
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOMLINE_NOW", NOW.isoformat())
        result = inline(people, "\nunion all\n".join(selects))
    assert result.success, result.exception
    (compiled,) = result.result.results
    met = defaultdict(list)
    with duckdb.connect(str(people.project.home.warehouse)) as warehouse:
        for place, profile_id in warehouse.sql(compiled.node.compiled_code).fetchall():
            met[place].append(profile_id)
    assert all(len(ids) == len(set(ids)) for ids in met.values())
    return {name: set(met[place]) for place, name in enumerate(conditions)}


@pytest.mark.parametrize(("word", "expected"), WORDS.items())
def test_a_word_finds_whom_it_says(
    found: dict[str, set[str]], word: str, expected: str
) -> None:
    names = set(expected.removeprefix("not ").split())
    everyone = found["everyone"]
    assert names <= everyone
    wanted = everyone - names if expected.startswith("not ") else names
    assert found[word] == wanted


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("event_count('viewed', at_least=0)", "at_least must be 1 or more"),
        ("trait('plan')", "exactly one comparison"),
        ("trait('plan', equals='a', contains='b')", "exactly one comparison"),
        (
            "event_count('viewed', where={'a': {'like': 'b'}})",
            "'like' is not a comparison",
        ),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(
    people: Models, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    result = inline(people, f"{{{{ audience([{word}]) }}}}")
    assert not result.success
    assert message in capsys.readouterr().out


# ── The shipped audiences, and who enters and leaves them ──────────────────────────

SHIPPED = {
    "aud_cart_abandoners": {"cart"},
    "aud_churn_risk": {"gone_quiet"},
    "aud_enterprise_accounts": {"at_work"},
    "aud_high_value_customers": {"spender"},
    "aud_newsletter_reactivation": {"reader"},
    "aud_pricing_viewers": {"viewer"},
    "aud_trial_not_activated": {"trial"},
}

SHOP = """
insert into profiles.profiles (profile_id, email, traits) values
    ('cart', null, '{}'), ('cart_ordered', null, '{}'), ('cart_of_old', null, '{}'),
    ('gone_quiet', null, '{"plan": "growth"}'),
    ('still_here', null, '{"plan": "scale"}'),
    ('never_here', null, '{"plan": "scale"}'),
    ('quiet_but_free', null, '{"plan": "free"}'),
    ('at_work', null, '{}'), ('at_small_work', null, '{}'), ('spender', null, '{}'),
    ('small_spender', null, '{}'), ('reader', 'a@example.com', '{}'),
    ('no_address', null, '{}'), ('refuses', 'b@example.com', '{}'),
    ('reads_now', 'c@example.com', '{}'), ('viewer', null, '{"plan": "free"}'),
    ('viewer_onboarded', null, '{"plan": "free"}'), ('trial', null, '{}'),
    ('viewer_pays', null, '{"plan": "growth"}'), ('trial_active', null, '{}');

insert into profiles.profile_events (profile_id, event, timestamp, properties) values
    ('cart', 'cart_updated', '2026-04-30', null),
    ('cart_ordered', 'cart_updated', '2026-04-29', null),
    ('cart_ordered', 'order_completed', '2026-04-30', null),
    ('cart_of_old', 'cart_updated', '2026-04-27', null),
    ('gone_quiet', 'feature_used', '2026-04-01', null),
    ('quiet_but_free', 'feature_used', '2026-04-01', null),
    ('still_here', 'feature_used', '2026-04-01', null),
    ('still_here', 'page', '2026-04-20', null),
    ('spender', 'order_completed', '2026-04-20', '{"total": 100}'),
    ('spender', 'order_completed', '2026-04-20', '{"total": 250.5}'),
    ('small_spender', 'order_completed', '2026-04-20', '{"total": 99.99}'),
    ('small_spender', 'order_completed', '2026-04-20', '{"total": 250.5}'),
    ('reader', 'page', '2026-03-15', null),
    ('no_address', 'page', '2026-03-15', null),
    ('refuses', 'page', '2026-03-15', null),
    ('reads_now', 'page', '2026-03-15', null),
    ('reads_now', 'page', '2026-04-15', null),
    ('viewer', 'viewed_pricing', '2026-04-15', null),
    ('viewer', 'viewed_pricing', '2026-04-16', null),
    ('viewer_pays', 'viewed_pricing', '2026-04-15', null),
    ('viewer_pays', 'viewed_pricing', '2026-04-16', null),
    ('viewer_onboarded', 'viewed_pricing', '2026-04-15', null),
    ('viewer_onboarded', 'viewed_pricing', '2026-04-16', null),
    ('viewer_onboarded', 'completed_onboarding', '2025-01-01', null),
    ('trial', 'trial_started', '2026-04-20', null),
    ('trial_active', 'trial_started', '2026-04-20', null),
    ('trial_active', 'feature_used', '2026-04-21', null);

insert into profiles.groups (group_type, group_id, traits) values
    ('company', 'big', '{"plan": "enterprise"}'),
    ('company', 'small', '{"plan": "free"}');

insert into profiles.group_members (group_type, group_id, profile_id, valid_from) values
    ('company', 'big', 'at_work', '2026-04-01'),
    ('company', 'small', 'at_small_work', '2026-04-01');

insert into profiles.consent (profile_id, category, granted) values
    ('refuses', 'advertising', false);
"""

Membership = tuple[str, datetime, datetime | None]


@pytest.fixture
def shop(empty: Models, tmp_path: Path) -> Models:
    models = copy_of(empty, tmp_path)
    change(models, SHOP)
    return models


def change(models: Models, statement: str) -> None:
    with duckdb.connect(str(models.project.home.warehouse)) as warehouse:
        warehouse.execute(statement)


def evaluate(models: Models, at: datetime, *only: str) -> None:
    selected = "resource_type:model,path:models/audiences"
    run(models, "run", at=at, select=selected, only=only or None)


def memberships(models: Models, audience: str) -> list[Membership]:
    with duckdb.connect(str(models.project.home.warehouse)) as warehouse:
        return warehouse.execute(
            "select profile_id, entered_at, left_at from audiences.audience_members "
            "where audience = ? order by all",
            [audience],
        ).fetchall()


def test_the_shipped_audiences_find_whom_they_describe(shop: Models) -> None:
    evaluate(shop, NOW)
    for audience in shop.project.audiences():
        members = {profile_id for profile_id, *_ in memberships(shop, audience)}
        assert members == SHIPPED[audience], audience


def test_people_leave_and_come_back_also_when_the_clock_stands_still(
    shop: Models,
) -> None:
    now = NOW.replace(tzinfo=None)
    evaluate(shop, NOW)
    assert memberships(shop, "aud_pricing_viewers") == [("viewer", now, None)]
    change(
        shop,
        "update profiles.profiles set traits = '{}' where profile_id = 'viewer'",
    )
    evaluate(shop, NOW)
    evaluate(shop, NOW)
    assert memberships(shop, "aud_pricing_viewers") == [("viewer", now, now)]
    change(
        shop,
        """update profiles.profiles set traits = '{"plan": "free"}'
        where profile_id = 'viewer'""",
    )
    evaluate(shop, NOW)
    assert memberships(shop, "aud_pricing_viewers") == [
        ("viewer", now, now),
        ("viewer", now, None),
    ]
    run(shop, "test", at=NOW, select="members_enter_before_they_leave")


def test_only_the_audiences_that_are_due_change(shop: Models) -> None:
    evaluate(shop, NOW)
    change(
        shop,
        "delete from profiles.profile_events where profile_id in ('cart', 'trial')",
    )
    evaluate(shop, NOW.replace(day=2), "aud_cart_abandoners")
    assert memberships(shop, "aud_cart_abandoners")[0][2] is not None
    assert memberships(shop, "aud_trial_not_activated")[0][2] is None
    evaluate(shop, NOW.replace(day=3))
    assert memberships(shop, "aud_trial_not_activated")[0][2] is not None

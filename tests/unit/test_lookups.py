"""What tables and services know of a value in an event."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.events import lookups
from connectors.events.lookups import Unanswered, Url
from tests.support.lookup_services import Service, answering
from tests.support.rule_files import Rules, decided, event

# Tables

COUNTRIES = "country,region,currency\nDE,Europe,EUR\nNA,Africa,\n"
TABLE = """\
do:
  - lookup: {table: seeds/table.csv, key: properties.country,
      take: {region: properties.region, currency: context.currency}}
"""


@pytest.mark.parametrize(
    ("properties", "after", "context"),
    [
        ({"country": "DE"}, {"country": "DE", "region": "Europe"}, {"currency": "EUR"}),
        ({"country": "NA"}, {"country": "NA", "region": "Africa"}, None),
        ({"country": "FR"}, {"country": "FR"}, None),
        ({"country": ["DE"]}, {"country": ["DE"]}, None),
        ({}, {}, None),
        (None, None, None),
    ],
)
def test_what_a_table_knows_is_set(
    rules: Rules, properties: Any, after: Any, context: Any
) -> None:
    rules.table(COUNTRIES)
    rules.transformation(TABLE)
    given = event(properties=properties)
    assert decided(rules.load(), given) is None
    assert (given.properties, given.context, given.violations) == (after, context, [])


@pytest.mark.parametrize("properties", [{"country": "FR"}, {}])
def test_the_fallback_is_set_when_nothing_is_known(
    rules: Rules, properties: Any
) -> None:
    rules.table(COUNTRIES)
    rules.transformation(
        TABLE.replace("take", "fallback: {properties.region: none}, take")
    )
    given = event(properties=properties)
    decided(rules.load(), given)
    assert given.properties == {**properties, "region": "none"}


def test_another_column_may_be_the_key(rules: Rules) -> None:
    rules.table(COUNTRIES)
    rules.transformation(
        "do: [lookup: {table: seeds/table.csv, key_column: region, key: properties.r,"
        " take: {country: properties.c}}]"
    )
    given = event(properties={"r": "Europe"})
    decided(rules.load(), given)
    assert given.properties == {"r": "Europe", "c": "DE"}


def test_a_parquet_file_is_a_table_too(rules: Rules) -> None:
    rows = {"id": [1, 2], "vip": [True, None], "score": [1.5, 2.0]}
    pq.write_table(pa.table(rows), rules.path / "people.parquet")
    rules.transformation(
        "do: [lookup: {table: people.parquet, key: user_id,"
        " take: {vip: traits.vip, score: traits.score}}]"
    )
    given = event(user_id="1")
    decided(rules.load(), given)
    assert given.traits == {"vip": True, "score": 1.5}


@pytest.mark.parametrize(
    ("text", "table", "fault"),
    [
        (None, TABLE, "seeds/table.csv: not readable (FileNotFoundError)."),
        ("country,region\nDE\n", TABLE, "seeds/table.csv: not readable (ValueError)."),
        ("", TABLE, "seeds/table.csv: has no column "),
        ("country,region\n", TABLE, "seeds/table.csv: has no column currency; it has"),
        (
            COUNTRIES + "DE,Asia,X\n",
            TABLE,
            "seeds/table.csv: row 3: its country is a duplicate.",
        ),
        (
            COUNTRIES,
            TABLE.replace("seeds/table.csv", "../table.csv"),
            "../table.csv: is outside the project.",
        ),
        (
            COUNTRIES,
            TABLE.replace("seeds/table.csv", "seeds"),
            "seeds: a table is a .csv or .parquet file.",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_a_fault(
    rules: Rules, text: str | None, table: str, fault: str
) -> None:
    if text is not None:
        rules.table(text)
    rules.transformation(table)
    (found,) = rules.faults()
    assert found.startswith(f"010_alter.yml, line 2: {fault}")


# Services


@pytest.fixture
def service() -> Iterator[Service]:
    with answering() as service:
        yield service


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_is_taken_and_kept(rules: Rules, service: Service) -> None:
    rules.transformation(
        f"do: [lookup: {{url: '{service.url}', key: user_id, headers_env:"
        " {Authorization: GEO_TOKEN},"
        " take: {region: traits.region, geo.city: traits.city, none: traits.none}}]"
    )
    book = rules.load(GEO_TOKEN="secret")
    for _ in range(3):
        given = event(user_id="a&b ?ä#")
        assert decided(book, given) is None
        assert given.traits == {"region": "Europe", "city": "Bonn"}
        assert given.violations == []
    assert service.asked == ["/geo/a%26b%20%3F%C3%A4%23"]
    assert service.tokens == ["secret"]


@pytest.mark.parametrize(
    "key",
    [
        *(
            "..",
            ".",
            "../admin",
            "a/../../admin",
            "a/b",
            "/",
            "\\",
            "..\\admin",
            "a..b",
        ),
        *("%2e%2e", "%2E.", ".%2e", "%2e", "a%2Fb", "a%5cb", "..%2fadmin", "..;/admin"),
        *("%252e%252e", "%25252e%25252e", "%2525252525252e", "%c0%ae%c0%ae", "%ff"),
        *("a\nb", "a\r\nHost: x", "a\x00b", "a%00b", "a%0d%0ab", "\x7f", "a\x85b"),
    ],
)
def test_a_key_cannot_climb_out_of_the_path_it_is_put_into(
    rules: Rules, service: Service, key: str
) -> None:
    rules.transformation(
        f"do: [lookup: {{url: '{service.url}', key: user_id,"
        " take: {region: traits.region}, fallback: {traits.region: unknown}}]",
        "040_geo.yml",
    )
    given = event(user_id=key)
    assert decided(rules.load(), given) is None
    assert given.traits == {"region": "unknown"}
    assert given.violations == ["lookup_key_refused: 040_geo"]
    assert service.asked == []


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("acme.example", "acme.example"),
        ("ana.b@acme.example", "ana.b%40acme.example"),
        ("100%", "100%25"),
        ("50%25", "50%2525"),
        ("a b", "a%20b"),
        (".well-known", ".well-known"),
    ],
)
def test_a_key_is_asked_for_as_one_segment(
    service: Service, key: str, asked: str
) -> None:
    Url(service.url, ["region"], timeout_s=5).find(key)
    assert service.asked == [f"/geo/{asked}"]


def test_a_key_in_the_query_may_be_any_text(service: Service) -> None:
    address = service.url.replace("{key}", "find?q={key}")
    Url(address, ["region"], timeout_s=5).find("../a?b&c=d")
    assert service.asked == ["/geo/find?q=..%2Fa%3Fb%26c%3Dd"]


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500])
def test_a_failure_is_listed_and_the_fallback_set(
    rules: Rules, service: Service, status: int
) -> None:
    service.status = status
    rules.transformation(
        f"do: [lookup: {{url: '{service.url}', key: user_id,"
        " take: {region: traits.region}, fallback: {traits.region: unknown}}]",
        "040_geo.yml",
    )
    book = rules.load()
    for _ in range(2):
        given = event(user_id="u")
        assert decided(book, given) is None
        assert given.traits == {"region": "unknown"}
        assert given.violations == ["lookup_failed: 040_geo"]
    assert service.asked == ["/geo/u"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"{}" + b" " * (1 << 20)])
def test_an_answer_that_is_no_object_is_a_failure(
    service: Service, body: bytes
) -> None:
    service.body = body
    with pytest.raises(Unanswered):
        Url(service.url, ["region"], timeout_s=5).find("u")


def test_no_event_waits_longer_than_the_timeout(service: Service) -> None:
    service.may_answer.clear()
    with pytest.raises(Unanswered):
        Url(service.url, ["region"], timeout_s=0.05).find("u")
    assert service.asked == ["/geo/u"]


def test_an_answer_that_comes_piece_by_piece_has_no_longer(service: Service) -> None:
    class Passing(Clock):
        def __call__(self) -> float:
            self.now_s += 1
            return self.now_s

    service.body = b'{"region": "%s"}' % (b"x" * 900_000)
    Url(service.url, ["region"], timeout_s=5).find("u")
    with pytest.raises(Unanswered):
        Url(service.url, ["region"], timeout_s=5, clock=Passing()).find("u")


def test_answers_and_failures_are_asked_for_again_in_time(service: Service) -> None:
    clock = Clock()
    url = Url(service.url, ["region"], timeout_s=5, cache_s=60, clock=clock)
    assert url.find("u") == ("Europe",)
    service.status = 404
    clock.now_s += 59
    assert url.find("u") == ("Europe",)
    clock.now_s += 2
    for _ in range(2):
        with pytest.raises(Unanswered):
            url.find("u")
    assert len(service.asked) == 2
    service.status = 200
    clock.now_s += lookups.FAILURE_CACHE_S + 1
    assert url.find("u") == ("Europe",)


def test_a_service_that_is_down_is_left_alone_for_a_while(service: Service) -> None:
    clock = Clock()
    url = Url(service.url, ["region"], timeout_s=5, clock=clock)
    assert url.find("known") == ("Europe",)
    service.status = 503
    for number in range(20):
        with pytest.raises(Unanswered):
            url.find(f"u{number}")
    assert len(service.asked) == 6
    assert url.find("known") == ("Europe",)
    service.status = 200
    clock.now_s += lookups.FAILURE_CACHE_S + 1
    assert url.find("other") == ("Europe",)


def test_keys_that_a_service_does_not_know_do_not_close_it(service: Service) -> None:
    url = Url(service.url, ["region"], timeout_s=5, clock=Clock())
    service.status = 404
    for number in range(10):
        with pytest.raises(Unanswered):
            url.find(f"u{number}")
    service.status = 200
    assert url.find("known") == ("Europe",)


def test_only_so_many_answers_are_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_CACHED", 3)
    url = Url(service.url, ["region"], timeout_s=5)
    for key in ("a", "b", "c", "d", "d", "a"):
        url.find(key)
    assert service.asked == [f"/geo/{key}" for key in "abcda"]


SERVICE = """\
do:
  - lookup: {url: 'https://geo.example/{key}', key: user_id, take: {region: traits.r},
      fallback: {traits.r: unknown}}
examples:
"""


def test_an_example_brings_the_answer_and_no_service_is_asked(rules: Rules) -> None:
    rules.transformation(
        SERVICE
        + "  - {in: {user_id: u}, answer: {region: EU}, out: {traits: {r: EU}}}\n"
        + "  - {in: {user_id: u}, out: {traits: {r: unknown}}}\n"
    )
    rules.load()


@pytest.mark.parametrize(
    ("lookup", "faults"),
    [
        ("url: 'ftp://x/{key}', take: {}", ["an address must begin with https://"]),
        ("url: 'https://{key}/', take: {}", ["{key} must be in the path"]),
        ("url: 'https://x/', take: {}", ["{key} must be in the path"]),
        ("take: {}", ["a lookup must have either a `table` or a `url`."]),
        ("url: 'https://x/{key}', timeout_s: 0, take: {}", ["`timeout_s`: Expected"]),
        ("url: 'https://x/{key}', take: {a: b}", ["`b` is not a place in an event"]),
        (
            "url: 'https://x/{key}', headers_env: {A: ONE, B: TWO, C: SET}, take: {}",
            [
                "the environment variable ONE is not set.",
                "the environment variable TWO is not set.",
            ],
        ),
    ],
)
def test_a_lookup_that_cannot_be_made_is_a_fault(
    rules: Rules, lookup: str, faults: list[str]
) -> None:
    rules.transformation(f"do:\n  - lookup: {{key: user_id, {lookup}}}\n")
    found = rules.faults(SET="x")
    assert len(found) == len(faults)
    for text, fault in zip(found, faults, strict=True):
        assert text.startswith("010_alter.yml, line 2: ") and fault in text


def test_importing_the_rules_loads_neither_http_nor_parquet() -> None:
    code = (
        "import sys, connectors.events.rulebook;"
        "print([m for m in ('httpx', 'pyarrow', 'pydantic') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, check=True
    )
    assert json.loads(ran.stdout) == []

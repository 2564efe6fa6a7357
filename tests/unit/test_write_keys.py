"""Write keys: made, presented, replaced and ended."""

import itertools
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import ConfigError
from connectors.events.policy import Policy
from connectors.home import Home
from connectors.ingest.importing import source_name
from connectors.sources.key_text import Kind, is_wellformed
from connectors.sources.write_keys import KeyRing, KeyStore, WriteKey

START = datetime(2026, 5, 1, tzinfo=UTC)


class Clock:
    """One time for the store and the ring."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home, clock: Clock) -> KeyStore:
    return KeyStore(home, clock)


@pytest.fixture
def ring(home: Home, clock: Clock) -> KeyRing:
    return KeyRing(home, clock.seconds)


def test_a_key_that_was_made_is_found(store: KeyStore, ring: KeyRing) -> None:
    policy = Policy(
        naming="reject", types=frozenset(["track"]), fingerprint="analytics"
    )
    key, text = store.create(
        "web", "browser", scope="shop", policy=policy, rate=7.5, paths=["segment"]
    )
    assert ring.find(text) is None  # not before it has looked again
    assert ring.refresh()
    assert ring.find(text) == key == store.list()[0]
    assert (key.name, key.kind, key.scope, key.policy) == (
        "web",
        "browser",
        "shop",
        policy,
    )
    assert (key.rate, key.burst) == (7.5, 500)
    assert key.paths == frozenset(["segment"])
    assert key.created_at == START
    assert text.startswith(key.hint)


@pytest.mark.parametrize(
    ("kind", "prefix", "limits", "paths"),
    [
        ("browser", "lwb_", (100, 500), None),
        ("server", "lws_", (1000, 5000), None),
        ("admin", "lwa_", (0, 0), frozenset()),
    ],
)
def test_a_kind_brings_its_prefix_and_limits(
    store: KeyStore,
    kind: Kind,
    prefix: str,
    limits: tuple[float, int],
    paths: object,
) -> None:
    key, text = store.create("web", kind)
    assert text.startswith(prefix)
    assert (key.rate, key.burst) == limits
    assert key.paths == paths
    assert key.scope == "web" and key.policy == Policy()


def test_neither_the_file_nor_a_key_holds_the_text(store: KeyStore, home: Home) -> None:
    texts = [
        store.create("web")[1],
        store.create("old", value="AKIDimported0123456789")[1],
        store.rotate("web")[1],
    ]
    stored = b"".join(file.read_bytes() for file in home.path.iterdir())
    for text in texts:
        assert text.encode() not in stored
        assert text not in repr(store.list())
    assert stat.S_IMODE(home.control.stat().st_mode) == 0o600


def test_own_keys_hide_128_bits_and_never_repeat(store: KeyStore) -> None:
    key, _ = store.create("web")
    texts = {store.rotate("web", 0)[1] for _ in range(20)}
    assert len(texts) == 20
    for text in texts:
        secret = text[len(key.hint) : -6]
        assert re.fullmatch("[0-9A-Za-z]+", secret)
        assert 62 ** len(secret) >= 2**128
        assert is_wellformed(text)


@settings(deadline=None)
@given(st.data())
def test_a_mistyped_key_is_told_from_an_unknown_one(data: st.DataObject) -> None:
    text = "lws_KYT84M5OWX2yRqrcUZmZjD1MNjqLrS52"  # made once, of no installation
    assert is_wellformed(text)
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters().filter(lambda one: one != text[at]))
    assert not is_wellformed(text[:at] + character + text[at + 1 :])
    assert not is_wellformed(text[:at] + text[at + 1 :])
    if at and text[at] != text[at - 1]:
        swapped = text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
        assert not is_wellformed(swapped)


@settings(max_examples=50, deadline=None)
@given(name=st.text(st.sampled_from("abz09_-A .é\n/"), max_size=8))
def test_a_name_is_one_that_a_source_can_have(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = KeyStore(Home(tmp_path_factory.mktemp("home")))
    with suppress(ConfigError):
        store.create(name)
    assert all(source_name(key.name) == key.name == name for key in store.list())
    store.close()


@pytest.mark.parametrize("name", ["web", "web-shop_2", "a", "9", "a" * 64])
def test_usual_names_are_taken(store: KeyStore, name: str) -> None:
    assert store.create(name)[0].name == name


@pytest.mark.parametrize("name", ["", "_a", "a_", "-a", "Web", "a" * 65, "a/b", "a\n"])
def test_names_that_no_folder_can_have_are_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name"):
        store.create(name)
    with pytest.raises(ConfigError, match="cannot be a scope"):
        store.create("web", scope=name)
    assert store.list() == ()


def test_all_faults_are_told_at_once(store: KeyStore) -> None:
    store.create("web", value="AKIDimported")
    with pytest.raises(ConfigError) as raised:
        store.create(
            "web",
            scope="A",
            rate=0,
            burst=0,
            policy=Policy(max_event_bytes=0, types=frozenset(["buy"])),
            paths=["nowhere"],  # type: ignore[list-item]
            value="AKIDimported",
        )
    told = str(raised.value).splitlines()
    for part in (
        "scope",
        "rate must",
        "burst must",
        "size must",
        "'buy'",
        "'nowhere'",
        "keys rotate web",
        "already in use",
    ):
        assert sum(part in line for line in told) == 1, part
    assert len(told) == 8
    assert "AKIDimported" not in str(raised.value)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0])
def test_a_rate_is_a_number_of_events(store: KeyStore, rate: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        store.create("web", rate=rate)


def test_an_admin_key_has_no_limits_to_set(store: KeyStore) -> None:
    for options in ({"rate": 5}, {"policy": Policy()}, {"paths": ["segment"]}):
        with pytest.raises(ConfigError, match="accepts no events"):
            store.create("ops", "admin", **options)


def test_a_living_name_is_refused_and_one_that_ended_is_free(store: KeyStore) -> None:
    store.create("web")
    with pytest.raises(ConfigError, match="keys rotate web"):
        store.create("web", "browser")
    store.revoke("web")
    assert store.create("web", "browser")[0].kind == "browser"
    assert [key.state(START) for key in store.list()] == ["revoked", "live"]


@pytest.mark.parametrize("value", ["", "a b", "a\n", "é", "\ud800", "x" * 513])
def test_values_that_no_header_carries_are_refused(store: KeyStore, value: str) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        store.create("web", value=value)


def test_a_value_that_is_a_mistyped_own_key_is_refused(store: KeyStore) -> None:
    _, text = store.create("web")
    with pytest.raises(ConfigError, match="checksum") as raised:
        store.create("other", value=text[:-1])
    assert text[:-1] not in str(raised.value)


def test_a_value_is_one_key_at_a_time(
    store: KeyStore, ring: KeyRing, clock: Clock
) -> None:
    store.create("old", value="AKIDimported")
    with pytest.raises(ConfigError, match="already in use"):
        store.create("new", value="AKIDimported")
    store.rotate("old", keep_s=60)
    clock.wait(59)
    with pytest.raises(ConfigError, match="already in use"):
        store.create("new", value="AKIDimported")
    clock.wait(1)
    key, _ = store.create("new", value="AKIDimported")
    ring.refresh()
    assert ring.find("AKIDimported") == key


def test_a_hint_shows_little_of_a_short_value(store: KeyStore) -> None:
    hints = {
        value: store.create(f"n{len(value)}", value=value)[0].hint
        for value in ("abc", "abcdefgh", "clvwx0123456:secretsecret")
    }
    assert list(hints.values()) == ["", "ab", "clvw"]


def test_id_and_secret_are_one_text(store: KeyStore, ring: KeyRing) -> None:
    key, _ = store.create("site", value="clvwx0123456:secretsecret")
    ring.refresh()
    assert ring.find("clvwx0123456:secretsecret") == key
    assert ring.find("clvwx0123456") is None
    assert ring.find("clvwx0123456:") is None


@pytest.mark.parametrize("text", ["", "lws_", "x" * 100_000, "\ud800", "é", "a\0b"])
def test_strange_texts_find_nothing(store: KeyStore, ring: KeyRing, text: str) -> None:
    store.create("web")
    ring.refresh()
    assert ring.find(text) is None


def test_both_keys_work_while_one_replaces_the_other(
    store: KeyStore, ring: KeyRing, clock: Clock
) -> None:
    policy = Policy(no_consent="require")
    first, old = store.create(
        "web", "browser", scope="shop", policy=policy, burst=9, paths=["native"]
    )
    second, new = store.rotate("web", keep_s=3600)
    assert new != old and second.id != first.id and new.startswith(second.hint)
    for field in ("name", "kind", "scope", "policy", "rate", "burst", "paths"):
        assert getattr(first, field) == getattr(second, field)
    ring.refresh()
    clock.wait(3599.5)
    assert _id(ring.find(old)) == first.id
    assert _id(ring.find(new)) == second.id
    assert [key.state(clock()) for key in store.list()] == ["expiring", "live"]
    clock.wait(0.5)
    assert ring.find(old) is None  # by the clock alone, although it was found before
    assert _id(ring.find(new)) == second.id
    assert [key.state(clock()) for key in store.list()] == ["expired", "live"]
    assert not ring.refresh()


def test_replacing_at_once_leaves_one_key(store: KeyStore, ring: KeyRing) -> None:
    texts = [store.create("web")[1], store.rotate("web")[1], store.rotate("web", 0)[1]]
    ring.refresh()
    assert [ring.find(text) is not None for text in texts] == [False, False, True]


def test_a_second_replacement_lengthens_no_life(store: KeyStore, clock: Clock) -> None:
    store.create("web")
    store.rotate("web", keep_s=100)
    clock.wait(50)
    store.rotate("web", keep_s=100)
    ends = [key.expires_at for key in store.list()]
    assert ends == [
        START + timedelta(seconds=100),
        START + timedelta(seconds=150),
        None,
    ]


def test_a_key_made_from_one_that_is_ending_does_not_end(
    store: KeyStore, clock: Clock
) -> None:
    store.create("web")
    second, _ = store.rotate("web")
    store.revoke(second.id)
    clock.wait(5)
    third, _ = store.rotate("web")
    assert third.expires_at is None
    assert third.created_at == clock()


def test_of_two_who_take_a_name_at_once_one_gets_it(home: Home) -> None:
    together = threading.Barrier(2, timeout=20)

    def create_all(store: KeyStore) -> int:
        made = 0
        for number in range(50):
            together.wait()
            with suppress(ConfigError):
                store.create(f"web{number}")
                made += 1
        return made

    stores = KeyStore(home), KeyStore(home)
    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(create_all, stores)) == 50
    assert len(stores[0].list()) == 50


def test_what_has_no_live_key_cannot_be_replaced(store: KeyStore) -> None:
    store.create("web")
    store.revoke("web")
    for name in ("web", "unknown"):
        with pytest.raises(ConfigError, match="No live key"):
            store.rotate(name)
    for keep_s in (-1, float("nan"), 1e12):
        with pytest.raises(ConfigError, match="ten years"):
            store.rotate("web", keep_s)


def test_a_revoked_key_is_refused_once_the_ring_looks(
    store: KeyStore, ring: KeyRing
) -> None:
    _, web = store.create("web")
    _, ios = store.create("ios")
    ring.refresh()
    assert ring.find(web) and ring.find(ios)
    store.revoke("web")
    assert ring.refresh()
    assert ring.find(web) is None
    assert ring.find(ios) is not None


def test_a_name_ends_all_its_keys_and_an_id_or_a_text_one(store: KeyStore) -> None:
    first, text = store.create("web")
    second, _ = store.rotate("web")
    third, _ = store.rotate("web")
    assert [key.id for key in store.revoke(text)] == [first.id]
    assert [key.id for key in store.revoke(second.id)] == [second.id]
    assert [key.state(START) for key in store.list()] == ["revoked", "revoked", "live"]
    for which in (first.id, text, "unknown"):
        with pytest.raises(ConfigError, match="No live key"):
            store.revoke(which)
    with pytest.raises(ConfigError, match="mistyped"):
        store.revoke(text[:-1])
    fourth, _ = store.rotate("web")
    assert [key.id for key in store.revoke("web")] == [third.id, fourth.id]
    assert {key.state(START) for key in store.list()} == {"revoked"}


def test_a_ring_reads_again_only_after_a_change(store: KeyStore, ring: KeyRing) -> None:
    assert not ring.refresh()
    store.create("web")
    assert ring.refresh()
    assert not ring.refresh()
    store.revoke("web")
    assert [ring.refresh(), ring.refresh()] == [True, False]


def test_presented_texts_do_not_pile_up(store: KeyStore, ring: KeyRing) -> None:
    _, text = store.create("web")
    ring.refresh()
    for number in itertools.islice(itertools.count(), 1000):
        ring.find(f"stranger{number}")
        ring.find(text)
    assert list(ring._by_text) == [text]
    store.create("ios")
    ring.refresh()
    assert not ring._by_text


def _id(key: WriteKey | None) -> str | None:
    return None if key is None else key.id

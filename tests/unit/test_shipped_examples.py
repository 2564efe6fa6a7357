"""The contract, transformation, webhook and form that the project ships."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.errors import ConfigError
from connectors.events.admission import Admission
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.events.rulebook import Rulebook
from connectors.sources.files import Broken, chunks, rows, units
from connectors.sources.forms import Forms, UnknownForm
from connectors.sources.inbound_signatures import BadSignature
from connectors.sources.inbound_webhooks import InboundWebhooks, UnknownWebhook
from orchestration.demo.forms_and_webhooks import form, stripe_signature
from tests.support.sdk_wire import RECORDED, body, scenarios

PROJECT = Path(__file__).parents[2]
FIXTURES = PROJECT / "tests" / "fixtures"
NOW = 1_795_255_200
SECRET = "whsec_0123456789abcdef"
SHIPPED = (
    "connectors/events/contracts/demo_subscription_renewed.yml",
    "connectors/events/transformations/010_renewal_region.yml",
    "connectors/sources/webhooks/stripe.yml",
    "connectors/sources/forms/newsletter.yml",
)


# Rules


def recorded() -> Iterator[bytes]:
    """Every request, line and row of tests/fixtures."""
    for path in RECORDED:
        for requests in scenarios(path).values():
            yield from map(body, requests)
    for folder in sorted(path for path in (FIXTURES / "files").iterdir()):
        files = [
            path
            for path in folder.rglob("*")
            if path.is_file() and path.name != "expected.ndjson"
        ]
        for unit in units(files) if folder.is_dir() else ():
            for chunk in chunks(unit):
                for _, row in rows(chunk):
                    assert not isinstance(row, Broken)
                    yield row if isinstance(row, bytes) else json.dumps(row).encode()
    for path in sorted((FIXTURES / "vendor_examples").glob("*.json")):
        yield from (json.dumps(entry).encode() for entry in sent(path))


def sent(path: Path) -> Iterator[Any]:
    """What the examples of one vendor send; rows of a TSV are no calls."""
    if path.name == "snowplow_columns.json":
        return
    for entry in json.loads(path.read_text()):
        yield from entry.get("lines", ())
        yield from (request["body"] for request in entry.get("requests", ()))


@pytest.mark.parametrize("source", ["web", "demo"])
def test_no_recorded_fixture_is_refused_or_altered(source: str) -> None:
    identifiers = IdentifierRules.load(PROJECT)
    with_rules, without = Admitted(), Admitted()
    origin = Origin(source, source, "http", "s", NOW * 1_000_000, False, seed="fixed")
    for text in recorded():
        Admission(identifiers, BOOK).admit_bytes(text, origin, with_rules)
        Admission(identifiers).admit_bytes(text, origin, without)
    assert len(without.events) > 800
    # Ids that the sender left out are random.
    assert [row[1:-1] for row in with_rules.events] == [
        row[1:-1] for row in without.events
    ]
    assert [row.disposition for row in with_rules.dispositions] == [
        row.disposition for row in without.dispositions
    ]


BOOK = Rulebook.load(PROJECT, {})


def admitted(
    source: str, properties: dict[str, Any], event: str = "Demo Subscription Renewed"
) -> tuple[list[Any], Any]:
    """A renewal's properties, and its disposition's reason."""
    out = Admitted()
    origin = Origin(source, source, "file", "s", NOW * 1_000_000, False)
    call = {"event": event, "userId": "u", "properties": properties}
    Admission(IdentifierRules.load(PROJECT), BOOK).admit(call, origin, out)
    texts = [text for row in out.events for text in row if "amount" in str(text)]
    return [json.loads(text) for text in texts], out.dispositions[0].reason


def test_a_renewal_gets_its_region_unless_its_amount_is_text() -> None:
    renewal = {"subscription_id": "s", "plan_type": "growth", "currency": "EUR"}
    given = {**renewal, "amount": 49.0, "country": "KE"}
    assert admitted("demo", given) == ([{**given, "region": "Africa"}], None)
    assert admitted("web", given) == ([given], None)
    assert admitted("demo", {**given, "amount": "49.00"}) == (
        [],
        "contract demo_subscription_renewed v1: amount: type",
    )


def test_a_renewal_of_your_own_shop_passes_untouched() -> None:
    given = {"amount": "49.00", "country": "KE"}
    for source in ("demo", "web"):
        assert admitted(source, given, "Subscription Renewed") == ([given], None)


# Requests


def test_stripe_is_off_until_its_secret_is_set() -> None:
    payload = json.dumps({"id": "evt_1", "type": "invoice.paid"}).encode()
    headers = {"stripe-signature": stripe_signature(SECRET, payload, NOW)}
    off = InboundWebhooks.load(PROJECT, {})
    assert off.off == {"stripe": "STRIPE_WEBHOOK_SECRET"}
    with pytest.raises(UnknownWebhook):
        off.receive("stripe", headers, payload, NOW)
    with pytest.raises(UnknownWebhook):
        off.receive("stripe", {}, payload, NOW)

    on = InboundWebhooks.load(PROJECT, {"STRIPE_WEBHOOK_SECRET": SECRET})
    assert on.off == {}
    (call,) = on.receive("stripe", headers, payload, NOW)
    assert (call["event"], call["messageId"]) == ("invoice.paid", "evt_1")
    forged = {"stripe-signature": stripe_signature("whsec_stranger", payload, NOW)}
    with pytest.raises(BadSignature):
        on.receive("stripe", forged, payload, NOW)
    with pytest.raises(BadSignature):
        on.receive("stripe", {}, payload, NOW)


OPTIONAL = "signature: {scheme: stripe, secret_env: A, optional: %s}\n"


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        (OPTIONAL % "false", {}, "the environment variable A is not set"),
        (OPTIONAL % "maybe", {"A": SECRET}, "must be true or false"),
        (OPTIONAL % "true", {"A": "short"}, "variable A: a secret must have at least"),
        (
            OPTIONAL % "true" + "examples: [{body: {}, events: []}]",
            {},
            "lists 0",
        ),
        ("signature: {scheme: none, optional: true}", {}, "is not a key here"),
    ],
)
def test_only_a_secret_that_is_not_set_switches_off(
    tmp_path: Path, text: str, env: dict[str, str], said: str
) -> None:
    folder = tmp_path / "connectors" / "sources" / "webhooks"
    folder.mkdir(parents=True)
    (folder / "shop.yml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        InboundWebhooks.load(tmp_path, env)


def test_the_signature_is_the_one_of_stripes_manual() -> None:
    # Computed with: printf '%s.%s' 1795255200 '{}' | openssl dgst -sha256 -hmac …
    assert stripe_signature(SECRET, b"{}", NOW) == f"t={NOW},v1={EXPECTED_MAC}"


EXPECTED_MAC = "b8d1a100bb782622d8ffea20be97de6c220c79a27f0a6cd011120a4c3bd07704"


@pytest.mark.parametrize("env", [{}, {"NEWSLETTER_FORM": ""}])
def test_the_newsletter_form_is_off_until_its_variable_is_set(
    env: dict[str, str],
) -> None:
    forms = Forms.load(PROJECT, env)
    assert forms.off == {"newsletter": "NEWSLETTER_FORM"}
    with pytest.raises(UnknownForm):
        forms.receive(
            "newsletter", "application/x-www-form-urlencoded", b"email=ann@shop.example"
        )


def test_the_newsletter_form_says_who_and_asks_for_consent() -> None:
    fields = form({"email": "ann@shop.example", "offers": "on"}).content
    text = "&".join(f"{name}={value}" for name, value in fields.items())
    content_type = "application/x-www-form-urlencoded"
    told = Forms.load(PROJECT, {"NEWSLETTER_FORM": "on"}).receive(
        "newsletter", content_type, f"{text}&anonymous_id=a1&form_id=f1&x=y".encode()
    )
    assert told.source == "website" and told.refusal is None
    assert told.redirect_url == "https://www.loomshop.example/"
    assert told.items == [
        {
            "type": "track",
            "event": "Newsletter Signed Up",
            "messageId": "f1",
            "anonymousId": "a1",
            "traits": {"email": "ann@shop.example"},
            "context": {"consent": {"categoryPreferences": {"advertising": True}}},
        }
    ]


# What is said of them


def test_the_guide_shows_the_file_that_is_shipped() -> None:
    shown = re.findall(
        r"```yaml\n# (connectors/\S+)\n(.*?)```",
        (PROJECT / "docs" / "inbound.md").read_text(),
        re.DOTALL,
    )
    (text,) = [text for name, text in shown if name == SHIPPED[2]]
    first, _, rest = (PROJECT / SHIPPED[2]).read_text().partition("\n")
    assert first.startswith("# ") and rest == text


@pytest.mark.parametrize("name", SHIPPED)
def test_the_folders_readme_explains_every_key_of_its_example(name: str) -> None:
    path = PROJECT / name
    readme = (path.parent / "README.md").read_text()
    assert f"[{path.name}]({path.name})" in readme
    for key in yaml.safe_load(path.read_text()):
        assert re.search(rf"`{key}\b", readme), key
    for target in re.findall(r"\]\((\.\./[^)#]+)", readme):
        assert (path.parent / target).exists()

"""Forms: what browsers send becomes a call, and no redirect leads elsewhere."""

import re
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import ConfigError
from connectors.events.admission import Admission
from connectors.events.canonical import Event
from connectors.events.consent import stated
from connectors.events.decode import Undecodable
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.sources.forms import FormResult, Forms, UnknownForm

PROJECT = Path(__file__).parents[2]
PLAIN = "application/x-www-form-urlencoded"
((GUIDE_NAME, GUIDE),) = re.findall(
    r"```yaml\n# connectors/sources/forms/(\w+)\.yml\n(.*?)```",
    (PROJECT / "docs/inbound.md").read_text(),
    re.DOTALL,
)


def load(project: Path, text: str) -> Forms:
    folder = project / "connectors" / "sources" / "forms"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contact.yml").write_text(textwrap.dedent(text))
    return Forms.load(project)


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    assert GUIDE_NAME == "contact"
    return load(tmp_path_factory.mktemp("guide"), GUIDE)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    return load(tmp_path_factory.mktemp("everything"), "event: E")


def send(forms: Forms, *fields: tuple[str, str]) -> FormResult:
    return forms.receive("contact", PLAIN, urlencode(fields).encode())


def call_of(forms: Forms, *fields: tuple[str, str]) -> dict[str, Any]:
    (call,) = send(forms, *fields).items
    assert isinstance(call, dict)
    return call


def faults(project: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as found:
        load(project, text)
    return [line.split("contact.yml")[-1] for line in str(found.value).splitlines()]


def row(item: Any) -> tuple[str, dict[str, Any] | None]:
    out = Admitted()
    origin = Origin("website", "website", "form", "s", 1_776_165_218_000_000, False)
    Admission(IdentifierRules.load(PROJECT)).admit(item, origin, out)
    (fate,) = out.dispositions
    names = Event.__struct_fields__
    events = [dict(zip(names, event, strict=True)) for event in out.events]
    return fate.reason or fate.disposition, events[0] if events else None


# Fields


def test_the_guides_form_becomes_an_event_of_its_sender(guide: Forms) -> None:
    result = send(
        guide,
        ("email", "Ann@example.com"),
        ("message", "Grüße & so"),
        ("newsletter", "on"),
        ("topic", ""),
        ("website_url", ""),
        ("anonymous_id", ""),
        ("utm_spam", "not listed"),
        ("_redirect", "https://shop.example/thanks"),
    )
    assert result.source == "website" and result.refusal is None
    assert result.redirect_url == "https://shop.example/thanks"
    fate, event = row(result.items[0])
    assert fate == "admitted" and event is not None
    assert event["event"] == "contact_requested" and event["type"] == "track"
    assert event["identifiers"] == [("email", "ann@example.com", 2)]
    assert event["properties"] == '{"message":"Grüße & so"}'.encode()
    assert event["consent"] == b'{"advertising":true}'


def test_without_any_identifier_a_form_is_rejected_and_says_so(guide: Forms) -> None:
    assert row(call_of(guide, ("message", "hello")))[0] == "missing_identity"
    known = call_of(guide, ("message", "hello"), ("anonymous_id", "a1"))
    assert row(known)[0] == "admitted" and known["anonymousId"] == "a1"


def test_without_a_list_of_fields_all_of_them_are_kept(tmp_path: Path) -> None:
    forms = load(tmp_path, "event: Signed Up\nhoneypot: trap")
    sent = [
        ("trap", "x"),
        ("email", "a@example.com"),
        ("a.b", "1"),
        ("many", "x"),
        ("many", "y"),
    ]
    assert call_of(forms, *sent, ("anonymous_id", "a1"), ("_redirect", "x")) == {
        "type": "track",
        "messageId": None,
        "event": "Signed Up",
        "anonymousId": "a1",
        "traits": {"email": "a@example.com"},
        "properties": {"a.b": "1", "many": ["x", "y"]},
    }


def test_an_identify_takes_its_fields_for_traits(tmp_path: Path) -> None:
    forms = load(tmp_path, "type: identify")
    call = call_of(forms, ("email", "a@example.com"), ("plan", "free"))
    assert call["traits"] == {"email": "a@example.com", "plan": "free"}
    assert row(call)[0] == "admitted"


def test_fields_go_where_the_file_says(tmp_path: Path) -> None:
    text = """\
    event: E
    fields:
      uid: user_id
      token: message_id
      device: anonymous_id
      page: context.page.url
      title: context.page.title
      ads: consent.advertising
    """
    call = call_of(
        load(tmp_path, text),
        *(("uid", "u"), ("uid", "other"), ("token", "t"), ("device", "d")),
        *(("anonymous_id", "ignored"), ("page", "/a"), ("title", "A"), ("ads", "no")),
    )
    context = call.pop("context")
    assert context["page"] == {"url": "/a", "title": "A"}
    assert stated(context) == {"advertising": False}
    ids = {"userId": "u", "messageId": "t", "anonymousId": "d"}
    assert call == {"type": "track", "event": "E", **ids}


def test_a_filled_honeypot_is_refused_but_answered_like_any_form(guide: Forms) -> None:
    fields = [("email", "a@example.com"), ("_redirect", "https://shop.example/thanks")]
    caught = send(guide, *fields, ("website_url", "https://spam.example"))
    honest = send(guide, *fields)
    assert caught.refusal == "honeypot"
    assert caught.redirect_url == honest.redirect_url and caught.items == honest.items


# Redirects

ALLOWED = [
    "https://shop.example/thanks",
    "https://shop.example/de/danke",
    "https://shop.example/",
]
HOSTILE = [
    "//evil.example",
    "///evil.example/thanks",
    "\\\\evil.example",
    "https:evil.example",
    "https:/\\evil.example",
    "https://evil.example/https://shop.example/thanks",
    "https://shop.example.evil.example/thanks",
    "https://shop.example@evil.example/thanks",
    "https://shop.example:443@evil.example/thanks",
    "https://evil.example#https://shop.example/thanks",
    "https://shop.example/thanks/../../evil",
    "https://shop.example/thanks?next=//evil.example",
    "https://shop.example/thanks#//evil.example",
    "https://shop.example/thanks/",
    "https://shop.example/thank",
    "https://shop.example:8443/thanks",
    "http://shop.example/thanks",
    "https://shop.example\t/thanks",
    "https://shop.example/thanks\r\nset-cookie: a=b",
    " https://shop.example/thanks",
    "https://ѕhop.example/thanks",  # noqa: RUF001 (a Cyrillic letter)
    "https://shop.example/%74hanks",
    "javascript:alert(1)",
    "data:text/html,x",
    "",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_url_that_is_not_listed_to_the_letter_leads_to_the_default(
    url: str, guide: Forms
) -> None:
    assert send(guide, ("_redirect", url)).redirect_url == "https://shop.example/"


@pytest.mark.parametrize("url", ALLOWED[:2])
def test_a_listed_url_is_followed(url: str, guide: Forms) -> None:
    assert send(guide, ("_redirect", url)).redirect_url == url
    first = send(guide, ("_redirect", url), ("_redirect", "//evil.example"))
    assert first.redirect_url == url


PIECES = st.sampled_from(
    [*ALLOWED, *HOSTILE, "@", "/", "\\", "?", "#", "..", ":", "\r\n", "\0", "%2f", "."]
)


@given(pieces=st.lists(PIECES | st.text(max_size=5), min_size=1, max_size=4))
def test_no_form_leads_anywhere_but_to_the_files_own_urls(
    guide: Forms, pieces: list[str]
) -> None:
    url = "".join(pieces)
    for body in (
        urlencode({"_redirect": url}, errors="replace"),
        f"_redirect={quote(quote(url, errors='replace'))}&_redirect=//evil.example",
    ):
        result = guide.receive("contact", PLAIN, body.encode())
        assert result.redirect_url in ALLOWED
        if url not in ALLOWED:
            assert result.redirect_url == "https://shop.example/"


def test_without_redirects_the_answer_is_not_one(tmp_path: Path) -> None:
    forms = load(tmp_path, "event: E")
    result = send(forms, ("_redirect", "https://evil.example"))
    assert result.redirect_url is None
    forms = load(tmp_path, "event: E\nredirect: {allow: ['https://a.example/']}")
    assert send(forms, ("_redirect", "https://evil.example")).redirect_url is None
    assert send(forms, ("_redirect", "https://a.example/")).redirect_url is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/",
        "//shop.example/",
        "/thanks",
        "https://user@shop.example/",
        "https://",
        "https://[::1/",
        "https://shop.example\\@evil.example/",
        "https://evil.example\\.shop.example/",
        "https://shop.example/a b",
        "https://shop.example:0/",
        "https://shop.example:port/",
        "javascript:alert(1)",
    ],
)
def test_a_url_that_browsers_may_misread_cannot_be_listed(
    url: str, tmp_path: Path
) -> None:
    for text in (f"{{allow: ['{url}']}}", f"{{default: '{url}'}}", f"{{'{url}': 1}}"):
        (line,) = faults(tmp_path, f"event: E\nredirect: {text}")
        assert line.startswith(", line 2: `redirect.")
    load(tmp_path, "event: E\nredirect: {default: 'http://127.0.0.1:8000/'}")


# Bodies


@given(
    fields=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters='"%\\', exclude_categories=["C"])),
            st.text(st.characters(codec="utf-8")),
        ),
        max_size=8,
    )
)
def test_both_encodings_of_a_form_say_the_same(
    everything: Forms, fields: list[tuple[str, str]]
) -> None:
    named = [(f"n{name}", value) for name, value in fields]
    request = httpx.Request(
        "POST", "http://x", files=[(name, (None, value)) for name, value in named]
    )
    kind = request.headers.get("content-type", "multipart/form-data; boundary=b")
    body = request.read() or b"--b--\r\n"
    plain = urlencode(named).encode()
    assert everything.receive("contact", kind, body) == everything.receive(
        "contact", f"{PLAIN}; charset=UTF-8", plain
    )


def multipart(*parts: str) -> bytes:
    lines = "".join(f"--b\r\n{part}\r\n" for part in parts)
    return f"{lines}--b--\r\n".encode()


def disposition(text: str, value: str) -> str:
    return f"Content-Disposition: form-data; {text}\r\n\r\n{value}"


def test_the_parts_of_a_browsers_form_are_read_as_sent(tmp_path: Path) -> None:
    forms = load(tmp_path, "event: E")
    body = b"preamble\r\n" + multipart(
        disposition('name="text"', "two\r\nlines, --b and\r\n-- b"),
        disposition('name="odd; filename=x"', "1"),
        "content-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=bare\r\n\r\n2",
        disposition('name="photo"; filename=""', ""),
    )
    for kind in ("multipart/form-data; boundary=b", 'Multipart/Form-Data;Boundary="b"'):
        (call,) = forms.receive("contact", kind, body).items
        assert call["properties"] == {
            "text": "two\r\nlines, --b and\r\n-- b",
            "odd; filename=x": "1",
            "bare": "2",
        }


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (PLAIN, b"a=\xff", "not_utf8"),
        (PLAIN, b"a=%ff", "not_utf8"),
        (PLAIN, b"&" * 100, "too_many_fields"),
        (PLAIN, b"a=" + b"x" * 65_535, "form_too_large"),
        ("application/json", b"{}", "not_a_form"),
        ("", b"a=b", "not_a_form"),
        ("multipart/form-data", b"--b--", "not_multipart"),
        ("b", b"", "not_multipart"),
        ("b", multipart("no header"), "not_multipart"),
        ("b", multipart(disposition('nom="a"', "1")), "not_multipart"),
        ("b", multipart(disposition('name="a"', "1"))[:-6], "not_multipart"),
        (
            "b",
            multipart(disposition('name="a"', "1")).replace(b"--b", b"--bc", 1),
            "not_multipart",
        ),
        ("b", multipart(disposition('name="a"; filename="f"', "1")), "file_in_form"),
        ("b", multipart(*[disposition('name="a"', "")] * 101), "too_many_fields"),
    ],
)
def test_what_is_no_form_or_too_large_is_refused_with_its_reason(
    kind: str, body: bytes, reason: str, guide: Forms
) -> None:
    kind = "multipart/form-data; boundary=b" if kind == "b" else kind
    with pytest.raises(Undecodable) as found:
        guide.receive("contact", kind, body)
    assert found.value.reason == reason


def test_a_form_of_exactly_the_most_bytes_is_taken(guide: Forms) -> None:
    (call,) = guide.receive("contact", PLAIN, b"topic=" + b"x" * 65_530).items
    assert len(call["properties"]["topic"]) == 65_530


def test_a_form_of_exactly_the_most_fields_is_taken(guide: Forms) -> None:
    parts = multipart(*[disposition('name="topic"', "1")] * 100)
    for kind, body in (
        (PLAIN, b"&".join([b"topic=1"] * 100)),
        ("multipart/form-data; boundary=b", parts),
    ):
        (call,) = guide.receive("contact", kind, body).items
        assert len(call["properties"]["topic"]) == 100


@given(body=st.binary(max_size=200), kind=st.sampled_from([PLAIN, "b"]))
def test_no_body_breaks_the_door(guide: Forms, body: bytes, kind: str) -> None:
    kind = "multipart/form-data; boundary=b" if kind == "b" else kind
    mixed = body.replace(b"\0", b"\r\n--b\r\nContent-Disposition: form-data; name=")
    for one in (body, mixed, mixed + b"\r\n--b--"):
        with suppress(Undecodable):
            guide.receive("contact", kind, one)


# Faults


def test_a_form_without_a_file_is_unknown(guide: Forms, tmp_path: Path) -> None:
    with pytest.raises(UnknownForm):
        guide.receive("other", PLAIN, b"a=b")
    with pytest.raises(UnknownForm):
        Forms.load(tmp_path).receive("contact", PLAIN, b"a=b")


def test_all_faults_are_told_together_with_their_lines(tmp_path: Path) -> None:
    text = """\
    type: page
    write_source: My Site
    fields:
      a: property.a
      b: properties.b.c
      c: context.consent.categoryPreferences.advertising
      d: context.page
      e: context.page.url
      f: traits.f
      g: traits.f
      h: context.x.y
      i: context.x
    honeypot: 7
    max_fields: 0
    max_bytes: 9999999
    redirects: {}
    enabled_env: lower_case
    """
    found = faults(tmp_path, text)
    lines = [int(fault.split(":")[0].removeprefix(", line ")) for fault in found]
    assert sorted(lines) == [1, 1, 2, 4, 5, 6, 8, 10, 12, 13, 14, 15, 16, 17]
    assert any("needs the key `event`" in fault for fault in found)
    assert any("consent.<category>" in fault for fault in found)
    assert all(fault.endswith(".") for fault in found)


def test_an_identify_has_no_event_name(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "type: identify\nevent: E")
    assert line.startswith(", line 2: `event` is for `type: track`")

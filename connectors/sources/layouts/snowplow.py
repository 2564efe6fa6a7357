"""Snowplow's enriched events: tab-separated, 131 columns, no header.

A column becomes a field of the call, a property of its event, or a member of Segment's
context; all others are kept under their own names in `context.snowplow`, except
NOT_KEPT.
"""

from contextlib import suppress
from typing import Any

from connectors.events.decode import Undecodable, decode_item
from connectors.sources.layouts import Untranslatable, compact, instant, number, text

__all__ = ["COLUMNS", "NOT_KEPT", "decode", "looks_like", "translate"]

# https://docs.snowplow.io/docs/fundamentals/canonical-event/ (the order of the TSV)
COLUMNS = tuple(
    """
    app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id
    txn_id name_tracker v_tracker v_collector v_etl user_id user_ipaddress
    user_fingerprint domain_userid domain_sessionidx network_userid geo_country
    geo_region geo_city geo_zipcode geo_latitude geo_longitude geo_region_name ip_isp
    ip_organization ip_domain ip_netspeed page_url page_title page_referrer
    page_urlscheme page_urlhost page_urlport page_urlpath page_urlquery
    page_urlfragment refr_urlscheme refr_urlhost refr_urlport refr_urlpath
    refr_urlquery refr_urlfragment refr_medium refr_source refr_term mkt_medium
    mkt_source mkt_term mkt_content mkt_campaign contexts se_category se_action
    se_label se_property se_value unstruct_event tr_orderid tr_affiliation tr_total
    tr_tax tr_shipping tr_city tr_state tr_country ti_orderid ti_sku ti_name
    ti_category ti_price ti_quantity pp_xoffset_min pp_xoffset_max pp_yoffset_min
    pp_yoffset_max useragent br_name br_family br_version br_type br_renderengine
    br_lang br_features_pdf br_features_flash br_features_java br_features_director
    br_features_quicktime br_features_realplayer br_features_windowsmedia
    br_features_gears br_features_silverlight br_cookies br_colordepth br_viewwidth
    br_viewheight os_name os_family os_manufacturer os_timezone dvce_type
    dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width doc_height
    tr_currency tr_total_base tr_tax_base tr_shipping_base ti_currency ti_price_base
    base_currency geo_timezone mkt_clickid mkt_network etl_tags dvce_sent_tstamp
    refr_domain_userid refr_dvce_tstamp derived_contexts domain_sessionid
    derived_tstamp event_vendor event_name event_format event_version
    event_fingerprint true_tstamp
    """.split()  # noqa: SIM905 (131 quoted names would be unreadable)
)

# Self-describing events with these names are calls; the others are tracked events.
_TYPES = {
    "identify": "identify",
    "group": "group",
    "alias": "alias",
    "screen_view": "screen",
}
# Columns of the older event kinds → property.
_PROPERTIES = {
    "page_view": {"page_urlpath": "path", "page_url": "url", "page_title": "title"},
    "struct": {
        "se_category": "category",
        "se_label": "label",
        "se_property": "property",
        "se_value": "value",
    },
    "page_ping": {column: column for column in COLUMNS if column[:3] == "pp_"},
    "transaction": {
        column: column
        for column in COLUMNS
        if column.startswith(("tr_", "base_currency"))
    },
    "transaction_item": {
        column: column
        for column in COLUMNS
        if column.startswith(("ti_", "base_currency"))
    },
}
# Column → its place in Segment's context. The viewport has RudderStack's names.
_CONTEXT = {
    "user_ipaddress": ("ip",),
    "useragent": ("userAgent",),
    "br_lang": ("locale",),
    "os_timezone": ("timezone",),
    "page_url": ("page", "url"),
    "page_urlpath": ("page", "path"),
    "page_title": ("page", "title"),
    "page_referrer": ("page", "referrer"),
    "mkt_source": ("campaign", "source"),
    "mkt_medium": ("campaign", "medium"),
    "mkt_campaign": ("campaign", "name"),
    "mkt_term": ("campaign", "term"),
    "mkt_content": ("campaign", "content"),
    "mkt_clickid": ("campaign", "clickId"),
    "mkt_network": ("campaign", "network"),
    "geo_country": ("location", "country"),
    "geo_region": ("location", "region"),
    "geo_region_name": ("location", "regionName"),
    "geo_city": ("location", "city"),
    "geo_zipcode": ("location", "zip"),
    "geo_latitude": ("location", "latitude"),
    "geo_longitude": ("location", "longitude"),
    "geo_timezone": ("location", "timezone"),
    "dvce_screenwidth": ("screen", "width"),
    "dvce_screenheight": ("screen", "height"),
    "br_viewwidth": ("screen", "innerWidth"),
    "br_viewheight": ("screen", "innerHeight"),
    "dvce_type": ("device", "type"),
    "os_name": ("os", "name"),
    "name_tracker": ("library", "name"),
    "v_tracker": ("library", "version"),
}
# Columns that are fields of the call.
_FIELDS = {
    "event_id",
    "user_id",
    "domain_userid",
    "derived_tstamp",
    "dvce_created_tstamp",
    "dvce_sent_tstamp",
    "collector_tstamp",
}
NOT_KEPT = {"etl_tstamp", "etl_tags", "v_collector", "v_etl"}
"""Processing metadata of Snowplow's pipeline, not part of the event."""

_AMOUNTS = ("_base", "_price", "_quantity", "_shipping", "_tax", "_total", "se_value")
_SIZES = ("height", "width", "_max", "_min", "_latitude", "_longitude")
_COUNTS = ("_sessionidx", "_urlport", "txn_id")
_NUMBERS = {
    column for column in COLUMNS if column.endswith(_AMOUNTS + _SIZES + _COUNTS)
}
_BOOLEANS = {column for column in COLUMNS if column[:12] == "br_features_"} | {
    "br_cookies",
    "dvce_ismobile",
}
_ENTITIES = ("contexts", "derived_contexts")
_SESSION = "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-"


def decode(line: bytes) -> dict[str, str]:
    """Return a line's non-empty columns by name.

    Raises:
        Untranslatable: not UTF-8, or not 131 columns.
    """
    try:
        values = line.rstrip(b"\r").decode().split("\t")
    except UnicodeDecodeError:
        raise Untranslatable("line is not UTF-8") from None
    if len(values) != len(COLUMNS):
        raise Untranslatable(f"{len(values)} columns instead of {len(COLUMNS)}")
    return {
        column: value for column, value in zip(COLUMNS, values, strict=True) if value
    }


def looks_like(row: Any) -> bool:
    return isinstance(row, dict) and {"collector_tstamp", "event_id"} <= row.keys()


def translate(row: Any) -> dict[str, Any]:
    """Convert one event to a call; `derived_tstamp` is the corrected time, in UTC."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    kind, name = row.get("event"), text(row.get("event_name"))
    properties, type_ = _properties(row, kind), "track"
    entities = {column: _json(row, column) for column in _ENTITIES}
    if kind == "page_view":
        type_ = "page"
    elif kind == "unstruct":
        type_ = _TYPES.get(name or "", "track")
    elif kind == "struct":
        name = text(row.get("se_action"))
    call: dict[str, Any] = {
        "messageId": text(row.get("event_id")),
        "type": type_,
        "userId": text(row.get("user_id")),
        "anonymousId": _anonymous_id(row, entities["contexts"]),
        "timestamp": instant(row, "derived_tstamp") or instant(row, "true_tstamp"),
        "originalTimestamp": instant(row, "dvce_created_tstamp"),
        "sentAt": instant(row, "dvce_sent_tstamp"),
        "receivedAt": instant(row, "collector_tstamp"),
        "context": _context(row, kind, entities),
    }
    if type_ == "track":
        call["event"] = name or text(kind)
    elif type_ == "page":
        call["name"] = text(row.get("page_title"))
    elif type_ == "screen":
        call["name"] = text(properties.get("name"))
    elif type_ == "alias":
        call["previousId"] = text(properties.pop("previous_id", None))
    elif type_ == "group":
        call["groupId"] = text(properties.pop("group_id", None))
        call["groupType"] = text(properties.pop("group_type", None))
    is_traits = type_ in ("identify", "group")
    call["traits" if is_traits else "properties"] = properties or None
    return compact(call)


def _properties(row: dict[str, Any], kind: Any) -> dict[str, Any]:
    if kind == "unstruct":
        envelope = _json(row, "unstruct_event")
        event = envelope.get("data") if isinstance(envelope, dict) else None
        data = event.get("data") if isinstance(event, dict) else None
        if not isinstance(data, dict):
            raise Untranslatable("unstruct_event contains no data")
        return dict(data)
    return {
        name: _typed(row, column)
        for column, name in _columns(kind).items()
        if column in row
    }


def _columns(kind: Any) -> dict[str, str]:
    return _PROPERTIES.get(kind, {}) if isinstance(kind, str) else {}


def _anonymous_id(row: dict[str, Any], contexts: Any) -> str | None:
    """Return the browser's or device's own id, otherwise the collector's.

    Apps send theirs in the session. The collector's cookie may not outlive an app's
    request, so it comes last; it replaces the id of an anonymous session, which is all
    zeros.
    https://docs.snowplow.io/docs/events/identifiers/
    """
    own, network = text(row.get("domain_userid")), text(row.get("network_userid"))
    session = _session_user(contexts)
    is_anonymous = session is not None and not session.strip("0-")
    return own or (network if is_anonymous else session) or network or session


def _session_user(contexts: Any) -> str | None:
    entities = contexts.get("data") if isinstance(contexts, dict) else None
    for entity in entities if isinstance(entities, list) else ():
        schema = entity.get("schema") if isinstance(entity, dict) else None
        if isinstance(schema, str) and schema.startswith(_SESSION):
            data = entity.get("data")
            return text(data.get("userId")) if isinstance(data, dict) else None
    return None


def _context(
    row: dict[str, Any], kind: Any, entities: dict[str, Any]
) -> dict[str, Any]:
    own: dict[str, Any] = {}
    context: dict[str, Any] = {"snowplow": own}
    elsewhere = _FIELDS | NOT_KEPT | _columns(kind).keys()
    if kind == "unstruct":
        elsewhere.add("unstruct_event")
    elif kind == "struct":
        elsewhere.add("se_action")
    for column in row:
        match _CONTEXT.get(column):
            case [name]:
                context[name] = row[column]
            case [parent, name]:
                context.setdefault(parent, {})[name] = _typed(row, column)
            case None if column in entities:
                own[column] = entities[column]
            case None if column not in elsewhere:
                own[column] = _typed(row, column)
    return context


def _typed(row: dict[str, Any], column: str) -> Any:
    """Return a column's value; one that is not of the column's type stays text."""
    value = row[column]
    if column in _BOOLEANS and value in ("0", "1"):
        return value == "1"
    if column in _NUMBERS:
        with suppress(Untranslatable):
            return number(value, column)
    return value


def _json(row: dict[str, Any], column: str) -> Any:
    value = row.get(column)
    if not value:
        return None
    try:
        return decode_item(value.encode())
    except (AttributeError, Undecodable, UnicodeEncodeError):
        raise Untranslatable(f"{column} is not JSON") from None

"""Snowplow's enriched events: tab-separated, 131 columns, no header."""

from typing import Any

from connectors.events.decode import Undecodable, decode_item
from connectors.sources.layouts import Untranslatable, compact, instant, number, text

__all__ = ["COLUMNS", "decode", "looks_like", "translate"]

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
    "transaction": {column: column for column in COLUMNS if column[:3] == "tr_"},
    "transaction_item": {column: column for column in COLUMNS if column[:3] == "ti_"},
}
_NUMBERS = {
    column
    for column in COLUMNS
    if column[:3] in ("pp_", "tr_", "ti_")
    and column.endswith(
        ("_base", "_max", "_min", "_price", "_quantity", "_shipping", "_tax", "_total")
    )
} | {"se_value"}
_KEPT = ("app_id", "platform", "event_vendor", "domain_sessionid", "network_userid")


def decode(line: bytes) -> dict[str, str]:
    """The columns of a line that are not empty, by name.

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
    """One event as a call; `derived_tstamp` is the corrected time, in UTC."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    kind, name = row.get("event"), text(row.get("event_name"))
    properties, type_ = _properties(row, kind), "track"
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
        "anonymousId": text(row.get("domain_userid"))
        or text(row.get("network_userid")),
        "timestamp": instant(row, "derived_tstamp"),
        "originalTimestamp": instant(row, "dvce_created_tstamp"),
        "sentAt": instant(row, "dvce_sent_tstamp"),
        "receivedAt": instant(row, "collector_tstamp"),
        "context": _context(row),
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
            raise Untranslatable("unstruct_event holds no data")
        return dict(data)
    columns = _PROPERTIES.get(kind, {}) if isinstance(kind, str) else {}
    return {
        name: number(row[column], column) if column in _NUMBERS else row[column]
        for column, name in columns.items()
        if column in row
    }


def _context(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "ip": row.get("user_ipaddress"),
        "userAgent": row.get("useragent"),
        "locale": row.get("br_lang"),
        "timezone": row.get("os_timezone"),
        "page": {
            "url": row.get("page_url"),
            "path": row.get("page_urlpath"),
            "title": row.get("page_title"),
            "referrer": row.get("page_referrer"),
        },
        "campaign": {
            "source": row.get("mkt_source"),
            "medium": row.get("mkt_medium"),
            "name": row.get("mkt_campaign"),
            "term": row.get("mkt_term"),
            "content": row.get("mkt_content"),
        },
        "library": {"name": row.get("name_tracker"), "version": row.get("v_tracker")},
        "location": {"country": row.get("geo_country"), "city": row.get("geo_city")},
        "snowplow": {
            **{column: row.get(column) for column in _KEPT},
            "contexts": _json(row, "contexts"),
            "derived_contexts": _json(row, "derived_contexts"),
        },
    }


def _json(row: dict[str, Any], column: str) -> Any:
    value = row.get(column)
    if not value:
        return None
    try:
        return decode_item(value.encode())
    except (AttributeError, Undecodable, UnicodeEncodeError):
        raise Untranslatable(f"{column} is not JSON") from None

"""The `$` names in which senders of system fields describe a person.

| field                          | is                                                  |
|--------------------------------|-----------------------------------------------------|
| `$user_id`, `$email`, `$phone` | identifiers                                         |
| `$group`                       | a group with its traits, or a list of groups        |
| `$set`                         | traits to set                                       |
| `$set_once`                    | traits to set where they were never set             |
| `$unset`                       | names of traits to remove                           |
| any other (`$name`, `$plan`)   | a trait of that name                                |

`$set`, `$set_once` and `$unset` are PostHog's (https://posthog.com/docs/data/user-properties).
In the traits of an event `$set` is unpacked if PostHog or a one-call sent it; the other
two keep their names for the models, because their effect depends on earlier events.
"""

from typing import Any

__all__ = ["PERSON_UPDATES", "is_one_call", "merged_update", "person_of"]

PERSON_UPDATES = ("$set", "$set_once", "$unset")

# PostHog's SDKs send `$user_id` too, but none of the others.
_OURS = frozenset(("$email", "$phone", "$group"))
_OF_PERSON = _OURS | {"$user_id"}
_OF_POSTHOG = frozenset(("$anon_distinct_id", "$set"))
# Not traits, though sent among them.
_OF_EVENT = frozenset(("distinct_id", "$anon_distinct_id", "$process_person_profile"))

# First words of the properties PostHog's SDKs add to each event (posthog-js 1.434.18,
# posthog-python 7.91.1, posthog-node 5.70.0, as recorded): `$screen_width`, `$os`.
_OF_SDK = frozenset(
    """
    active autocapture browser ce config configured cookieless current device el
    elements event exception feature geoip groups host initial initialization insert ip
    is lib os pageview pathname posthog prev python raw recording referrer referring
    replay screen sdk session system time timezone title viewport web window
    """.split()  # noqa: SIM905
)


def is_one_call(properties: dict[str, Any]) -> bool:
    """Return whether a `$identify` is a one-call with the whole person, not PostHog's.

    A one-call has system fields, in `traits` or beside it, or only traits. PostHog's
    names the anonymous side (`$anon_distinct_id`) or has the traits in `$set`.
    """
    traits = properties.get("traits")
    if type(traits) is dict and not _OF_PERSON.isdisjoint(traits):
        return True
    if not _OURS.isdisjoint(properties):
        return True
    if not _OF_POSTHOG.isdisjoint(properties):
        return False
    return type(traits) is dict or "$user_id" in properties


def person_of(properties: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a one-call `$identify` into its traits and its other properties.

    The traits are in `traits`, among the properties, or in both; a name in both gets
    the outer value, and the inner one stays under `traits`. Properties that a PostHog
    SDK (recognized by `$lib`) adds to each event do not describe the person.
    """
    rest = dict(properties)
    inner = rest.pop("traits", None)
    outer: dict[str, Any] = {}
    if inner is not None and type(inner) is not dict:
        outer["traits"] = inner
    inner = dict(inner) if type(inner) is dict else {}
    is_flat = not _OF_PERSON.isdisjoint(rest)
    has_sdk = "$lib" in rest
    for name in list(rest):
        is_system = name[:1] == "$"
        is_of_sdk = has_sdk and is_system and name[1:].split("_")[0] in _OF_SDK
        if name in _OF_EVENT or is_of_sdk:
            continue
        if is_flat or is_system:
            outer[name] = rest.pop(name)
    for name in PERSON_UPDATES:
        outer[name] = merged_update(inner.pop(name, None), outer.pop(name, None))
        if outer[name] is None:
            del outer[name]
    traits = {**inner, **outer}
    hidden = {name: value for name, value in inner.items() if name in outer}
    if hidden:
        earlier = inner.get("traits")
        traits["traits"] = {**(earlier if type(earlier) is dict else {}), **hidden}
    stated = traits.get("$set")
    if type(stated) is dict:
        del traits["$set"]
        traits |= stated
    return traits, rest


def merged_update(inner: Any, outer: Any) -> Any:
    """Merge a `$set`, `$set_once` or `$unset` that an event carries in two places."""
    if type(inner) is type(outer) is dict:
        return {**inner, **outer}
    if type(inner) is type(outer) is list:
        return inner + outer
    return inner if outer is None else outer

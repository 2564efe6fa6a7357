"""`$` names: what a person is told to be, by senders that write system fields.

| field                          | is                                                  |
|--------------------------------|-----------------------------------------------------|
| `$user_id`, `$email`, `$phone` | identifiers                                         |
| `$group`                       | a group with its traits, or a list of groups        |
| `$set`                         | traits to set                                       |
| `$set_once`                    | traits to set where they were never set             |
| `$unset`                       | names of traits to remove                           |
| any other (`$name`, `$plan`)   | a trait of that name                                |

`$set`, `$set_once` and `$unset` are PostHog's (https://posthog.com/docs/data/user-properties).
In the traits of an event `$set` is taken apart; the other two stay under their names,
for the models: what they do depends on what was said before.
"""

from typing import Any

__all__ = ["PERSON_UPDATES", "is_one_call", "person_of"]

PERSON_UPDATES = ("$set", "$set_once", "$unset")

_OF_PERSON = frozenset(("$user_id", "$email", "$phone", "$group"))
_OF_POSTHOG = frozenset(("$anon_distinct_id", "$set"))
# Not traits, though they stand among them.
_OF_EVENT = ("distinct_id", "$anon_distinct_id")


def is_one_call(properties: dict[str, Any]) -> bool:
    """Whether a `$identify` carries the whole person, rather than being PostHog's.

    It has system fields, in `traits` or beside it, or traits alone. PostHog's names the
    anonymous side (`$anon_distinct_id`), or carries the traits in `$set`.
    """
    traits = properties.get("traits")
    if type(traits) is dict and not _OF_PERSON.isdisjoint(traits):
        return True
    if not _OF_POSTHOG.isdisjoint(properties):
        return False
    return type(traits) is dict or not _OF_PERSON.isdisjoint(properties)


def person_of(properties: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The traits that a one-call `$identify` states, and the rest of its properties.

    They stand in `traits`, or among the properties themselves, or in both; a name in
    both has the outer value, and the inner one stays under `traits`.
    """
    rest = dict(properties)
    inner = rest.pop("traits", None)
    if inner is not None and type(inner) is not dict:
        rest["traits"] = inner
        inner = None
    outer: dict[str, Any] = {}
    is_flat = not _OF_PERSON.isdisjoint(rest)
    for name in list(rest):
        if name not in _OF_EVENT and (is_flat or name[:1] == "$"):
            outer[name] = rest.pop(name)
    traits = {**(inner or {}), **outer}
    hidden = {name: value for name, value in (inner or {}).items() if name in outer}
    if hidden:
        traits["traits"] = hidden
    stated = traits.get("$set")
    if type(stated) is dict:
        del traits["$set"]
        traits |= stated
    return traits, rest

"""People, devices and companies of the shop, while their events are generated."""

from random import Random
from typing import Literal

from orchestration.demo.truth import Identifier
from orchestration.demo.vocabulary import (
    ADJECTIVES,
    AGENTS,
    CAMPAIGNS,
    HOUR,
    NOUNS,
    PLACES,
    SUFFIXES,
)

__all__ = ["Channel", "Company", "Device", "Human"]

Channel = Literal["segment", "rudder", "posthog", "native"]


class Device:
    """One browser or app: its ids, and the JSON pieces that its lines share."""

    __slots__ = (
        *("anon", "channel", "context", "linked", "message", "null", "seen", "skew"),
        "together",
    )

    def __init__(self, random: Random, channel: Channel, *, consent: bool) -> None:
        bits = random.getrandbits(128)
        text = f"{bits:032x}"
        self.channel = channel
        self.anon = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
        if channel == "native":
            self.anon = f"anon_{text[:20]}"
        self.linked = self.seen = False
        session = f"{text[20:28]}-{text[:4]}-7{text[4:7]}-b{text[7:10]}-{text[:12]}"
        self.message = f"{text[8:16]}-{text[4:8]}-4{text[1:4]}-9{text[5:8]}-"
        self.together = f'"anonymousId":"{self.anon}","userId":"'
        self.null = f'"anonymousId":"{self.anon}","userId":null,'
        self.skew = 0
        if channel == "rudder" and bits % 9 == 0:
            self.skew = HOUR if bits % 2 else -HOUR
        locale, zone = PLACES[bits % 4]
        agent = AGENTS[(bits >> 3) % 4]
        address = f"203.0.113.{(bits >> 8) % 256}"
        utm = CAMPAIGNS[(bits >> 20) % 4]
        has_utm = bits >> 30 & 3 == 0
        if channel in ("posthog", "native"):
            source = f'"utm_source":"news","utm_campaign":"{utm}",' if has_utm else ""
            self.context = (
                f'"$device_id":"{self.anon}","$session_id":"{session}","$lib":'
                f'"web","$lib_version":"1.434.18","$os":"{os(agent)}","$browser_'
                f'language":"{locale}","$timezone":"{zone}","$screen_width":1512,'
                f'"$screen_height":982,{source}"$ip":"{address}","$raw_user_agent":'
                f'"{agent}"'
            )
            return
        library = '"name":"analytics.js","version":"next-1.84.3"'
        if channel == "rudder":
            library = '"name":"RudderLabs JavaScript SDK","version":"3.34.1"'
        campaign = f'"campaign":{{"name":"{utm}","source":"news","medium":"email"}},'
        choice = (
            '"consent":{"categoryPreferences":{"analytics":true,"advertising":true}},'
        )
        self.context = (
            f'"context":{{"library":{{{library}}},{choice if consent else ""}'
            f'{campaign if has_utm else ""}"locale":"{locale}","timezone":"{zone}",'
            f'"ip":"{address}","userAgent":"{agent}",'
        )


def os(agent: str) -> str:
    return agent.split("(", 1)[1].split(";", 1)[0]


class Human:
    """One person; `known` collects the identifiers that the events reveal."""

    __slots__ = (
        "company",
        "devices",
        "email",
        "known",
        "name",
        "phone",
        "plan",
        "uids",
    )

    def __init__(self, name: str, uids: list[str], email: str, phone: str) -> None:
        self.name, self.uids, self.email, self.phone = name, uids, email, phone
        self.devices: list[Device] = []
        self.known: dict[Identifier, None] = {}
        self.plan = "free"
        self.company: Company | None = None

    @property
    def uid(self) -> str:
        return self.uids[0]


class Company:
    __slots__ = ("changed_at", "domain", "employees", "gid", "later", "name", "plan")

    def __init__(self, number: int, plan: str, later: str, changed_at: int) -> None:
        rest, noun = divmod(number, len(NOUNS))
        rest, adjective = divmod(rest, len(ADJECTIVES))
        rest, suffix = divmod(rest, len(SUFFIXES))
        name = ADJECTIVES[(adjective + noun) % len(ADJECTIVES)] + NOUNS[noun]
        tail = SUFFIXES[suffix] + (str(rest + 1) if rest else "")
        self.name = f"{name.title()} {tail.title()}"
        self.gid = f"{name}_{tail}"
        self.domain = f"{name}-{tail}.example"
        self.plan, self.later, self.changed_at = plan, later, changed_at
        self.employees = 5 + number * 37 % 900

    def traits(self, at: int) -> str:
        plan = self.plan if at < self.changed_at else self.later
        return f'"name":"{self.name}","plan":"{plan}","employees":{self.employees}'

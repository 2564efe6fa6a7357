"""What the SDKs of the made-up shop send: lines of JSON in four wire formats."""

from datetime import UTC, datetime
from random import Random
from typing import Literal

from orchestration.demo.truth import Identifier

__all__ = ["AS_OF", "PLACEHOLDERS"]

AS_OF = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
"""The two instants of the demo; events begin 60 days before the first."""

PLACEHOLDERS = (
    *("anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated"),
    *("email", "undefined", "true", "false", "[object Object]", "NaN", "None", "none"),
    *("null", "0", "-1"),
)
"""What broken clients send instead of an id; the list is PostHog's and Segment's."""

Channel = Literal["segment", "rudder", "posthog", "native"]

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HISTORY_DAYS = 60
LATE_PER_1024 = 40  # of track and page calls
RESENT_PER_10_000 = 100
# Variants that change an audience; the first block has all, later ones every third.
MOVING = {
    *("onboard", "upgrade", "order", "activate", "back", "downgrade", "deny", "switch"),
    *("join", "lowered", "raised", "cross", "gain"),
}
CONFLICT_EVERY = 50  # resent lines: 1 % of 1 / 50 is 0.02 % of all events

# Ranges believed to be kept for fiction by the French and Australian regulators, so
# that nobody real is named; that they are well-formed numbers is tested.
PHONES = (
    *("+3319900", "+3326191", "+3335301", "+3346571", "+3353649"),
    *("+6125550", "+6127010", "+6135550", "+6137010"),
    *("+6175550", "+6177010", "+6185550", "+6187010"),
)

FIRST, LAST, _ADJECTIVES, _NOUNS = (
    words.split()
    for words in (
        """jane omar lena noah mia ivan sara ben ada liam zoe karl nina paul ruth
        hugo ella finn vera tom uma leo ines max rosa emil cora dan yara otto lucy
        raj kim""",
        """roth silva kaya brandt moreau okafor novak lind hansen costa weber tanaka
        singh dubois keller nilsen ortega byrne petrov schmidt adeyemi larsen quinn""",
        """bright silver north green iron blue amber swift quiet solid clear grand east
        urban early royal lunar prime noble rapid stone south vivid wild calm deep""",
        """water field harbor works bridge forge leaf peak stream grove point mill ridge
        anchor cedar falcon summit meadow river tower garden orbit valley beacon""",
    )
)
SUFFIXES = ("inc", "labs", "gmbh", "ltd", "group", "co")
MAILBOXES = ("info", "sales", "support", "hello", "office")

SITE = "https://www.loomshop.example"
PATHS = (
    ("/", "Loomshop - tools for teams"),
    ("/pricing", "Pricing"),
    ("/features", "Features"),
    ("/blog/identity-graphs", "How identity graphs work"),
    ("/docs/getting-started", "Getting started"),
    ("/shop", "Shop"),
    ("/cart", "Your cart"),
    ("/app/dashboard", "Dashboard"),
    ("/app/reports", "Reports"),
    ("/customers", "Customer stories"),
)
PRICING, SHOP, CART, APP = 1, 5, 6, 7
REFERRERS = ("", "https://www.google.com/", SITE + "/", "https://news.example/weekly")
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/135.0.0.0"
AGENTS = (
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:137.0) Gecko/20100101 Firefox/137.0",
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {WEBKIT} Mobile Safari/537.36",
)
PLACES = (
    ("en-US", "America/New_York"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("en-AU", "Australia/Sydney"),
)
CAMPAIGNS = ("spring_sale", "brand_search", "retargeting", "partner_news")

# Pieces by (path, referrer): properties of a page call, context.page, PostHog's names.
PAGE_BODIES = [
    [
        f'"path":"{path}","referrer":"{ref}","search":"","title":"{title}",'
        f'"url":"{SITE}{path}"'
        for ref in REFERRERS
    ]
    for path, title in PATHS
]
PAGE_CALLS = [f'"type":"page","name":"{title}"' for _, title in PATHS]
POSTHOG_PAGES = [
    [
        f'"$current_url":"{SITE}{path}","$host":"www.loomshop.example","$pathname":'
        f'"{path}","$referrer":"{ref or "$direct"}","title":"{title}"'
        for ref in REFERRERS
    ]
    for path, title in PATHS
]

EVENTS = {
    name.lower().replace(" ", "_"): name
    for name in (
        *("Viewed Pricing", "Signed Up", "Completed Onboarding", "Order Completed"),
        *("Product Viewed", "Cart Updated", "Trial Started", "Invited Teammate"),
        *("Plan Changed", "Support Ticket Opened", "Feature Used"),
    )
}
TRACK_CALLS = {
    event: f'"type":"track","event":"{text}"' for event, text in EVENTS.items()
} | {"VIEWED_PRICING": '"type":"track","event":"viewed_pricing"'}
FEATURES = ("report_builder", "csv_export", "audience_preview", "api_call", "alerts")
TOPICS = ("billing", "login", "import", "performance")
GOODS = [
    (
        f"p_{number:03d}",
        (
            f'"product_id":"p_{number:03d}","sku":"LS-{number:04d}","name":"{name}",'
            f'"category":"{category}","currency":"EUR"'
        ),
        f"{9 + number * 7}.90",
    )
    for number, (name, category) in enumerate(
        (f"{material} {thing}", category)
        for material in ("Oak", "Linen", "Steel", "Glass")
        for thing, category in (
            *(("desk", "furniture"), ("lamp", "light"), ("board", "office")),
            *(("stand", "office"), ("mug", "kitchen"), ("frame", "decor")),
        )
    )
]


class Device:
    """One browser or app: its ids and the JSON pieces every line of it repeats."""

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
    """One person while being written; `known` collects what the events revealed."""

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
        rest, noun = divmod(number, len(_NOUNS))
        rest, adjective = divmod(rest, len(_ADJECTIVES))
        rest, suffix = divmod(rest, len(SUFFIXES))
        name = _ADJECTIVES[(adjective + noun) % len(_ADJECTIVES)] + _NOUNS[noun]
        tail = SUFFIXES[suffix] + (str(rest + 1) if rest else "")
        self.name = f"{name.title()} {tail.title()}"
        self.gid = f"{name}_{tail}"
        self.domain = f"{name}-{tail}.example"
        self.plan, self.later, self.changed_at = plan, later, changed_at
        self.employees = 5 + number * 37 % 900

    def traits(self, at: int) -> str:
        plan = self.plan if at < self.changed_at else self.later
        return f'"name":"{self.name}","plan":"{plan}","employees":{self.employees}'


class Wire:
    """Writes calls as the SDKs would send them, into the slice of their arrival."""

    def __init__(self, as_of: tuple[datetime, datetime]) -> None:
        self.cut, self.end = (int(moment.timestamp() * 1000) for moment in as_of)
        self.base = self.cut // DAY * DAY - (HISTORY_DAYS + 2) * DAY
        # An instant is two look-ups and one addition; formatting it is far slower.
        clock = [f"T{n // 60:02d}:{n % 60:02d}:" for n in range(DAY // MINUTE)]
        self.minutes = [
            date + minute
            for midnight in range(self.base, self.end + 2 * DAY, DAY)
            for date in (f"{datetime.fromtimestamp(midnight / 1000, UTC):%Y-%m-%d}",)
            for minute in clock
        ]
        self.seconds = [f"{n // 1000:02d}.{n % 1000:03d}Z" for n in range(MINUTE)]
        self.drift_at = self.cut - 20 * DAY
        self.slices: tuple[list[str], list[str]] = ([], [])
        self.resent = 0
        self.begin(Random(0))

    def begin(self, random: Random) -> None:
        """Continue with another source of randomness."""
        self.random = random
        self.chance = random.random
        self.bits = random.getrandbits

    def iso(self, at: int) -> str:
        """Epoch ms as `2026-05-01T00:00:00.000Z`."""
        minute, rest = divmod(at - self.base, MINUTE)
        return self.minutes[minute] + self.seconds[rest]

    def received(self, at: int, bits: int, prompt: bool) -> int:
        """Epoch ms of arrival: a second later, for late ones hours to three days."""
        late = at + HOUR + (bits >> 30) % (71 * HOUR)
        if prompt or (bits & 1023) > LATE_PER_1024 or late >= self.end:
            late = at + 150 + (bits >> 10 & 1023)
        return min(late, self.end - 1)

    def put(self, line: str, received: int, bits: int, skew: int) -> None:
        """Append a line that ends in `"receivedAt":`, now and then twice."""
        line += f'"{self.iso(received)}"}}\n'
        self.slices[received >= self.cut].append(line)
        if (bits >> 60) % 10_000 < RESENT_PER_10_000:
            self.resend(line, received, bits, skew)

    def resend(self, line: str, received: int, bits: int, skew: int) -> None:
        """Send the line again minutes to 36 hours later, sometimes altered."""
        again = received + MINUTE + (bits >> 40) % (36 * HOUR)
        if again >= self.end:
            return
        if '"properties":{' in line:
            self.resent += 1
            if self.resent % CONFLICT_EVERY == 5:
                line = line.replace('"properties":{', '"properties":{"revision":2,', 1)
        line = line[: line.rindex('"receivedAt"')]
        if '"sentAt":"' in line:
            line = (
                line[: line.rindex('"sentAt"')]
                + f'"sentAt":"{self.iso(again + skew)}",'
            )
        line += f'"receivedAt":"{self.iso(again)}"}}\n'
        self.slices[again >= self.cut].append(line)

    def web(
        self,
        device: Device,
        at: int,
        uid: str,
        call: str,
        body: str,
        page: int,
        *,
        linking: bool = True,
        prompt: bool = False,
    ) -> None:
        """A Segment or RudderStack call; `body` is `"properties":{…}` or traits."""
        bits = self.bits(96)
        received = self.received(at, bits, prompt)
        device.seen = True
        if uid:
            device.linked = device.linked or linking
            ids = f'{device.together}{uid}",'
        else:
            ids = device.null
        head = (
            f'{{"messageId":"{device.message}{bits & 0xFFFFFFFFFFFF:012x}",{call},{ids}'
        )
        tail = (
            f'{body},{device.context}"page":{{{PAGE_BODIES[page][bits >> 50 & 3]}}}}},'
        )
        skew = device.skew
        if device.channel == "rudder":
            self.put(
                f'{head}"channel":"web","integrations":{{"All":true}},"originalTimestamp"'
                f':"{self.iso(at + skew)}",{tail}"sentAt":"'
                f'{self.iso(received - 90 + skew)}","receivedAt":',
                received,
                bits,
                skew,
            )
        else:
            self.put(
                f'{head}"timestamp":"{self.iso(at)}",{tail}"sentAt":"'
                f'{self.iso(received - 90)}","receivedAt":',
                received,
                bits,
                0,
            )

    def capture(
        self,
        device: Device,
        at: int,
        distinct_id: str,
        event: str,
        body: str,
        *,
        prompt: bool = False,
    ) -> None:
        """Send a PostHog-shaped event; `body` is the inside of its properties."""
        bits = self.bits(96)
        received = self.received(at, bits, prompt)
        name = "id" if device.channel == "native" else "uuid"
        self.put(
            f'{{"{name}":"{device.message}{bits & 0xFFFFFFFFFFFF:012x}",'
            f'"event":"{event}",'
            f'"distinct_id":"{distinct_id}","properties":{{{body},{device.context}}},'
            f'"timestamp":"{self.iso(at)}","receivedAt":',
            received,
            bits,
            0,
        )

    def backend(self, uid: str, at: int, event: str, body: str) -> None:
        """Send a plain call of a server, which knows no device."""
        bits = self.bits(96)
        received = self.received(at, bits, True)
        self.put(
            f'{{"id":"evt_{bits:024x}","user_id":"{uid}","event":"{event}","properties":'
            f'{{{body},"service":"billing-api","environment":"production"}},'
            f'"timestamp":"{self.iso(at)}","receivedAt":',
            received,
            bits,
            0,
        )

    def track(
        self, device: Device, at: int, uid: str, event: str, body: str, page: int
    ) -> None:
        """Send a track call in the shape of the device's library."""
        if at >= self.cut:
            body += ',"experiment":"checkout_b","app_version":"4.2.0"'
        if device.channel in ("segment", "rudder"):
            call = TRACK_CALLS[event]
            if event == "viewed_pricing" and self.chance() < 0.2:
                call = TRACK_CALLS["VIEWED_PRICING"]
            self.web(device, at, uid, call, f'"properties":{{{body}}}', page)
        else:
            device.seen = device.seen or not uid
            body += "," + POSTHOG_PAGES[page][at & 3]
            self.capture(device, at, uid or device.anon, event, body)

    def page(self, device: Device, at: int, uid: str, page: int) -> None:
        """Send a page call in the shape of the device's library."""
        if device.channel in ("segment", "rudder"):
            body = f'"properties":{{{PAGE_BODIES[page][at & 3]}}}'
            self.web(device, at, uid, PAGE_CALLS[page], body, page)
        else:
            device.seen = device.seen or not uid
            body = POSTHOG_PAGES[page][at & 3]
            self.capture(device, at, uid or device.anon, "$pageview", body)

    def identify(
        self,
        human: Human,
        device: Device,
        at: int,
        *,
        uid: str | None = None,
        mailbox: str = "",
    ) -> None:
        """Say who uses the device, and note what that reveals about the person.

        An empty `uid` is a newsletter form; `mailbox` replaces the personal e-mail
        and is not part of the truth.
        """
        uid = human.uid if uid is None else uid
        email = mailbox or human.email
        if uid:
            human.known[("user_id", uid)] = None
        if not mailbox:
            human.known[("email", email)] = None
        device.linked = True
        if self.chance() < 0.12:
            email = f" {email.title()} "
        traits = f'"email":"{email}","name":"{human.name}","plan":"{human.plan}"'
        if device.channel == "native":
            traits = traits.replace('"email"', '"$email"').replace('"plan"', '"$plan"')
            body = f'"$user_id":"{uid}",{traits}'
            if human.company is not None:
                group = f'"$group_type":"company","$group_id":"{human.company.gid}"'
                body += f',"$group":{{{group},{human.company.traits(at)}}}'
            self.capture(device, at, device.anon, "$identify", body, prompt=True)
            return
        if human.phone:
            human.known[("phone", human.phone)] = None
            digits, style = human.phone, self.bits(2)
            if style == 0:
                digits = f"{digits[:3]} {digits[3:4]} {digits[4:8]} {digits[8:]}"
            elif style == 1:
                digits = f"{digits[:3]} ({digits[3:4]}) {digits[4:8]}-{digits[8:]}"
            traits += f',"phone":"{digits}"'
        if device.channel == "posthog":
            body = f'"$anon_distinct_id":"{device.anon}","$set":{{{traits}}}'
            self.capture(device, at, uid, "$identify", body, prompt=True)
            return
        body = f'"traits":{{{traits}}}'
        self.web(device, at, uid, '"type":"identify"', body, APP, prompt=True)

    def group(self, human: Human, device: Device, at: int, company: Company) -> None:
        """Say which company the person belongs to from now on."""
        human.company = company
        if device.channel == "native":
            self.identify(human, device, at)
        elif device.channel == "posthog":
            body = (
                f'"$group_type":"company","$group_key":"{company.gid}","$groups":'
                f'{{"company":"{company.gid}"}},"$group_set":{{{company.traits(at)}}}'
            )
            self.capture(device, at, human.uid, "$groupidentify", body, prompt=True)
        else:
            call = f'"type":"group","groupId":"{company.gid}"'
            body = f'"traits":{{{company.traits(at)}}}'
            self.web(device, at, human.uid, call, body, APP, prompt=True)

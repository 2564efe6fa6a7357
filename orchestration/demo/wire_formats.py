"""JSON lines of the shop's SDKs, in four wire formats."""

from datetime import UTC, datetime
from random import Random

from orchestration.demo.people import Company, Device, Human
from orchestration.demo.vocabulary import (
    APP,
    CONFLICT_EVERY,
    DAY,
    HISTORY_DAYS,
    HOUR,
    LATE_PER_1024,
    MINUTE,
    PAGE_BODIES,
    PAGE_CALLS,
    POSTHOG_PAGES,
    RESENT_PER_10_000,
    TRACK_CALLS,
)

__all__ = ["Wire"]


class Wire:
    """Writes calls as SDKs send them, into the slice of their arrival."""

    def __init__(self, as_of: tuple[datetime, datetime]) -> None:
        self.cut, self.end = (int(moment.timestamp() * 1000) for moment in as_of)
        self.base = self.cut // DAY * DAY - (HISTORY_DAYS + 2) * DAY
        # Two lookups and a concatenation per instant are far faster than formatting.
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
        """Format epoch ms as `2026-05-01T00:00:00.000Z`."""
        minute, rest = divmod(at - self.base, MINUTE)
        return self.minutes[minute] + self.seconds[rest]

    def received(self, at: int, bits: int, prompt: bool) -> int:
        """Return the arrival in epoch ms: within seconds, or up to three days late."""
        late = at + HOUR + (bits >> 30) % (71 * HOUR)
        if prompt or (bits & 1023) > LATE_PER_1024 or late >= self.end:
            late = at + 150 + (bits >> 10 & 1023)
        return min(late, self.end - 1)

    def put(self, line: str, received: int, bits: int, skew: int) -> None:
        """Append a line that ends in `"receivedAt":`, and resend it occasionally."""
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
        """Send a Segment or RudderStack call; `body` is its properties or traits."""
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
        """Send an event in PostHog's format; `body` is the content of `properties`."""
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
        """Send a plain server call, without a device."""
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
        """Send a track call in the format of the device's library."""
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
        """Send a page call in the format of the device's library."""
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
        """Identify the device's user, and record the revealed identifiers.

        An empty `uid` is a newsletter form. `mailbox` replaces the personal address and
        is not part of the truth.
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
        """Set the person's company from now on."""
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

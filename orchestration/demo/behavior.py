"""Actions of the shop's people: browse, sign up, order, change plans."""

from datetime import datetime

from orchestration.demo.forms_and_webhooks import Request
from orchestration.demo.people import Channel, Company, Device, Human
from orchestration.demo.truth import Identifier, Person
from orchestration.demo.vocabulary import (
    APP,
    CART,
    COUNTRIES,
    DAY,
    EVENTS,
    FEATURES,
    FIRST,
    GOODS,
    HOUR,
    LAST,
    MINUTE,
    PATHS,
    PHONES,
    PRICING,
    SECOND,
    SHOP,
)
from orchestration.demo.wire_formats import Wire

__all__ = ["Actions"]


class Actions(Wire):
    """Actions that write their events; scripts combine them."""

    def __init__(self, as_of: tuple[datetime, datetime]) -> None:
        super().__init__(as_of)
        self.people: list[Person] = []
        self.shared_devices: list[str] = []
        self.hub_emails: list[str] = []
        self.requests: list[Request] = []
        self.block = self.serial = self.phones = 0

    # moments, epoch ms

    def at(self, low: float, high: float) -> int:
        """Return a random moment, in days relative to the first instant."""
        return self.cut + int((low + self.chance() * (high - low)) * DAY)

    def second_day(self) -> int:
        return self.cut + int((0.05 + self.chance() * 0.88) * (self.end - self.cut))

    def edge(self, days: int) -> int:
        """Return a moment in the window of `days` at the first instant only."""
        return self.second_day() - days * DAY

    # people

    def device(self, channel: Channel | None = None, *, consent: bool) -> Device:
        if channel is None:
            chance = self.chance()
            channel = "segment" if chance < 0.5 else "rudder"
            if chance > 0.84:
                channel = "native" if chance > 0.94 else "posthog"
        return Device(self.random, channel, consent=consent)

    def human(
        self,
        channel: Channel | None = None,
        *,
        accounts: int = 1,
        devices: int | None = None,
        company: Company | None = None,
    ) -> Human:
        self.serial += 1
        bits = self.bits(64)
        first, last = FIRST[bits % len(FIRST)], LAST[(bits >> 8) % len(LAST)]
        domain = ("mail", "inbox", "post")[(bits >> 16) % 3] + ".example"
        if company is not None:
            domain = company.domain
        number = self.block * 256 + self.serial
        phone = ""
        if (bits >> 20) % 3 == 0 and self.phones < len(PHONES) * 10_000:
            line, prefix = divmod(self.phones, len(PHONES))
            phone = f"{PHONES[prefix]}{line * 7919 % 10_000:04d}"
            self.phones += 1
        human = Human(
            f"{first.title()} {last.title()}",
            [f"usr_{number:06x}{n}{self.bits(24):06x}" for n in range(accounts)],
            f"{first}.{last}.{number:x}@{domain}",
            phone,
        )
        if channel is None and self.serial % 6 == 0:
            channel = "posthog"  # uses only this channel
        if devices is None:
            devices = (1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4)[(bits >> 24) % 12]
        consent = (bits >> 40) % 5 < 2 or channel == "segment"
        human.devices = [self.device(channel, consent=consent) for _ in range(devices)]
        return human

    def close(self, human: Human) -> None:
        """Add the person to the truth, and each device without a login as another."""
        own = [device for device in human.devices if device.linked]
        known = [*human.known, *(("anonymous_id", device.anon) for device in own)]
        if human.known:
            self.add_person(known, is_anonymous=False)
        for device in human.devices:
            if device.seen and not device.linked:
                self.add_person([("anonymous_id", device.anon)], is_anonymous=True)

    def add_person(self, known: list[Identifier], *, is_anonymous: bool) -> None:
        name = f"person-{len(self.people) + 1}"
        self.people.append(Person(name, is_anonymous, tuple(known)))

    # actions; times are epoch ms

    def browse(self, device: Device, at: int, count: int, uid: str = "") -> int:
        """View `count` pages and products; return the time of the last one."""
        for position in range(count):
            bits = self.bits(32)
            at += 8_000 + bits % 150_000
            if bits >> 20 & 3:
                self.page(device, at, uid, (bits >> 24) % len(PATHS))
                continue
            _, good, price = GOODS[(bits >> 24) % len(GOODS)]
            # From one release on, the price is text, as types drift in real data.
            price = price if at < self.drift_at else f'"{price}"'
            body = f'{good},"price":{price},"position":{position}'
            self.track(device, at, uid, "product_viewed", body, SHOP)
        return at

    def say(self, human: Human, at: int, event: str, body: str, page: int) -> None:
        """Track from the person's first device; orders and plans also from a server."""
        server = event in ("order_completed", "plan_changed", "trial_started")
        if server and self.chance() < 0.35:
            text = event if self.chance() < 0.5 else EVENTS[event]
            self.backend(human.uid, at, text, body)
        else:
            self.track(human.devices[0], at, human.uid, event, body, page)

    def view_pricing(self, device: Device, at: int, uid: str) -> None:
        body = '"currency":"EUR","billing":"yearly","plans_shown":3'
        self.track(device, at, uid, "viewed_pricing", body, PRICING)

    def order(self, human: Human, at: int, low: int, high: int) -> None:
        """Buy for a total between `low` and `high` euros."""
        total = low + self.chance() * (high - low)
        bits = self.bits(40)
        one, two = GOODS[bits % len(GOODS)], GOODS[(bits >> 8) % len(GOODS)]
        body = (
            f'"order_id":"ord_{bits:010x}","total":{total:.2f},"currency":"EUR",'
            f'"products":[{{"product_id":"{one[0]}","quantity":1,"price":{one[2]}}},'
            f'{{"product_id":"{two[0]}","quantity":2,"price":{two[2]}}}]'
        )
        self.say(human, at, "order_completed", body, CART)

    def cart(self, human: Human, at: int) -> None:
        bits = self.bits(32)
        good = GOODS[bits % len(GOODS)]
        body = (
            f'"cart_id":"cart_{bits:08x}","items":{1 + bits % 4},"value":{good[2]},'
            f'"currency":"EUR","product_id":"{good[0]}"'
        )
        self.say(human, at, "cart_updated", body, CART)

    def feature(self, human: Human, at: int) -> None:
        bits = self.bits(16)
        name = FEATURES[bits % len(FEATURES)]
        body = f'"feature":"{name}","duration_s":{bits >> 6}'
        self.say(human, at, "feature_used", body, APP)

    def start_trial(self, human: Human, at: int) -> None:
        body = '"plan_type":"growth","trial_days":14,"card_on_file":false'
        self.say(human, at, "trial_started", body, APP)

    def onboard(self, human: Human, at: int) -> None:
        body = '"steps":5,"skipped":1,"duration_s":412'
        self.say(human, at, "completed_onboarding", body, APP)

    def change_plan(self, human: Human, at: int, plan: str) -> None:
        body = f'"plan_type":"{plan}","previous_plan":"{human.plan}","seats":3'
        human.plan = plan
        self.identify(human, human.devices[0], at)
        self.say(human, at + 2 * SECOND, "plan_changed", body, APP)

    def renew(self, human: Human, at: int, amount: str) -> None:
        """Renew the plan from the billing server; `amount` is JSON."""
        country = COUNTRIES[self.bits(8) % len(COUNTRIES)]
        body = (
            f'"subscription_id":"sub_{human.uid[4:]}","plan_type":"{human.plan}",'
            f'"amount":{amount},"currency":"EUR","country":"{country}"'
        )
        self.backend(human.uid, at, "demo_subscription_renewed", body)

    def deny(self, human: Human, at: int, *categories: str) -> None:
        """Deny consent to some categories, on devices that state consent."""
        for device in human.devices:
            for category in categories:
                device.context = device.context.replace(
                    f'"{category}":true', f'"{category}":false'
                )
        self.identify(human, human.devices[0], at)

    def join(
        self, human: Human, at: int, until: int, *, mailbox: str = "", pages: int = 3
    ) -> None:
        """Browse, sign up at about `at`, and use other devices before `until`.

        One in six of the other devices never gets a login.
        """
        device, uid = human.devices[0], human.uid
        at = self.browse(device, at, pages)
        self.identify(human, device, at + 5 * SECOND, mailbox=mailbox)
        body = f'"method":"email","plan":"{human.plan}"'
        self.track(device, at + 6 * SECOND, uid, "signed_up", body, APP)
        for device in human.devices[1:]:
            later = at + int(self.chance() * max(until - at - HOUR, 0))
            later = self.browse(device, later, 2)
            if self.chance() > 1 / 6:
                self.identify(human, device, later + SECOND, mailbox=mailbox)
                self.browse(device, later + MINUTE, 1, uid)

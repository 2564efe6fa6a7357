"""The story of a made-up B2B shop: its people, their devices and what they do."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from random import Random

from orchestration.demo.truth import Identifier, Person
from orchestration.demo.wire_formats import (
    APP,
    CART,
    DAY,
    EVENTS,
    FEATURES,
    FIRST,
    GOODS,
    HOUR,
    LAST,
    MAILBOXES,
    MINUTE,
    MOVING,
    PAGE_BODIES,
    PAGE_CALLS,
    PATHS,
    PHONES,
    PLACEHOLDERS,
    PRICING,
    SECOND,
    SHOP,
    TOPICS,
    Channel,
    Company,
    Device,
    Human,
    Wire,
)

__all__ = ["Shop"]


class Shop(Wire):
    """Scripts: who comes, what they do, and when, told block by block.

    Times are days relative to the first instant. The scripts named after an audience
    have variants: `stay` is in it at both instants, `cross` leaves because a window
    moves on, `gain` enters on the second day, the rest leave by what they do.
    """

    def __init__(self, as_of: tuple[datetime, datetime], seed: int) -> None:
        super().__init__(as_of)
        self.seed = seed
        self.people: list[Person] = []
        self.shared_devices: list[str] = []
        self.hub_emails: list[str] = []
        self.block = self.serial = self.phones = 0

    def units(self) -> Iterator[Callable[[], None]]:
        """Endless scripts to call, each one a person or people who belong together."""
        while True:
            self.begin(Random(f"{self.seed}/{self.block}"))
            self.serial = 0
            cut, day = self.cut, self.end - self.cut
            plans = (
                *(("enterprise", "enterprise"), ("enterprise", "enterprise")),
                *(("enterprise", "growth"), ("growth", "enterprise")),
                *(("growth", "growth"), ("scale", "scale"), ("free", "free")),
            )
            self.companies = [
                Company(self.block * len(plans) + n, now, later, cut + day // 50)
                for n, (now, later) in enumerate(plans)
            ]
            yield from self.scripts()
            self.block += 1

    def scripts(self) -> Iterator[Callable[[], None]]:
        for number in range(4):
            yield partial(self.broken_browser, number)
        for size in (2 + self.block % 4, 2 + (self.block + 1) % 4, 3):
            yield partial(self.tablet, size)
        yield self.office
        for accounts in (2, 2, 3):
            yield partial(self.family, accounts)
        for script, variants in (
            (
                self.pricing_viewer,
                "stay stay stay stay onboard upgrade cross gain gain",
            ),
            (self.cart_abandoner, "stay stay stay order cross gain gain"),
            (self.valued_customer, "stay stay stay stay cross gain gain"),
            (self.trial, "stay stay stay stay activate cross gain gain done done"),
            (self.churning, "stay stay stay stay back downgrade gain gain"),
            (self.silent, "stay stay stay lead lead back deny cross gain gain denied"),
            (self.employee, "stay stay stay stay switch join lowered lowered raised"),
        ):
            for number, variant in enumerate(variants.split()):
                if variant in MOVING and self.block and (self.block + number) % 3:
                    variant = "stay"
                yield partial(script, variant)
        for number in range(11):
            yield partial(self.active, number)
        for _ in range(46):
            yield partial(self.browser, 1 + self.bits(3))

    # moments, epoch ms

    def at(self, low: float, high: float) -> int:
        """Some moment between two numbers of days relative to the first instant."""
        return self.cut + int((low + self.chance() * (high - low)) * DAY)

    def second_day(self) -> int:
        return self.cut + int((0.05 + self.chance() * 0.88) * (self.end - self.cut))

    def edge(self, days: int) -> int:
        """A moment inside a window of `days` at the first instant, not the second."""
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
            channel = "posthog"  # comes only through this one
        if devices is None:
            devices = (1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4)[(bits >> 24) % 12]
        consent = (bits >> 40) % 5 < 2 or channel == "segment"
        human.devices = [self.device(channel, consent=consent) for _ in range(devices)]
        return human

    def close(self, human: Human) -> None:
        """Enter the person into the truth, and devices nobody was seen on as others."""
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

    # what people do; every method returns or takes epoch ms

    def browse(self, device: Device, at: int, count: int, uid: str = "") -> int:
        """Look at `count` pages and products; returns when that ends."""
        for position in range(count):
            bits = self.bits(32)
            at += 8_000 + bits % 150_000
            if bits >> 20 & 3:
                self.page(device, at, uid, (bits >> 24) % len(PATHS))
                continue
            _, good, price = GOODS[(bits >> 24) % len(GOODS)]
            # After some release the price is sent as text: types drift in real life.
            price = price if at < self.drift_at else f'"{price}"'
            body = f'{good},"price":{price},"position":{position}'
            self.track(device, at, uid, "product_viewed", body, SHOP)
        return at

    def say(self, human: Human, at: int, event: str, body: str, page: int) -> None:
        """Track as the person's first device, money matters often from a server."""
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

    def deny(self, human: Human, at: int, *categories: str) -> None:
        """Take back the consent to some categories, on devices that state one."""
        for device in human.devices:
            for category in categories:
                device.context = device.context.replace(
                    f'"{category}":true', f'"{category}":false'
                )
        self.identify(human, human.devices[0], at)

    def join(
        self, human: Human, at: int, until: int, *, mailbox: str = "", pages: int = 3
    ) -> None:
        """Browse, sign up at about `at`, later (before `until`) use other devices.

        One in six further devices is never signed in on.
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

    # scripts

    def browser(self, count: int) -> None:
        """Somebody who never signs up."""
        human = self.human(devices=1)
        low, high = (0.02, 0.9) if self.chance() < 0.4 else (-59.0, -0.1)
        if low > 0:
            low, high = (share * (self.end - self.cut) / DAY for share in (low, high))
        self.browse(human.devices[0], self.at(low, high), count)
        self.close(human)

    def broken_browser(self, number: int) -> None:
        """Somebody anonymous whose site sends placeholders as user id or e-mail."""
        human = self.human("segment" if number % 2 else "rudder", devices=1)
        value = PLACEHOLDERS[(self.block * 4 + number) % len(PLACEHOLDERS)]
        device = human.devices[0]
        at = self.browse(device, self.at(-50, -1), 2)
        if number < 2:
            body = f'"properties":{{{PAGE_BODIES[SHOP][0]}}}'
            call = PAGE_CALLS[SHOP]
            self.web(device, at + MINUTE, value, call, body, SHOP, linking=False)
        else:
            body = f'"traits":{{"email":"{value}","name":"","plan":null}}'
            self.web(device, at + MINUTE, "", '"type":"identify"', body, SHOP)
        self.close(human)

    def tablet(self, size: int) -> None:
        """A tablet on a shop floor: several people log in, others just look."""
        tablet = self.device("segment" if size % 2 else "rudder", consent=False)
        people = [self.human() for _ in range(size)]
        for human in people:
            self.join(human, self.at(-55, -40), self.cut - 39 * DAY)
        at = self.browse(tablet, self.at(-38, -36), 2)
        for _ in range(2):
            for human in people:
                self.identify(human, tablet, at + MINUTE)
                at = self.browse(tablet, at + 2 * MINUTE, 2, human.uid)
                at = self.browse(tablet, at + 3 * HOUR, 1) + self.bits(28)
        self.browse(tablet, self.second_day(), 2, people[-1].uid)
        self.shared_devices.append(tablet.anon)
        for human in people:
            self.close(human)

    def office(self) -> None:
        """Colleagues whose accounts all use the same mailbox."""
        company = self.companies[4 + self.block % 3]
        mailbox = f"{MAILBOXES[self.block % len(MAILBOXES)]}@{company.domain}"
        for number in range(4 + self.block % 3):
            human = self.human(company=company)
            self.join(human, self.at(-50, -20), self.at(-15, -5), mailbox=mailbox)
            if number % 2:
                self.identify(human, human.devices[0], self.at(-4, -2))
            self.browse(human.devices[0], self.at(-4, -1), 3, human.uid)
            self.close(human)
        self.hub_emails.append(mailbox)

    def family(self, accounts: int) -> None:
        """Two or three accounts on one e-mail: one person by rule."""
        human = self.human(accounts=accounts)
        self.join(human, self.at(-50, -30), self.at(-20, -10))
        for uid in human.uids[1:]:
            device = human.devices[-1]
            if self.chance() < 0.5:
                device = self.device(device.channel, consent=False)
                human.devices.append(device)
            at = self.at(-25, -3)
            self.identify(human, device, at, uid=uid)
            self.browse(device, at, 3, uid)
        self.close(human)

    def pricing_viewer(self, variant: str) -> None:
        human = self.human()
        device, uid = human.devices[0], human.uid
        at = self.at(-28, -12) if variant != "cross" else self.at(-45, -35)
        if variant in ("stay", "onboard", "upgrade"):
            self.view_pricing(device, at - HOUR, "")  # before anybody knew who it was
        self.join(human, at, self.at(-10, -2))
        if variant == "cross":
            self.view_pricing(device, self.edge(30), uid)
        self.view_pricing(device, self.at(-11, -1), uid)
        if variant == "onboard":
            self.onboard(human, self.second_day())
        elif variant == "upgrade":
            self.change_plan(human, self.second_day(), "growth")
        elif variant == "gain":
            at = self.browse(device, self.second_day(), 2, uid)
            self.view_pricing(device, at, uid)
        self.close(human)

    def cart_abandoner(self, variant: str) -> None:
        human = self.human()
        at = self.at(-40, -10)
        self.join(human, at, self.at(-8, -4))
        self.onboard(human, at + 20 * MINUTE)
        if variant in ("stay", "order"):
            self.cart(human, self.at(-1.9, -0.05))
        if variant == "order":
            self.order(human, self.second_day(), 15, 95)
        elif variant == "cross":
            self.cart(human, self.edge(3))
        elif variant == "gain":
            at = self.browse(human.devices[0], self.second_day(), 2, human.uid)
            self.cart(human, at)
        self.close(human)

    def valued_customer(self, variant: str) -> None:
        human = self.human()
        at = self.at(-55, -35)
        self.join(human, at, self.at(-20, -5))
        self.onboard(human, at + 20 * MINUTE)
        self.order(human, self.at(-20, -3), 110, 800)
        if variant == "cross":
            self.order(human, self.edge(30), 100, 400)
        elif variant == "gain":
            at = self.browse(human.devices[0], self.second_day(), 2, human.uid)
            self.cart(human, at + MINUTE)
            self.order(human, at + 2 * MINUTE, 100, 400)
        else:
            self.order(human, self.at(-27, -1), 100, 400)
            self.order(human, self.at(-50, -1), 20, 90)
        self.close(human)

    def trial(self, variant: str) -> None:
        human = self.human()
        at = self.at(-40, -16)
        self.join(human, at, self.at(-14, -2))
        moment = self.at(-12, -1)
        if variant == "cross":
            moment = self.edge(14)
        elif variant == "gain":
            moment = self.browse(human.devices[0], self.second_day(), 2, human.uid)
        self.start_trial(human, moment)
        if variant == "activate":
            self.feature(human, self.second_day())
        elif variant == "done":
            self.onboard(human, moment + MINUTE)
            for _ in range(4):
                self.feature(human, self.at(-12, -0.2))
        self.close(human)

    def churning(self, variant: str) -> None:
        human = self.human()
        self.join(human, self.at(-58, -48), self.at(-46, -45))
        self.change_plan(human, self.at(-44, -35), ("growth", "scale")[self.bits(1)])
        for _ in range(3):
            self.feature(human, self.at(-34, -16))
        self.order(human, self.at(-34, -16), 20, 95)
        if variant == "back":
            self.browse(human.devices[0], self.second_day(), 4, human.uid)
        elif variant == "downgrade":
            self.change_plan(human, self.second_day(), "free")
        elif variant == "gain":
            self.feature(human, self.edge(14))
        self.close(human)

    def silent(self, variant: str) -> None:
        """Known by e-mail, then nothing for a month."""
        deciding = variant in ("deny", "denied")
        human = self.human(
            "segment" if deciding or variant == "lead" else None,
            devices=1 if variant == "cross" else None,
        )
        device, uid = human.devices[0], human.uid
        if variant == "lead":
            at = self.browse(device, self.at(-56, -34), 3)
            self.identify(human, device, at, uid="")
            human.devices = human.devices[:1]
        elif variant == "cross":
            self.join(human, self.edge(60), self.cut)
        else:
            self.join(human, self.at(-57, -46), self.at(-40, -34))
            self.browse(device, self.at(-45, -33), 3, uid)
        if variant == "back":
            self.browse(device, self.second_day(), 4, uid)
        elif variant == "gain":
            self.browse(device, self.edge(30), 1, uid)
        elif deciding:
            at = self.second_day() if variant == "deny" else self.at(-45, -33)
            self.deny(human, at, "advertising")
        self.close(human)

    def employee(self, variant: str) -> None:
        company = self.companies[self.bits(1)]
        if variant in ("lowered", "raised"):
            company = self.companies[2 if variant == "lowered" else 3]
        channel: Channel | None = "native" if variant == "raised" else None
        human = self.human(channel, company=company)
        device = human.devices[0]
        at = self.at(-55, -25)
        self.join(human, at, self.at(-20, -5))
        self.onboard(human, at + 30 * MINUTE)
        if variant != "join":
            self.group(human, device, at + 40 * MINUTE, company)
        for _ in range(3):
            self.feature(human, self.at(-20, -0.5))
        moment = self.second_day()
        if variant == "switch":
            self.group(human, device, moment, self.companies[4 + self.bits(1)])
        elif variant in ("join", "lowered", "raised"):
            self.group(human, device, moment, company)
        self.close(human)

    def active(self, number: int) -> None:
        """A heavy user: weeks of sessions, an upgrade, a team, questions, a change."""
        company = self.companies[4 + number % 3] if number % 2 else None
        human = self.human(company=company)
        start = self.at(-58, -31)
        self.join(human, start, self.at(-30, -29))
        self.onboard(human, start + HOUR)
        if company is not None:
            self.group(human, human.devices[0], start + 2 * HOUR, company)
        change_at = self.at(-20, -5) if number % 4 else self.second_day()
        moments = [self.at(-29, -0.1) for _ in range(6)]
        if number % 4 < 3:
            moments += [self.second_day() for _ in range(5)]
        for moment in sorted([*moments, change_at]):
            if moment == change_at and number % 3 == 0:
                human.email = "new." + human.email
                self.identify(human, human.devices[0], moment)
            elif moment == change_at:
                self.change_plan(human, moment, ("growth", "scale")[number % 2])
            else:
                self.session(human, moment)
        if number == 5:
            self.deny(human, self.end - 9 * MINUTE, "analytics", "advertising")
        elif number == 7:  # signed out, and the site says so in the wrong way
            value = PLACEHOLDERS[self.block % len(PLACEHOLDERS)]
            device = self.device("segment", consent=False)
            self.identify(human, device, change_at)
            human.devices.append(device)
            body = f'"properties":{{{PAGE_BODIES[SHOP][0]}}}'
            self.web(device, change_at + HOUR, value, PAGE_CALLS[SHOP], body, SHOP)
        self.close(human)

    def session(self, human: Human, at: int) -> None:
        devices = [device for device in human.devices if device.linked]
        device = devices[self.bits(8) % len(devices)]
        at = self.browse(device, at, 2 + self.bits(1), human.uid)
        for _ in range(1 + self.bits(1)):
            at += 70 * SECOND
            self.feature(human, at)
        chance = self.chance()
        if chance < 0.1:
            self.order(human, at + MINUTE, 15, 160)
        elif chance < 0.16:
            body = '"role":"analyst","via":"email"'
            self.say(human, at + MINUTE, "invited_teammate", body, APP)
        elif chance < 0.22:
            body = f'"topic":"{TOPICS[self.bits(2)]}","priority":{1 + self.bits(1)}'
            self.say(human, at + MINUTE, "support_ticket_opened", body, APP)

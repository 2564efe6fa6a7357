"""The scripts of a fictional B2B shop: its people, their devices and actions."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from random import Random

from orchestration.demo.behavior import Actions
from orchestration.demo.forms_and_webhooks import form, stripe_event
from orchestration.demo.people import Channel, Company, Human
from orchestration.demo.truth import Identifier
from orchestration.demo.vocabulary import (
    APP,
    DAY,
    HOUR,
    MAILBOXES,
    MINUTE,
    MOVING,
    PAGE_BODIES,
    PAGE_CALLS,
    PLACEHOLDERS,
    REQUESTING_BLOCKS,
    SECOND,
    SHOP,
    TOPICS,
)

__all__ = ["Shop"]


class Shop(Actions):
    """Scripts of people and their timed actions, block by block.

    Times are days relative to the first instant. The scripts of an audience have
    variants: `stay` is a member at both instants, `cross` leaves because a window
    moves, `gain` enters on the second day, and the others leave by an action.
    """

    def __init__(self, as_of: tuple[datetime, datetime], seed: int) -> None:
        super().__init__(as_of)
        self.seed = seed

    def units(self) -> Iterator[Callable[[], None]]:
        """Yield scripts to call without end, each for one person or a group."""
        while True:
            self.begin(Random(f"{self.seed}/{self.block}/inbound"))
            self.serial = 200  # above the numbers of all other scripts in a block
            for number in range(4):
                yield partial(self.subscriber, number)
            for number in range(3):
                yield partial(self.reader, number)
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

    def subscriber(self, number: int) -> None:
        """A subscriber whose plan servers renew and charge every month.

        For one in four, a renewal has its amount as text.
        """
        human = self.human(devices=1)
        start = self.at(-58, -50)
        self.join(human, start, start)
        self.change_plan(human, start + HOUR, ("growth", "scale")[number % 2])
        self.feature(human, self.at(-10, -1))
        amount = ("49.00", "199.00")[number % 2]
        self.renew(human, self.at(-46, -44), amount)
        self.renew(human, self.at(-16, -14), f'"{amount}"' if number == 0 else amount)
        at = self.second_day()
        self.renew(human, at, amount)
        if self.block < REQUESTING_BLOCKS:
            self.pay(human, at + MINUTE, number)
        self.close(human)

    def pay(self, human: Human, at: int, number: int) -> None:
        """Report a payment as Stripe does: made, failed, in test mode, or forged."""
        customer = f"cus_{human.uid[4:]}"
        external = ("external_id", f"stripe:{customer}")
        email = ("email", human.email)
        first = (self.block * 4 + number) * 4
        invoice = {
            "object": "invoice",
            "id": f"in_{first:012x}",
            "customer": customer,
            "customer_email": human.email,
            "amount_due": (4900, 19900)[number % 2],
            "currency": "eur",
            "lines": {"data": [{"description": f"{human.plan.title()} plan"}]},
        }
        if number == 0:
            holds = {
                "object": "customer",
                "id": customer,
                "email": human.email,
                "name": human.name,
                "metadata": {"user_id": human.uid},
            }
            reveals: tuple[Identifier, ...] = (("user_id", human.uid), email, external)
            updated = stripe_event(first, "customer.updated", at, holds, reveals)
            paid = stripe_event(first + 1, "invoice.paid", at, invoice, reveals[1:])
            self.requests += [updated, paid, paid]  # Stripe delivers at least once
            human.known[external] = None
        elif number == 1:
            kind, reveals = "invoice.payment_failed", (email, external)
            self.requests.append(stripe_event(first, kind, at, invoice, reveals))
            human.known[external] = None
        else:
            became = "dropped" if number == 2 else None
            self.requests.append(
                stripe_event(
                    *(first, "invoice.paid", at, invoice, ()),
                    expected=became,
                    is_live=number != 2,
                )
            )

    def reader(self, number: int) -> None:
        """A visitor who subscribes to the newsletter."""
        human = self.human(("segment", "rudder")[number % 2], devices=1)
        device = human.devices[0]
        self.browse(device, self.second_day(), 3)
        if self.block < REQUESTING_BLOCKS:
            email = ("email", human.email)
            fields = {
                "email": human.email,
                "topic": ("audiences", "identity", "privacy")[number],
                "offers": "on",
                "anonymous_id": device.anon,
                "form_id": f"form_{self.block:06x}{number}",
                "website_url": "",
            }
            sent = form(fields, (email, ("anonymous_id", device.anon)))
            self.requests += [sent, sent] if number == 1 else [sent]
            human.known[email] = None
            device.linked = True
            if number == 2:  # a robot fills in every field
                trapped = {"website_url": "https://spam.example/", "form_id": ""}
                self.requests.append(form({**fields, **trapped}, (), "rejected"))
        self.close(human)

    def browser(self, count: int) -> None:
        """A visitor who never signs up."""
        human = self.human(devices=1)
        low, high = (0.02, 0.9) if self.chance() < 0.4 else (-59.0, -0.1)
        if low > 0:
            low, high = (share * (self.end - self.cut) / DAY for share in (low, high))
        self.browse(human.devices[0], self.at(low, high), count)
        self.close(human)

    def broken_browser(self, number: int) -> None:
        """An anonymous visitor whose site sends placeholder user ids or addresses."""
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
        """A tablet on a shop floor: several people log in, others just browse."""
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
        """Colleagues whose accounts share one mailbox."""
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
        """Two or three accounts with one email address: one person by rule."""
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
            self.view_pricing(device, at - HOUR, "")  # before the visitor is identified
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
        """A person known by email address, then silent for a month."""
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
        """A heavy user with weeks of sessions, an upgrade, a team and tickets."""
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
        elif number == 7:  # signed out, but the site sends a placeholder as user id
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

"""Takes the events of a request or a file: finds their campaigns, counts them, and withdraws recipients.

Events are counted first, and recipients are withdrawn afterwards. If the process dies between the two, the
provider sends the events again: they count nothing the second time, and the recipients are withdrawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pixel_server.campaigns import storage
from pixel_server.consent import Consent
from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries import count
from pixel_server.deliveries.event import Delivery
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.slug import is_slug
from pixel_server.store import audit_log, replication
from pixel_server.store.protocols import AsyncRedis

MAX_TAGS = 10
"""Largest number of an event's tags that are looked up as campaigns."""
WITHDRAWING: dict[str, tuple[Kind, ...]] = {
    "none": (),
    "complained": ("complained",),
    "unsubscribed": ("complained", "unsubscribed"),
}
"""Kinds of events that withdraw a recipient, by value of PIXEL_WITHDRAW_ON."""


@dataclass(slots=True)
class Taken:
    """Numbers of what was taken.

    new, known, withdrawn: recipients, see `count.Added`; a recipient counts anew in each campaign and batch.
    ignored: numbers of events, by the reason why they were not counted.
    """

    new: int = 0
    known: int = 0
    withdrawn: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def is_any(self) -> bool:
        """Returns whether any event could be used."""
        return bool(self.new or self.known or self.withdrawn or self.ignored)

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers in the form of the API."""
        counts = {"new": self.new, "known": self.known, "withdrawn": self.withdrawn}
        return {**counts, "ignored": dict(self.ignored)}


@dataclass(slots=True)
class Taker:
    """Takes the events of one request or file.

    now: seconds. who: name for the audit log. on_withdrawal: called with the key of each recipient that an
    event withdraws. taken: the numbers so far.
    """

    store: AsyncRedis
    secrets: Secrets
    settings: Settings
    now: float
    who: str
    on_withdrawal: Callable[[bytes], None] = lambda recipient: None
    taken: Taken = field(default_factory=Taken)
    _reasons: dict[str, str | None] = field(default_factory=dict)
    """Why a campaign takes no events, by its id; None if it takes events."""

    async def take(self, deliveries: Iterable[Delivery]) -> None:
        """Counts events. Raises redis.RedisError or NewerFormat if some could not be stored."""
        by_campaign: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            campaign, reason = await self._campaign(delivery)
            if reason is not None:
                self.taken.ignored[reason] += 1
            else:
                by_campaign.setdefault(campaign, []).append(delivery)
        for campaign, of_campaign in by_campaign.items():
            for i in range(0, len(of_campaign), count.MAX_AT_ONCE):
                await self._take_batch(campaign, of_campaign[i : i + count.MAX_AT_ONCE])

    async def confirm(self) -> None:
        """Waits until a replica has what was counted. Raises NotReplicatedError if none has it in time."""
        await replication.confirm(self.store, self.settings.shards)

    async def _campaign(self, delivery: Delivery) -> tuple[str, str | None]:
        """Returns the campaign of an event, and why the event is not counted, or None if it is."""
        reasons: list[str] = []
        for campaign in delivery.campaigns[:MAX_TAGS]:
            if campaign not in self._reasons:
                self._reasons[campaign] = await self._reason(campaign)
            reason = self._reasons[campaign]
            if reason is None:
                return campaign, None
            reasons.append(reason)
        known = (reason for reason in reasons if reason != "unknown_campaign")
        return "", next(known, "unknown_campaign" if reasons else "no_campaign")

    async def _reason(self, campaign: str) -> str | None:
        """Returns why a campaign takes no events, or None if it takes them, and opens it for events."""
        if is_slug(campaign) is None:
            return "unknown_campaign"
        try:
            stored = await storage.get(self.store, campaign)
            if not lists.keeps_recipients(stored, Consent(self.settings)):
                return "keeps_no_recipients"
            await count.begin(self.store, campaign, self.settings, self.now)
        except storage.UnknownCampaign:
            return "unknown_campaign"
        except lists.ListClosed:
            return "closed"
        return None

    async def _take_batch(self, campaign: str, deliveries: list[Delivery]) -> None:
        keyed = [(self.secrets.recipient_key(each.recipient), each) for each in deliveries]
        facts = count.merge_facts([(key, each.kind) for key, each in keyed])
        try:
            added = await count.add(self.store, self.secrets, campaign, facts, self.settings.shards)
        except (lists.ListClosed, storage.UnknownCampaign):  # closed or deleted just now
            self._reasons[campaign] = "closed"
            self.taken.ignored["closed"] += len(deliveries)
            return
        self.taken.new += added.new
        self.taken.known += added.known
        self.taken.withdrawn += added.withdrawn
        kinds = WITHDRAWING[self.settings.withdraw_on]
        await self._withdraw({key: each.time for key, each in keyed if each.kind in kinds})

    async def _withdraw(self, times: dict[bytes, float]) -> None:
        """Withdraws recipients. times: times (s) of their events by recipient key, 0 if not known.

        Leaves out a recipient who allowed recording again after the event: the event is an old one that came
        again.
        """
        recipients = [key for key, time in times.items() if not await self._is_over(key, time)]
        if not recipients:
            return
        await audit_log.note(self.store, self.who, "withdrawals.by_mail_service", recipients=len(recipients))
        shards = self.settings.shards
        await withdrawals.withdraw(self.store, self.secrets, recipients, self.now, shards)
        for recipient in recipients:
            self.on_withdrawal(recipient)

    async def _is_over(self, recipient: bytes, time: float) -> bool:
        """Returns whether a recipient is withdrawn already, or allowed recording again after a time (s)."""
        periods = await withdrawals.get_periods(self.store, self.secrets, recipient)
        ends = [end for _, end in periods if end is not None]
        return withdrawals.is_withdrawn(periods) or bool(ends and time * 1000 < max(ends))

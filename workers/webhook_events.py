"""Makes the events of webhooks that a commit of the roll-up puts into the shard's outbox.

An event says what the commit makes true: that a recipient has a first open by a person, that there was an
open, or that a burst has taken opens back. It depends on the same stored values as the counters, in the same
commit. So it is in the outbox once, whatever is killed or repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.burst_window import MINUTE_MS
from pixel_server.counters.labels import CLIENT, UNKNOWN
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader
from pixel_server.times import iso_ms
from pixel_server.webhooks import event, outbox
from pixel_server.webhooks.endpoint import Wanted
from pixel_server.webhooks.event import CORRECTION, EACH_OPEN, FIRST_OPEN, MILESTONE, Event
from workers.apply import PeopleChanges
from workers.sums import NotedOpen, Sums, Tally


def wants_opens(wanted: Wanted, campaign: Campaign) -> bool:
    """Returns whether an endpoint wants to know of opens of this campaign. The demo's are made up."""
    is_wanted = wanted.has(FIRST_OPEN, campaign.id) or wanted.has(EACH_OPEN, campaign.id)
    return is_wanted and campaign.made_by != "demo"


class WebhookEvents:
    """The events of one pass. wanted: the events that endpoints want."""

    def __init__(self, secrets: Secrets, wanted: Wanted) -> None:
        self._secrets, self._wanted = secrets, wanted
        self._changes: dict[str, PeopleChanges] = {}
        self._length = 0

    def read_length(self, pipe: Pipeline, shard: int) -> Reader[None]:
        """Reads the length of the shard's outbox, if endpoints want any events."""
        if self._wanted.campaigns:
            pipe.xlen(keys.outbox(shard))
            (length,) = yield
            self._length = int(length)

    def changes_of(self, sums: Sums) -> PeopleChanges | None:
        """Returns where to note the changed records of a campaign's recipients.

        Returns None if no event needs them.
        """
        campaign = sums.campaign
        tells_milestones = self._wanted.has(MILESTONE, campaign.id) and campaign.made_by != "demo"
        if campaign.kind != "email" or not (sums.notes_opens or tells_milestones):
            return None
        return self._changes.setdefault(campaign.id, {})

    def plan(self, shard: int, shards: int, tally: Tally, now: float) -> list[Command]:
        """Returns the commands that put the events into the shard's outbox.

        Call it when `changes_of` each campaign are noted. shards: number of shards. now: Redis's time, s.
        """
        if not self._changes:
            return []
        opens: dict[str, dict[bytes, list[NotedOpen]]] = {}
        for noted in tally.noted_opens:
            opens.setdefault(noted.sums.campaign.id, {}).setdefault(noted.recipient, []).append(noted)
        events: list[Event] = []
        looks = []
        for campaign, changes in self._changes.items():
            sums = tally.sums[campaign]
            if any(new.person and not old.person for old, new in changes.values()):
                looks += [campaign] if self._wanted.has(MILESTONE, campaign) else []
            for recipient, (old, new) in changes.items() if sums.notes_opens else ():
                own = opens.get(campaign, {}).get(recipient, [])
                events += self._of_recipient(sums, recipient, old, new, own, int(now * 1000))
        return outbox.commands(self._secrets, shard, events, looks, self._length, shards)

    def _of_recipient(
        self,
        sums: Sums,
        recipient: bytes,
        old: RecipientRecord,
        new: RecipientRecord,
        opens: list[NotedOpen],
        now_ms: int,
    ) -> Iterator[Event]:
        """Yields the events on one recipient. opens: the recipient's opens of this pass."""
        campaign, secrets = sums.campaign.id, self._secrets
        taken_back = {id(trace) for _, trace in sums.taken_back.get(recipient, ())}
        left = [noted for noted in opens if id(noted.trace) not in taken_back]
        if new.person and not old.person and left and self._wanted.has(FIRST_OPEN, campaign):
            first = min(left, key=lambda noted: (noted.time_ms // 1000 != new.first_person, noted.time_ms))
            event_id = event.open_id(secrets, campaign, recipient, new.first_person)
            yield _open_event(event_id, FIRST_OPEN, first)
        if self._wanted.has(EACH_OPEN, campaign):
            same_instant = Counter[int]()
            for noted in left:
                at_ms = noted.time_ms
                event_id = event.each_open_id(secrets, campaign, recipient, at_ms, same_instant[at_ms])
                same_instant[at_ms] += 1
                yield _open_event(event_id, EACH_OPEN, noted)
        if old.person and taken_back:
            yield from self._correction(
                sums, recipient, old, new, {id(noted.trace) for noted in opens}, now_ms
            )

    def _correction(
        self,
        sums: Sums,
        recipient: bytes,
        old: RecipientRecord,
        new: RecipientRecord,
        of_this_pass: set[int],
        now_ms: int,
    ) -> Iterator[Event]:
        """Yields the event that takes back events of earlier commits, if a burst has taken back their opens.

        of_this_pass: ids of the objects of this pass's traces, whose opens have had no events.
        """
        campaign, secrets = sums.campaign.id, self._secrets
        times = [
            minute * MINUTE_MS + trace.at
            for minute, trace in sums.taken_back[recipient]
            if id(trace) not in of_this_pass
        ]
        corrects = []
        if old.first_person in {at_ms // 1000 for at_ms in times} and self._wanted.has(FIRST_OPEN, campaign):
            corrects.append(event.open_id(secrets, campaign, recipient, old.first_person))
        if self._wanted.has(EACH_OPEN, campaign):
            same_instant = Counter[int]()
            for at_ms in times:
                number = same_instant[at_ms]
                corrects.append(event.each_open_id(secrets, campaign, recipient, at_ms, number))
                same_instant[at_ms] += 1
        if corrects:
            yield event.make(
                event.id_of(secrets, CORRECTION, campaign, recipient, *corrects),
                *(CORRECTION, now_ms, campaign, recipient),
                corrects=corrects,
                opens_taken_back=len(times),
                first_open=iso_ms(new.first_person * 1000) if new.person else None,
            )


def _open_event(event_id: str, event_type: str, noted: NotedOpen) -> Event:
    client = next((label[1:] for label in noted.verdict.labels if label.startswith(CLIENT)), UNKNOWN)
    country = noted.country[1:]
    return event.make(
        event_id,
        *(event_type, noted.time_ms, noted.sums.campaign.id, noted.recipient),
        verdict=noted.verdict.verdict,
        rule=noted.verdict.rule,
        client=None if client == UNKNOWN else client,
        country=None if country in ("", UNKNOWN) else country,
    )

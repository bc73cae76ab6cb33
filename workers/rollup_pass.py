"""One pass of the roll-up of a shard: read, classify, fold, apply."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import redis

from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.judge import Judge, load_judge
from pixel_server.consent import Consent
from pixel_server.counters import burst_window, visit_sample, visitor_salts
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.counters.visitor_salts import Salts
from pixel_server.hit import FORMAT, Hit
from pixel_server.logs import Log, describe
from pixel_server.recipients import consents, withdrawals
from pixel_server.recipients.consents import ConsentTimes
from pixel_server.recipients.withdrawals import Periods
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, checkpoint, keys
from pixel_server.store.checkpoint import Checkpoint, Command, Generation, GenerationChangedError, Records
from pixel_server.store.protocols import Pipeline, Redis
from pixel_server.store.readers import Reader, read, together
from pixel_server.store.script import even_if_full
from pixel_server.store.store_version import VERSION_FIELD, describe_needed_version
from pixel_server.webhooks import storage as webhook_storage
from pixel_server.webhooks.endpoint import NOTHING_WANTED, Wanted
from workers import apply
from workers.bursts import find_bursts
from workers.count_visits import count_visits
from workers.fold import campaign_token_times, fold
from workers.fold_web import salt_days
from workers.stream_reader import (
    MAX_AHEAD_MS,
    Decoded,
    Entry,
    decode_entries,
    read_pass,
)
from workers.sums import Tally
from workers.webhook_events import WebhookEvents

log = Log(__name__)

COMPUTING = threading.Lock()
"""Lock that lets only one thread compute at a time, until its computation ends. If threads took turns, all
of them would finish at the same time, and then all would wait for Redis."""

PASS_HITS, PASS_ENTRIES = 4000, 512
"""Numbers of hits and entries at which a pass stops reading."""
MAX_NEWEST_AHEAD_MS = 600_000
"""Milliseconds that a shard's newest hit may be ahead of Redis's time. A hit further ahead got its time from
a wrong clock, perhaps from Redis's clock before it was corrected. All other hits would be late beside such a
hit, and make no visits. So the time of such a hit is forgotten."""
_TRANSIENT_ERRORS = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|MOVED|ASK|NOSCRIPT"
    r"|NOAUTH|NOPERM|UNBLOCKED|EXECABORT)\b"
)
"""Redis errors that say nothing about the stored values. They are transient, or are mended elsewhere."""


class Outcome(Enum):
    """Result of a pass. NOT_COMMITTED: another writer raised the generation, so nothing changed."""

    COUNTED = "counted"
    EMPTY = "empty"
    NOT_COMMITTED = "not committed"
    STOPPED = "stopped"


class StandstillError(Exception):
    """The shard must stand still until the cause is removed. The message is the cause, for the operator."""


class Lookups(NamedTuple):
    """All that the folding of hits depends on, besides the hits.

    withdrawn: periods in which hits are not counted, by recipient key. consent_times: see
    `recipients.consents`. salt_commands: commands that store new salts. wanted: events that endpoints of
    webhooks want.
    """

    campaigns: Mapping[str, Campaign]
    withdrawn: Mapping[bytes, Periods]
    consent_times: ConsentTimes
    judge: Judge
    salts: Salts
    salt_commands: list[Command]
    wanted: Wanted = NOTHING_WANTED


def _do_nothing() -> None:
    pass


@dataclass(slots=True)
class Rollup:
    """The roll-up of one shard, pass after pass.

    max_entries: largest number of entries that a pass reads. counted: number of hits counted so far.
    burst_hits: number of hits that bursts made a scanner's so far.
    is_behind: whether the last pass stopped at its limit. began_after: id of the last counted entry when the
    last pass began. max_ahead_ms: see `stream_reader.decode_entries`. wake: called after a commit that made
    events of webhooks. has_events: whether the last pass made any.
    """

    store: Redis
    settings: Settings
    secrets: Secrets
    shard: int
    max_entries: int = PASS_ENTRIES
    counted: int = 0
    burst_hits: int = 0
    is_behind: bool = False
    began_after: str = ""
    max_ahead_ms: int = MAX_AHEAD_MS
    wake: Callable[[], None] = _do_nothing
    has_events: bool = False

    def try_pass(self, now: float) -> Outcome:
        """Runs `run_pass`. Stops the shard if the store holds something that this version cannot read."""
        try:
            return self.run_pass(now)
        except redis.ResponseError as error:
            if _TRANSIENT_ERRORS.search(str(error)):
                raise
            reason = f"the store holds a value of another kind: {describe(error)}"[:300]
        except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
            log.error(
                "rollup-failed",
                "shard %(shard)d: a value in the store cannot be read: %(error)s",
                shard=self.shard,
                error=error,
                exc=error,
            )
            reason = f"the store holds a value that this version cannot read: {describe(error)}"[:300]
        return self._stop(reason)

    def run_pass(self, now: float) -> Outcome:
        """Makes one pass: counts up to about PASS_HITS waiting hits, or changes nothing.

        now: Redis's time, s.
        """
        before, entries, is_behind = read_pass(self.store, self.shard, PASS_HITS, self.max_entries)
        self.began_after = before.last_entry
        if before.newest_ms > now * 1000 + MAX_NEWEST_AHEAD_MS:
            return self._forget_newest(before)
        if not entries:
            self.store.delete(keys.stop(self.shard))
            return Outcome.EMPTY
        try:
            decoded, last_entry = self._decode(entries)
            lookups = self._look_up(decoded.hits, before.generation, now)
            tally = self._fold(decoded, lookups)
            commands, records = self._plan(tally, lookups, before, now)
        except GenerationChangedError:
            return Outcome.NOT_COMMITTED
        except NewerFormat as error:
            return self._stop(f"{error}; {self._describe_needed_version()}")
        except StandstillError as error:
            return self._stop(str(error))
        has_erased_hits = _has_erased_hits(decoded.hits, lookups.withdrawn)
        generation = self._commit(before.generation, last_entry, commands, records, has_erased_hits)
        if generation is None:
            return Outcome.NOT_COMMITTED
        if self.has_events:
            self.wake()
        self._log(decoded, tally)
        self.counted += len(decoded.hits)
        burst_rule = lookups.judge.burst_rule_id
        self.burst_hits += sum(sums.rules[burst_rule] for sums in tally.sums.values())
        self.is_behind = is_behind
        return Outcome.COUNTED

    def _decode(self, entries: list[Entry]) -> tuple[Decoded, str]:
        """Returns the hits of the entries, and the id of the last entry decoded."""
        with COMPUTING:
            decoded = decode_entries(entries, self.max_ahead_ms)
        if decoded.last_entry is None:
            raise NewerFormat(f"entry {decoded.newer_entry} has hits of a newer format than {FORMAT}")
        return decoded, decoded.last_entry

    def _look_up(self, hits: list[Hit], generation: Generation, now: float) -> Lookups:
        """Reads what the folding depends on.

        Creates missing campaigns that a token names, and marks all campaigns of the hits as having hits.
        """
        with COMPUTING:
            token_times = campaign_token_times(hits)
            recipients = {hit.recipient for hit in hits} - {b""}

        def campaigns_and_more(
            pipe: Pipeline,
        ) -> Reader[tuple[dict[str, Campaign], ConsentTimes, Salts, list[Command]]]:
            campaigns = yield from storage.seal(pipe, token_times, now, self.settings)
            with COMPUTING:
                day_ends = salt_days(hits, campaigns)
                consenting = _recipients_to_look_up(hits, campaigns)
            consent_times = yield from consents.read_times(pipe, self.shard, consenting)
            salts = yield from visitor_salts.read_or_make(pipe, self.shard, generation, day_ends, now)
            return campaigns, consent_times, *salts

        (campaigns, consent_times, salts, salt_commands), withdrawn, wanted = read(
            self.store,
            lambda pipe: together(
                pipe,
                campaigns_and_more(pipe),
                withdrawals.periods_by_recipient(pipe, self.secrets, recipients),
                webhook_storage.read_wanted(pipe),
            ),
        )
        judge = load_judge(self.settings)
        return Lookups(campaigns, withdrawn, consent_times, judge, salts, salt_commands, wanted)

    def _fold(self, decoded: Decoded, lookups: Lookups) -> Tally:
        """Classifies the hits, and adds them up."""
        consent = Consent(self.settings)
        with COMPUTING:
            tally = fold(
                decoded.hits,
                lookups.campaigns,
                lookups.withdrawn,
                lookups.consent_times,
                consent,
                lookups.judge,
                self.secrets,
                lookups.salts,
                lookups.wanted,
            )
        tally.dead_letters.extend(decoded.unreadable)
        return tally

    def _require_room_for_dead_letters(self, pipe: Pipeline, tally: Tally) -> Reader[None]:
        """Raises StandstillError if the dead-letter queue would become too long.

        An empty queue accepts one whole pass, so that a full queue can be cleared.
        """
        if not tally.dead_letters:
            return
        pipe.xlen(keys.dead(self.shard))
        (stored_letters,) = yield
        if stored_letters and stored_letters + len(tally.dead_letters) > self.settings.max_dead_letters:
            raise StandstillError(
                f"dead letters are full ({self.settings.max_dead_letters}): look at them with "
                "`pixel-server dead-letters list`, then remove them with `pixel-server dead-letters drop`"
            )

    def _plan(
        self, tally: Tally, lookups: Lookups, before: Checkpoint, now: float
    ) -> tuple[list[Command], Records]:
        """Returns the commands and the recipients' records of the commit."""
        judge, shard, records, wanted = lookups.judge, self.shard, Records(), lookups.wanted
        generation, newest_ms = before.generation, before.newest_ms
        people: apply.People = {}
        events = WebhookEvents(self.secrets, wanted)
        _, bursts, visits, last_open_days, _, _ = checkpoint.read_at(
            self.store,
            shard,
            generation,
            lambda pipe: together(
                pipe,
                self._require_room_for_dead_letters(pipe, tally),
                find_bursts(pipe, shard, tally, newest_ms, judge.burst_rule_id),
                count_visits(pipe, shard, tally, newest_ms),
                apply.plan_last_open_days(pipe, shard, tally.last_open_days),
                apply.read_people(pipe, shard, tally, people),
                events.read_length(pipe, shard),
            ),
        )
        commands = lookups.salt_commands + bursts + visits
        sample_size = visit_sample.size_of_shard(self.settings.visit_sample, self.settings.shards)
        for sums, stored in checkpoint.read_at(
            self.store, shard, generation, lambda pipe: apply.read_stored(pipe, shard, tally, people)
        ):
            keep_days = retention.campaign_days(self.settings, sums.campaign)
            changes = events.changes_of(sums)
            with COMPUTING:
                commands += apply.plan(
                    self.shard, sums, stored, keep_days, now, records, sample_size, changes
                )
            commands += apply.plan_rulesets(self.shard, sums, judge.ruleset, now)
        commands += last_open_days
        commands += apply.plan_bookkeeping(self.shard, tally, newest_ms)
        event_commands = events.plan(shard, self.settings.shards, tally, now)
        self.has_events = bool(event_commands)
        return commands + event_commands, records

    def _commit(
        self,
        generation: Generation,
        last_entry: str,
        commands: list[Command],
        records: Records,
        has_erased_hits: bool,
    ) -> Generation | None:
        """Commits the pass. Returns the new generation, or None if another writer was first.

        If the commit trims hits of an erased recipient, asks for an AOF rewrite before and after the commit.
        """
        if has_erased_hits:
            aof_rewrite.request_sync(self.store)
        new = checkpoint.commit(self.store, self.shard, generation, last_entry, commands, records)
        if new is not None and has_erased_hits:
            aof_rewrite.request_sync(self.store)
        return new

    def _forget_newest(self, before: Checkpoint) -> Outcome:
        """Forgets the time of the newest hit, which lies in the future. The next pass counts waiting hits."""
        commands = burst_window.forget_commands(self.shard, before.newest_ms)
        generation = checkpoint.commit(self.store, self.shard, before.generation, "", commands)
        if generation is None:
            return Outcome.NOT_COMMITTED
        log.warning(
            "newest-hit-forgotten",
            "shard %(shard)d: the time of its newest hit lay in the future: forgotten",
            shard=self.shard,
        )
        self.is_behind = True
        return Outcome.COUNTED

    def _log(self, decoded: Decoded, tally: Tally) -> None:
        if decoded.ahead:
            log.warning(
                "hits-ahead",
                "shard %(shard)d: %(hits)d hits came from a web process whose clock is ahead; they are "
                "counted at the time when Redis stored them; check the clocks",
                shard=self.shard,
                hits=decoded.ahead,
            )
        for letter in tally.dead_letters:
            log.error(
                "dead-letter",
                "shard %(shard)d: stored a hit as a dead letter: %(reason)s",
                shard=self.shard,
                reason=letter.reason,
            )

    def _describe_needed_version(self) -> str:
        (stored,) = self.store.hmget(keys.STORE, [VERSION_FIELD])
        return describe_needed_version(stored.decode(errors="replace") if stored else "")

    def _stop(self, reason: str) -> Outcome:
        """Stores why the shard stands still, for /readyz. The next job tries again; no hit is lost."""
        try:
            is_new = self.store.get(keys.stop(self.shard)) != reason.encode()
        except redis.ResponseError:  # the key holds another type; SET replaces it
            is_new = True
        if is_new:
            log.error(
                "shard-stands-still",
                "shard %(shard)d stands still: %(reason)s",
                shard=self.shard,
                reason=reason,
            )
        even_if_full(self.store, "SET", keys.stop(self.shard), reason)
        return Outcome.STOPPED


def _recipients_to_look_up(hits: Iterable[Hit], campaigns: Mapping[str, Campaign]) -> dict[str, set[bytes]]:
    """Returns the recipient keys of hits in campaigns that need a consent, by campaign."""
    found: dict[str, set[bytes]] = {
        campaign.id: set() for campaign in campaigns.values() if consents.needs_consent(campaign)
    }
    for hit in hits if found else ():
        if hit.campaign in found and hit.recipient:
            found[hit.campaign].add(hit.recipient)
    return found


def _has_erased_hits(hits: Iterable[Hit], withdrawn: Mapping[bytes, Periods]) -> bool:
    """Returns whether one of these hits was erased, so that nothing of it may stay on the disk."""
    return bool(withdrawn) and any(
        hit.recipient in withdrawn and withdrawals.was_erased(withdrawn[hit.recipient], hit.time)
        for hit in hits
    )

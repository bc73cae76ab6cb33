"""Folds hits into a tally: drops hits that must not be counted, makes dead letters of hits that cannot be
counted, and adds up all others.

Pure code: the tally depends on the arguments of `fold` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.judge import Judge
from pixel_server.consent import Consent
from pixel_server.counters import burst_window
from pixel_server.counters.visitor_salts import Salts
from pixel_server.hit import EMAIL, WEB, Hit, UnreadableData, encode
from pixel_server.recipients.consents import ConsentTimes
from pixel_server.recipients.withdrawals import Periods, covers
from pixel_server.secret import Secrets
from pixel_server.slug import is_slug
from pixel_server.webhooks.endpoint import NOTHING_WANTED, Wanted
from workers.fold_hit import MODE_COUNT
from workers.fold_mail import add_mail
from workers.fold_web import add_web
from workers.sums import Sums, Tally
from workers.webhook_events import wants_opens

MODE_BITS = 0x07
"""Bits of a hit's flags that name the mode of its link."""
ADDRESS_LENGTHS = (0, 4, 16)
"""Bytes of an address: none, IPv4, IPv6."""
_KINDS = {EMAIL: "email", WEB: "web"}
"""Kind of campaign, by the kind of its hits."""


def campaign_token_times(hits: Iterable[Hit]) -> dict[str, int | None]:
    """Returns, for each campaign of these hits, the newest time (s) of a token that names the campaign.

    The time is None for a campaign that no token names. Only a campaign with a time may be created.
    """
    times: dict[str, int | None] = {}
    for hit in hits:
        if hit.kind == EMAIL:
            newest = times.get(hit.campaign)
            if newest is None or hit.token_time > newest:
                times[hit.campaign] = hit.token_time
        else:
            times.setdefault(hit.campaign, None)
    return {campaign: time for campaign, time in times.items() if is_slug(campaign)}


def fold(
    hits: Iterable[Hit],
    campaigns: Mapping[str, Campaign],
    withdrawn: Mapping[bytes, Periods],
    consent_times: ConsentTimes,
    consent: Consent,
    judge: Judge,
    secrets: Secrets,
    salts: Salts,
    wanted: Wanted = NOTHING_WANTED,
) -> Tally:
    """Returns the tally of these hits. A hit of a campaign that is not in `campaigns` is dropped.

    withdrawn: by recipient key, the periods in which hits of the recipient are not counted. consent_times:
    see `recipients.consents`. salts: salts of the days that `fold_web.salt_days` returns for these hits.
    wanted: events that endpoints of webhooks want.
    """
    tally = Tally()
    trace_hash = secrets.evidence_hash()
    for hit in hits:
        try:
            sums = tally.sums.get(hit.campaign)
            if sums is None:
                campaign = campaigns.get(hit.campaign)
                if campaign is None:
                    _drop_without_campaign(tally, hit)
                    continue
                sums = tally.sums[hit.campaign] = Sums(
                    campaign,
                    consent.rule(campaign.mode, campaign.gpc),
                    burst_window.field(b"", campaign.id),
                    consent_times.get(campaign.id),
                )
                sums.notes_opens = wants_opens(wanted, campaign)
            token_mode = hit.flags & MODE_BITS
            tally.newest_ms = max(tally.newest_ms, hit.time)
            if hit.recipient in withdrawn and covers(withdrawn[hit.recipient], hit.time):
                tally.drops["withdrawn"] += 1
            elif hit.time < 0:
                tally.dead_letters.append(UnreadableData(encode(hit), "time: before 1970"))
            elif len(hit.recipient) != (8 if token_mode > MODE_COUNT else 0):
                tally.dead_letters.append(
                    UnreadableData(encode(hit), "recipient: wrong length for the mode in the flags")
                )
            elif len(hit.address) not in ADDRESS_LENGTHS:
                tally.dead_letters.append(
                    UnreadableData(encode(hit), f"address: wrong length, {len(hit.address)} bytes")
                )
            elif hit.kind not in _KINDS:
                tally.dead_letters.append(UnreadableData(encode(hit), "kind: not known"))
            elif sums.campaign.kind != _KINDS[hit.kind]:
                tally.drops["kind"] += 1
            elif hit.kind == EMAIL:
                add_mail(tally, sums, hit, token_mode, judge, trace_hash)
            else:
                add_web(tally, sums, hit, judge, salts)
        except Exception as error:  # otherwise one hit would stop its shard for good
            _add_dead_letter(tally, hit, error)
    for sums in tally.sums.values():
        sums.settle()
    return tally


def _drop_without_campaign(tally: Tally, hit: Hit) -> None:
    """Counts a hit of a deleted campaign as dropped. Makes a dead letter if the id is not a slug."""
    if is_slug(hit.campaign):
        tally.drops["gone"] += 1
    else:
        tally.dead_letters.append(UnreadableData(encode(hit), "campaign: not a slug"))


def _add_dead_letter(tally: Tally, hit: Hit, error: Exception) -> None:
    """Makes a dead letter of a hit that raised an exception. Raises a MemoryError again.

    The reason leaves out the exception's text, because that may quote the hit.
    """
    if isinstance(error, MemoryError):
        raise error
    tally.dead_letters.append(UnreadableData(encode(hit), f"cannot be counted: {type(error).__name__}"))

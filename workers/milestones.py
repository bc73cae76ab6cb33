"""Milestones of a campaign: 10 %, 25 % and 50 % of the mails sent were opened by a person.

Each is told once, also if `sent` changes later. The figures are `unique_opens_person` and `sent` of the
stats, over all shards. They are compared when opens were counted, and when the campaign was changed, as when
`sent` is set. While a mail service still reports deliveries, its number grows with the opens. So if `sent`
follows from its reports, nothing is told in the first hour after the first hit.
"""

from __future__ import annotations

from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.campaigns.mails import FIELDS as FIELDS_OF_MAILS
from pixel_server.campaigns.mails import mails_of
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Value
from pixel_server.store.script import EVEN_IF_FULL, script_call
from pixel_server.webhooks import event
from pixel_server.webhooks.event import MILESTONE

PERCENTS = (10, 25, 50)
FIELD = "milestones"
"""Field of a campaign's hash with the milestones that already have an event: `"10 25"`."""
CHANGES_FIELD = "changes"
"""Field of `keys.HOOK_MARKS` with the id of the last entry of `keys.CHANGES` that was looked at."""
GROWING_SECONDS = 3600
"""Seconds after the first hit in which reports of a mail service are not taken for the number of mails."""
_MAX_CHANGES = 500

_TELL = (
    EVEN_IF_FULL
    + """
-- KEYS: campaign, notices. ARGV: field, then percents with their events.
-- Stores the events of the milestones that were not told yet. Returns their number.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local told, number = redis.call('HGET', KEYS[1], ARGV[1]) or '', 0
for i = 2, #ARGV, 2 do
  if not string.find(' ' .. told .. ' ', ' ' .. ARGV[i] .. ' ', 1, true) then
    told, number = told .. (told == '' and '' or ' ') .. ARGV[i], number + 1
    redis.call('XADD', KEYS[2], '*', 'mark', string.rep('\\0', 8), 'event', ARGV[i + 1])
  end
end
if number > 0 then redis.call('HSET', KEYS[1], ARGV[1], told) end
return number
"""
)


async def check(store: AsyncRedis, secrets: Secrets, campaign: str, shards: int, now_ms: int) -> int:
    """Puts an event into the notices for each milestone that was reached and has no event yet.

    Returns the number of these events. Does nothing for a campaign that is gone, or whose `sent` is not
    known. shards: number of shards. now_ms: Redis's time.
    """
    record, told, first_hit = await store.hmget(keys.campaign(campaign), ["record", FIELD, "sealed"])
    if record is None or len((told or b"").split()) == len(PERCENTS):
        return 0
    counts = await _sums(store, campaign, shards)
    try:
        decoded = campaigns.decode(record, campaign)
    except UnreadableCampaign:
        return 0
    mails = mails_of(decoded, counts)
    opened, sent = counts["unique_opens_person"], mails.sent
    is_early = now_ms < (int(first_hit or 0) + GROWING_SECONDS) * 1000
    if not sent or decoded.made_by == "demo" or (mails.source == "deliveries" and is_early):
        return 0
    words: list[Value] = []
    for percent in PERCENTS:
        if opened * 100 >= percent * sent:
            event_id = event.id_of(secrets, MILESTONE, campaign, percent)
            reached = event.make(
                event_id, MILESTONE, now_ms, campaign, percent=percent, opened=opened, sent=sent
            )
            words += (percent, event.encode(reached))
    if not words:
        return 0
    call_keys = keys.campaign(campaign), keys.NOTICES
    return int(await store.eval(*script_call(_TELL, keys=call_keys, arguments=(FIELD, *words))))


async def _sums(store: AsyncRedis, campaign: str, shards: int) -> dict[str, int]:
    """Returns the sums of a campaign over all shards, by name."""
    names = ("unique_opens_person", *FIELDS_OF_MAILS)
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hmget(keys.total(shard, campaign), names)
    columns = zip(*await pipe.execute(), strict=True)
    return {
        name: sum(int(count or 0) for count in column) for name, column in zip(names, columns, strict=True)
    }


async def changed_campaigns(store: AsyncRedis) -> tuple[set[str], bytes]:
    """Returns the campaigns that were changed since the last `note_changes`, and the id to pass to that."""
    last = await store.hget(keys.HOOK_MARKS, CHANGES_FIELD)
    if last is None:
        newest = await store.xrevrange(keys.CHANGES, "+", "-", 1)
        return set(), newest[0][0] if newest else b"0-0"
    entries = await store.xrange(keys.CHANGES, b"(" + last, "+", _MAX_CHANGES)
    ids = {fields.get(b"id", b"").decode(errors="replace") for _, fields in entries}
    return ids - {""}, entries[-1][0] if entries else last


async def note_changes(store: AsyncRedis, last: bytes) -> None:
    """Notes that the changes up to this id were looked at."""
    await store.hset(keys.HOOK_MARKS, CHANGES_FIELD, last)

"""Campaigns in the store: created, read, changed, and marked as used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pixel_server.campaigns.campaign import (
    FIELDS,
    Campaign,
    Kind,
    UnreadableCampaign,
    Uses,
    changes_fixed_field,
    decode,
    decode_readable_fields,
    encode,
    encode_change,
    raises_mode,
    refuse_new_preset,
    refuse_unfit,
    report_unreadable,
)
from pixel_server.campaigns.tags import has_tag
from pixel_server.settings import Settings
from pixel_server.slug import is_slug
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis, Pipeline, Value
from pixel_server.store.readers import Reader
from pixel_server.store.script import EVEN_IF_FULL, GLOBAL, ScriptCall, script_call

_PAGE_SIZE = 1000
_AUDITED = frozenset(field.name for field in FIELDS if field.is_audited)


class UnknownCampaign(LookupError):
    """No campaign has this id, or the campaign was deleted."""

    def __init__(self, campaign: str) -> None:
        super().__init__(f"there is no campaign {campaign[:64]!r}")


class CampaignExists(ValueError):
    """The id is taken, or belonged to a deleted campaign."""

    def __init__(self, campaign: str) -> None:
        super().__init__(f"the id {campaign!r} is taken, or belonged to a deleted campaign")


class SealedField(ValueError):
    """The campaign's hits or links forbid the new value of a field."""

    def __init__(self) -> None:
        super().__init__(
            "the time zone and the identity cannot change after the first hit; "
            "the mode can only be lowered after the first hit or link, and the preset consented can then "
            "only be dropped together with a change to the mode count or off"
        )


_CREATE = """
-- KEYS: campaign, campaigns, gone, changes. ARGV: id, record.
-- Returns 1, or 0 if the id is taken, or belonged to a deleted campaign.
if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'id', ARGV[1])
return 1
"""


def _create_call(campaign: Campaign) -> ScriptCall:
    return script_call(
        _CREATE,
        keys=(keys.campaign(campaign.id), keys.CAMPAIGNS, keys.GONE, keys.CHANGES),
        arguments=(campaign.id, encode(campaign)),
    )


_CHANGE = (
    EVEN_IF_FULL
    + """
-- KEYS: campaign, changes. ARGV: record as read, new record, id, then three flags, '1' or '0': the campaign
-- must have no hits, the campaign must have no hits and no links, web processes are not told of the change.
-- Returns 1; 0 if the record has changed since it was read; -1 if hits or links forbid the change.
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
local sealed = redis.call('HEXISTS', KEYS[1], 'sealed') == 1
if ARGV[4] == '1' and sealed then return -1 end
if ARGV[5] == '1' and (sealed or redis.call('HEXISTS', KEYS[1], 'linked') == 1) then return -1 end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
if ARGV[6] ~= '1' then redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'id', ARGV[3]) end
return 1
"""
)


def _change_call(record: bytes, before: Campaign, after: Campaign, *, is_announced: bool) -> ScriptCall:
    """Returns the call that replaces a record. record: the stored bytes of `before`."""
    flags = (changes_fixed_field(before, after), raises_mode(before, after), not is_announced)
    return script_call(
        _CHANGE,
        keys=(keys.campaign(before.id), keys.CHANGES),
        arguments=(record, encode_change(record, after), before.id, *map(int, flags)),
    )


_SEAL = (
    EVEN_IF_FULL
    + """
-- KEYS: campaigns, gone, changes, then each campaign. ARGV: time now (s), then for each campaign: its id, the
-- record to create if it has none (or ''), the time of its newest link (s, or 0).
-- Returns the record of each campaign: '' if it is deleted or unknown, '{}' if the key holds another type.
local out = {}
for i = 4, #KEYS do
  local id, new, linked = ARGV[3 * i - 10], ARGV[3 * i - 9], tonumber(ARGV[3 * i - 8])
  local record = redis.pcall('HGET', KEYS[i], 'record')
  local broken = type(record) == 'table'
  if not record and new ~= '' and redis.call('SISMEMBER', KEYS[2], id) == 0 then
    record = new
    redis.call('HSET', KEYS[i], 'record', record)
    redis.call('ZADD', KEYS[1], 0, id)
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', 10000, '*', 'id', id)
  end
  if broken then record = '{}'
  elseif record then
    redis.call('HSETNX', KEYS[i], 'sealed', ARGV[1])
    if linked > (tonumber(redis.call('HGET', KEYS[i], 'linked')) or 0) then
      redis.call('HSET', KEYS[i], 'linked', linked)
    end
  end
  out[#out + 1] = record or ''
end
return out
"""
)


def _seal_call(link_times: Mapping[str, int | None], now: float, settings: Settings) -> ScriptCall:
    """Returns the call of `seal`."""
    arguments: list[Value] = [int(now)]
    for campaign, link_time in link_times.items():
        record = b"" if link_time is None else encode(_made_by_hit(campaign, now, settings))
        arguments += [campaign, record, min(link_time or 0, int(now))]
    script_keys = (keys.CAMPAIGNS, keys.GONE, keys.CHANGES, *map(keys.campaign, link_times))
    return script_call(_SEAL, keys=script_keys, arguments=arguments)


def _made_by_hit(campaign: str, now: float, settings: Settings) -> Campaign:
    return Campaign(
        id=campaign,
        name=campaign,
        kind="email",
        mode=settings.default_mode,
        time_zone=settings.time_zone,
        created=int(now),
        made_by="hit",
    )


_PAGE = """
-- KEYS: campaigns. ARGV: prefix of the keys of campaigns, first id, number of campaigns.
-- Returns the ids and their records: nil if the campaign was just deleted, '{}' for a key of another type.
local ids, records = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, ARGV[3]), {}
for i, id in ipairs(ids) do
  local record = redis.pcall('HGET', ARGV[1] .. id, 'record')
  records[i] = type(record) == 'table' and '{}' or record
end
return {ids, records}
"""


def _page_call(start: str, limit: int) -> ScriptCall:
    """Returns the call that reads a page. start: argument of ZRANGEBYLEX: `(spring` begins after spring."""
    return script_call(
        _PAGE, keys=(keys.CAMPAIGNS,), arguments=(keys.campaign(""), start, limit), undeclared=GLOBAL
    )


_NOTE_USE = (
    EVEN_IF_FULL
    + """
-- KEYS: campaign. ARGV: field that holds the time of the last use, time of this use (s), and optionally the
-- field that holds the time of the first use.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[3] then redis.call('HSETNX', KEYS[1], ARGV[3], ARGV[2]) end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""
)


def _note_use_call(
    campaign: str, now: float, *, last_field: str, first_field: str | None = None
) -> ScriptCall:
    first = () if first_field is None else (first_field,)
    return script_call(_NOTE_USE, keys=(keys.campaign(campaign),), arguments=(last_field, int(now), *first))


async def create(store: AsyncRedis, campaign: Campaign) -> None:
    """Stores a new campaign. Raises CampaignExists if the id is or was another campaign's."""
    if not await store.eval(*_create_call(campaign)):
        raise CampaignExists(campaign.id)


async def is_taken(store: AsyncRedis, campaign: str) -> bool:
    """Returns whether an id is or was another campaign's."""
    return bool(await store.exists(keys.campaign(campaign)) or await store.sismember(keys.GONE, campaign))


async def get(store: AsyncRedis, campaign: str) -> Campaign:
    """Returns a campaign. Raises UnknownCampaign, or UnreadableCampaign if its record cannot be read."""
    return decode(await _get_record(store, campaign), campaign)


async def _get_record(store: AsyncRedis, campaign: str) -> bytes:
    record: bytes | None = None
    if is_slug(campaign):
        record = await store.hget(keys.campaign(campaign), "record")
    if record is None:
        raise UnknownCampaign(campaign)
    return record


def queue_record(pipe: Pipeline, campaign: str) -> None:
    """Queues the reading of a campaign's record, for `unpack_record`."""
    pipe.hget(keys.campaign(campaign), "record")


def unpack_record(record: bytes | None, campaign: str) -> Campaign | None:
    """Returns the campaign of a record. Returns None if `record` is None or cannot be read."""
    try:
        return None if record is None else decode(record, campaign)
    except UnreadableCampaign as error:
        report_unreadable(error)
        return None


_USES_FIELDS = ["record", "sealed", "linked", "uploaded"]


def queue_uses(pipe: Pipeline, campaign: str) -> None:
    """Queues the reading of a campaign's stored record and of the times of its uses.

    The record is None if no campaign has this id.
    """
    pipe.hmget(keys.campaign(campaign), _USES_FIELDS)


async def get_uses(store: AsyncRedis, campaign: str) -> tuple[Campaign, Uses]:
    """Returns a campaign, and the times of its uses. Raises UnknownCampaign or UnreadableCampaign."""
    record, *times = await store.hmget(keys.campaign(campaign), _USES_FIELDS)
    if record is None:
        raise UnknownCampaign(campaign)
    return decode(record, campaign), Uses(*(_parse_time(at, campaign) for at in times))


def _parse_time(value: bytes | None, campaign: str) -> int:
    try:
        return int(value or 0)
    except ValueError:
        raise UnreadableCampaign(campaign, "a time that is not a number") from None


async def page(
    store: AsyncRedis, after: str | None, limit: int, unreadable: list[str] | None = None
) -> tuple[list[Campaign], str | None]:
    """Returns a page of campaigns in the order of their ids, and the cursor of the next page (None after the
    last).

    Leaves out campaigns whose record cannot be read, and adds their ids to `unreadable`.
    """
    pipe = store.pipeline(transaction=False)
    queue_page(pipe, after, limit)
    (reply,) = await pipe.execute()
    return unpack_page(reply, limit, unreadable)


async def page_with_tag(
    store: AsyncRedis, after: str | None, limit: int, tag: str
) -> tuple[list[Campaign], str | None]:
    """Returns what `page` returns, of the campaigns that have a tag. Reads all campaigns up to the last of
    the page.
    """
    tagged: list[Campaign] = []
    while True:
        campaigns, after = await page(store, after, _PAGE_SIZE)
        tagged += [campaign for campaign in campaigns if has_tag(campaign.tags, tag)]
        if len(tagged) > limit:
            return tagged[:limit], tagged[limit - 1].id
        if after is None:
            return tagged, None


def queue_page(pipe: Pipeline, after: str | None, limit: int) -> None:
    """Queues the reading of a page, for `unpack_page`."""
    start = "-" if after is None else f"({after}"
    pipe.eval(*_page_call(start, limit + 1))


def unpack_page(
    reply: Any, limit: int, unreadable: list[str] | None = None
) -> tuple[list[Campaign], str | None]:
    """Returns what `page` returns, from the reply to `queue_page`."""
    ids, records = reply
    campaigns = []
    for campaign, record in zip((stored_id.decode() for stored_id in ids[:limit]), records, strict=False):
        try:
            if record is not None:
                campaigns.append(decode(record, campaign))
        except UnreadableCampaign as error:
            report_unreadable(error)
            if unreadable is not None:
                unreadable.append(campaign)
    return campaigns, next_cursor(reply, limit)


def next_cursor(reply: Any, limit: int) -> str | None:
    """Returns the cursor of the page after the page of a reply to `queue_page`, None after the last page."""
    ids, _ = reply
    return ids[limit - 1].decode() if len(ids) > limit else None


def has_campaigns(reply: Any) -> bool:
    """Returns whether the page of a reply to `queue_page` has any campaign, readable or not."""
    ids, _ = reply
    return bool(ids)


async def ids_of_kind(store: AsyncRedis, kind: Kind) -> list[str]:
    """Returns the ids of all campaigns of a kind and of all unreadable campaigns, sorted."""
    ids: list[str] = []
    after: str | None = None
    while True:
        campaigns, after = await page(store, after, _PAGE_SIZE, ids)
        ids += [campaign.id for campaign in campaigns if campaign.kind == kind]
        if after is None:
            return sorted(ids)


def changed(before: Campaign, uses: Uses, fields: Mapping[str, Any]) -> Campaign:
    """Returns a campaign with new values of fields. Stores nothing.

    Raises UnfitField if a field does not fit the kind or the other fields, or SealedField if hits or links
    forbid the new value of a field.
    """
    after = msgspec.structs.replace(before, **fields)
    refuse_unfit(before.kind, fields, after)
    refuse_new_preset(before, after)
    if (uses.first_hit and changes_fixed_field(before, after)) or (
        (uses.first_hit or uses.last_link) and raises_mode(before, after)
    ):
        raise SealedField
    return after


async def change(store: AsyncRedis, campaign: str, fields: dict[str, Any], who: str) -> Campaign:
    """Checks and stores new values of fields. Returns the changed campaign. who: name for the audit log.

    Raises UnknownCampaign, and what `changed` raises.
    """
    before, uses = await get_uses(store, campaign)
    after = changed(before, uses, fields)
    if after == before:
        return before  # an empty change must not fill the audit log or wake all web processes
    if audited := _AUDITED & fields.keys():
        shown = ",".join(sorted(audited))
        await audit_log.note(store, who, "campaign.changed", campaign=campaign, fields=shown)
    return await amend(store, campaign, lambda before: msgspec.structs.replace(before, **fields))


async def amend(
    store: AsyncRedis, campaign: str, edit: Callable[[Campaign], Campaign], *, is_announced: bool = True
) -> Campaign:
    """Applies `edit` to the campaign as it is now, and returns the result.

    is_announced: whether web processes must learn of the change. Raises UnknownCampaign,
    UnreadableCampaign or SealedField.
    """
    while True:
        record = await _get_record(store, campaign)
        before = decode(record, campaign)
        after = edit(before)
        status = await store.eval(*_change_call(record, before, after, is_announced=is_announced))
        if status == 1:
            return after
        if status == -1:
            raise SealedField


async def note_links(store: AsyncRedis, campaign: str, now: float) -> None:
    """Records that links of a campaign are made. From now on its mode can only be lowered. now: seconds."""
    await store.eval(*_note_use_call(campaign, now, last_field="linked"))


async def note_upload(store: AsyncRedis, campaign: str, now: float) -> None:
    """Records that recipients of a campaign are uploaded. now: seconds.

    The field `listed` holds the time of the first upload, and `uploaded` that of the last upload.
    """
    await store.eval(*_note_use_call(campaign, now, last_field="uploaded", first_field="listed"))


def seal(
    pipe: Pipeline, link_times: dict[str, int | None], now: float, settings: Settings
) -> Reader[dict[str, Campaign]]:
    """Marks campaigns as having hits, which makes some of their fields final. Returns the campaigns by id.

    link_times: maps each id to a time (s), or to None if the hits opened no valid link. Of the links that the
    hits opened, the newest was created at this time. A valid link creates a missing campaign. The result
    lacks campaigns that were deleted or are unknown.
    """
    if not link_times:
        return {}
    pipe.eval(*_seal_call(link_times, now, settings))
    (records,) = yield
    campaigns = {}
    for campaign, record in zip(link_times, records, strict=True):
        try:
            if record:
                campaigns[campaign] = decode(record, campaign)
        except UnreadableCampaign as error:
            report_unreadable(error)
            kind: Kind = "web" if link_times[campaign] is None else "email"
            campaigns[campaign] = decode_readable_fields(record, campaign, kind)
    return campaigns

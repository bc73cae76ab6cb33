"""Campaigns: made, read, changed, deleted.

A deleted campaign leaves a tombstone: its id is never given again. Deletion first sets the tombstone,
then raises the generation of each shard, so that every roll-up that has not seen the tombstone fails to
commit; then nothing can bring a key back, and the keys go in bounded steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import msgspec

from pixel_server import consent
from pixel_server.campaigns import purge
from pixel_server.settings import Settings, Signals, cookie_path
from pixel_server.slug import is_slug
from pixel_server.store import aof_rewrite, audit_log, checkpoint, keys
from pixel_server.store.client import AsyncRedis, Redis
from pixel_server.times import iso
from pixel_server.tokens import MODES

log = logging.getLogger("pixel_server.campaigns.storage")

Kind = Literal["email", "web"]
Identity = Literal["cookieless", "cookie", "own"]
"""What a visitor of a web campaign is told by: a hash of address and user agent, another each day; a cookie,
where the page says that its reader agreed, else as before; the id that the page gives."""
IDENTITIES: tuple[Identity, ...] = get_args(Identity)
OF_WEB = ("identity", "origins")
"""Fields that only a web campaign has."""
OF_MAIL = ("sent", "bounced", "sent_at")
"""Fields that only a mail campaign has."""
AUDITED = frozenset({"mode", "keep", "sent_at", "gpc", "identity"})
"""Changes of these decide on what is kept of people."""
MIN_CELL = 5
MOST_CHANGES = 1000
"""Read at once; of more, all campaigns are read anew."""


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """What retention has taken. buckets: those before (s). days: local ones before (YYYYMMDD)."""

    buckets: int = 0
    days: str = ""
    recipients: bool = False
    names: bool = False


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """What hits are counted under. created: seconds. made_by: `api`, `hit` if a good token came first, or
    `demo`: it is made up.

    mode: how much is kept of a recipient at most. gpc: see `consent.Signals`; None: as the server does.
    identity, origins: of a web campaign; whose pages may send with `p.js`, () for all (`https://host:port`).
    min_cell: visits (or opens) of a day below which a shared key is not shown a figure apart.
    sent, bounced: mails. sent_at: seconds. keep: days by kind, where fewer than the server's. closed_at:
    seconds; from then on its hits are only counted. leaving: what all go by as gone; gone: what really is,
    when retention has ended.
    """

    id: str
    name: str
    kind: Kind
    sent: int | None = None
    bounced: int = 0
    time_zone: str = "UTC"
    base_url: str | None = None
    mode: str = "pseudonymous"
    gpc: Signals | None = None
    identity: Identity = "cookieless"
    origins: tuple[str, ...] = ()
    min_cell: int = MIN_CELL
    sent_at: int | None = None
    keep: dict[str, int] = {}
    closed_at: int | None = None
    created: int = 0
    made_by: Literal["api", "hit", "demo"] = "api"
    leaving: Gone = Gone()
    gone: Gone = Gone()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class Uses(NamedTuple):
    """When it was used, in seconds; 0: never. first_hit: when the roll-up first saw one."""

    first_hit: int
    last_link: int
    last_upload: int


class Unknown(LookupError):
    """No such campaign, or it was deleted."""


class Exists(ValueError):
    """The id is taken, or was: a deleted campaign's id is never given again."""


class Unfit(ValueError):
    """A field that a campaign of this kind has not, or that does not go with the others."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


SEALED = (
    "after the first hit time zone and identity are fixed; after that or the first link, the mode only falls"
)


class Sealed(ValueError):
    """See SEALED."""


class Unreadable(ValueError):
    """A campaign's record cannot be read: a newer version wrote it, or it is damaged. It is left as it is."""

    def __init__(self, campaign: str, why: str) -> None:
        super().__init__(f"the record of campaign {campaign!r} cannot be read ({why}), and is left as it is")
        self.campaign = campaign


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Campaign).decode
_LATEST = 253_402_300_799
"""Seconds since 1970 at the end of the year 9999, after which no date can be shown."""


def decode(record: Any, campaign: str) -> Campaign:
    """Returns the campaign that a stored record holds. Raises Unreadable if this version cannot read it."""
    try:
        found = _decode(record)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(campaign, str(error)[:200] or type(error).__name__) from None
    if why := _fault(found, campaign):
        raise Unreadable(campaign, why)
    return found


def _fault(found: Campaign, campaign: str) -> str:
    """Returns what of a decoded record this version does not know, or ""."""
    if found.id != campaign:
        return "it is another campaign's"
    if found.mode not in MODES:
        return "unknown mode"
    if not _is_zone(found.time_zone):
        return "unknown time zone"
    times = (found.created, found.sent_at or 0, found.closed_at or 0)
    if not all(0 <= at <= _LATEST for at in times):
        return "a time out of range"
    try:
        cookie_path(found.base_url)
    except ValueError:
        return "a base URL that is not a URL"
    return ""


@lru_cache(1024)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def decode_rest(record: Any, campaign: str, kind: Kind) -> Campaign:
    """Returns what can be read of a record that `decode` cannot read, so that its hits are counted.

    kind: of its hits. Where the time zone is not known, days are those of UTC; where the mode is not
    known, nothing is kept of recipients (`count`).
    """
    try:
        held = msgspec.json.decode(record)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        held = None
    fields: dict[str, Any] = {"id": campaign, "name": campaign, "kind": kind, "mode": "count"}
    for name, value in held.items() if isinstance(held, dict) else ():
        if name in ("id", "name"):
            continue
        raw = _encode({**fields, name: value})
        with suppress(Unreadable):
            decode(raw, campaign)
            fields[name] = value
    return decode(_encode(fields), campaign)


_told: set[tuple[str, str]] = set()


def tell_unreadable(error: Unreadable) -> None:
    """Logs an unreadable record, once in the life of this process."""
    if len(_told) < 10_000 and (error.campaign, str(error)) not in _told:
        _told.add((error.campaign, str(error)))
        log.error("%s; its hits are treated as the campaign was last known: update this server", error)


_CREATE = """
-- KEYS: campaign, campaigns, gone, changes. ARGV: id, record.
-- Returns 1, or 0 if the id is or was taken.
if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'id', ARGV[1])
return 1
"""

_DELETE = """#!lua flags=allow-oom
-- KEYS: campaign, campaigns, gone, changes, deleting, dropped, notes, shares. ARGV: id, what the names of
-- shares begin with. Returns 1, or 0 if there is none.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1], ARGV[1] .. ':out', ARGV[1] .. ':origin')
for _, share in ipairs(redis.call('SMEMBERS', KEYS[8])) do redis.call('DEL', ARGV[2] .. share) end
redis.call('DEL', KEYS[7], KEYS[8])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'id', ARGV[1])
return 1
"""

_CHANGE = """#!lua flags=allow-oom
-- KEYS: campaign, changes. ARGV: record as read, new record, id, '1' if only before the first hit,
-- '1' if only before the first hit or link, '1' if web processes need not know.
-- Returns 1; 0 if the record has moved; -1 if hits or links have fixed it.
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
local sealed = redis.call('HEXISTS', KEYS[1], 'sealed') == 1
if ARGV[4] == '1' and sealed then return -1 end
if ARGV[5] == '1' and (sealed or redis.call('HEXISTS', KEYS[1], 'linked') == 1) then return -1 end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
if ARGV[6] ~= '1' then redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'id', ARGV[3]) end
return 1
"""

_SEAL = """#!lua flags=allow-oom
-- KEYS: campaigns, gone, changes, then each campaign. ARGV: seconds now, then for each campaign its id, the
-- record it gets if there is none, or '', and when its last link was made, or 0. Marks each as having hits.
-- Returns a record each, '' for one that is gone or unknown, '{}' where the key holds another type.
local out = {}
for i = 4, #KEYS do
  local id, made, linked = ARGV[3 * i - 10], ARGV[3 * i - 9], tonumber(ARGV[3 * i - 8])
  local record = redis.pcall('HGET', KEYS[i], 'record')
  local broken = type(record) == 'table'
  if not record and made ~= '' and redis.call('SISMEMBER', KEYS[2], id) == 0 then
    record = made
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


_PAGE = """
-- KEYS: campaigns. ARGV: what the names of campaigns begin with, where to begin, how many.
-- Returns ids, and a record each: nothing for one that was just deleted, '{}' for a key of another type.
local ids, records = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, ARGV[3]), {}
for i, id in ipairs(ids) do
  local record = redis.pcall('HGET', ARGV[1] .. id, 'record')
  records[i] = type(record) == 'table' and '{}' or record
end
return {ids, records}
"""


async def create(store: AsyncRedis, campaign: Campaign) -> None:
    """Exists: the id is taken, or was."""
    names = (keys.campaign(campaign.id), keys.CAMPAIGNS, keys.GONE, keys.CHANGES)
    if not await store.eval(_CREATE, 4, *names, campaign.id, _encode(campaign)):
        raise Exists(campaign.id)


async def get(store: AsyncRedis, campaign: str) -> Campaign:
    """Unknown: there is none. Unreadable: its record cannot be read."""
    record = await store.hget(keys.campaign(campaign), "record") if is_slug(campaign) else None
    if record is None:
        raise Unknown(campaign)
    return decode(record, campaign)


async def page(
    store: AsyncRedis, after: str | None, limit: int, broken: list[str] | None = None
) -> tuple[list[Campaign], str | None]:
    """(campaigns in order of their ids, the cursor of the next page or None).

    Leaves out those whose record cannot be read; adds their ids to `broken`.
    """
    pipe = store.pipeline(transaction=False)
    ask_page(pipe, after, limit)
    (answer,) = await pipe.execute()
    return take_page(answer, limit, broken)


def ask_page(pipe: Any, after: str | None, limit: int) -> None:
    """Queues the reading of a page, for `take_page`."""
    start = "-" if after is None else f"({after}"
    pipe.eval(_PAGE, 1, keys.CAMPAIGNS, keys.campaign(""), start, limit + 1)


def take_page(answer: Any, limit: int, broken: list[str] | None = None) -> tuple[list[Campaign], str | None]:
    """As `page`."""
    ids, records = answer
    following = ids[limit - 1].decode() if len(ids) > limit else None
    found = []
    for name, record in zip((name.decode() for name in ids[:limit]), records, strict=False):
        try:
            if record is not None:
                found.append(decode(record, name))
        except Unreadable as error:
            tell_unreadable(error)
            if broken is not None:
                broken.append(name)
    return found, following


def ask(pipe: Any, campaign: str) -> None:
    """Queues the reading of a campaign's record, for `take`."""
    pipe.hget(keys.campaign(campaign), "record")


def take(record: bytes | None, campaign: str) -> Campaign | None:
    """Returns None if there is no such campaign, or its record cannot be read."""
    try:
        return None if record is None else decode(record, campaign)
    except Unreadable as error:
        tell_unreadable(error)
        return None


async def version(store: AsyncRedis) -> bytes:
    """Another one whenever a campaign was made, changed or deleted, but for what retention writes."""
    last = await store.xrevrange(keys.CHANGES, "+", "-", 1)
    return bytes(last[0][0]) if last else b""


async def changes(store: AsyncRedis, since: bytes) -> tuple[set[str], bytes] | None:
    """(the campaigns made, changed or deleted since this version, the version now). None: there are too many,
    or it cannot be told any more."""
    pipe = store.pipeline(transaction=False)
    ask_changes(pipe, since)
    (entries,) = await pipe.execute()
    return take_changes(entries, since)


def ask_changes(pipe: Any, since: bytes) -> None:
    """Queues the reading of what has changed since this version, for `take_changes`."""
    pipe.xrange(keys.CHANGES, since or "-", "+", MOST_CHANGES)


def take_changes(entries: Any, since: bytes) -> tuple[set[str], bytes] | None:
    """As `changes`."""
    if len(entries) == MOST_CHANGES or (since and (not entries or entries[0][0] != since)):
        return None
    if any(b"id" not in fields for _, fields in entries):
        return None
    changed = {fields[b"id"].decode(errors="replace") for entry, fields in entries if entry != since}
    return changed, bytes(entries[-1][0]) if entries else since


async def every(store: AsyncRedis, kind: Kind) -> list[str]:
    """The ids of all campaigns of a kind, in order, and of those whose record cannot be read."""
    found: list[str] = []
    after: str | None = None
    while True:
        part, after = await page(store, after, 1000, found)
        found += [campaign.id for campaign in part if campaign.kind == kind]
        if after is None:
            return sorted(found)


async def change(store: AsyncRedis, campaign: str, fields: dict[str, Any], who: str) -> Campaign:
    """The campaign with these fields. who: for the audit log.

    Unknown: there is none. Unfit, Sealed: a field is of another kind of campaign, does not go with the
    others, or is fixed.
    """
    before, used = await uses(store, campaign)
    after = msgspec.structs.replace(before, **fields)
    refuse_unfit(before.kind, fields, after)
    if _is_sealed(before, after, bool(used.first_hit), bool(used.first_hit or used.last_link)):
        raise Sealed(SEALED)
    if after == before:
        return before  # else a key could fill the audit log, and have all web processes look, with nothing
    if audited := AUDITED & fields.keys():
        shown = ",".join(sorted(audited))
        await audit_log.note(store, who, "campaign.changed", campaign=campaign, fields=shown)
    return await amend(store, campaign, lambda before: msgspec.structs.replace(before, **fields))


def refuse_unfit(kind: str, fields: Iterable[str], made: Campaign) -> None:
    """Unfit: a campaign of this kind has not all of these fields, or they do not go together."""
    if kind == "email" and (of_web := sorted(set(OF_WEB).intersection(fields))):
        raise Unfit(of_web[0], f"{' and '.join(OF_WEB)} are for web campaigns")
    if kind == "web":
        for name in OF_MAIL:
            if getattr(made, name) and name in fields:
                raise Unfit(name, f"{' and '.join(OF_MAIL)} are for mail campaigns")
    if made.sent is not None and made.bounced > made.sent and {"sent", "bounced"}.intersection(fields):
        raise Unfit("bounced", f"no more mails can come back than were sent: {made.bounced}, {made.sent}")


def _is_sealed(before: Campaign, after: Campaign, has_hits: bool, is_used: bool) -> bool:
    return (has_hits and _is_before_hits(before, after)) or (is_used and _is_before_links(before, after))


def _is_before_hits(before: Campaign, after: Campaign) -> bool:
    """Whether this change may only be made before the first hit."""
    return after.time_zone != before.time_zone or after.identity != before.identity


def _is_before_links(before: Campaign, after: Campaign) -> bool:
    """Whether this change may only be made before the first hit and the first link."""
    return consent.mode(after.mode) > consent.mode(before.mode)


async def amend(
    store: AsyncRedis, campaign: str, made: Callable[[Campaign], Campaign], *, quiet: bool = False
) -> Campaign:
    """What `made` makes of a campaign as it is now. quiet: web processes need not know. As `change`."""
    while True:
        record = await store.hget(keys.campaign(campaign), "record") if is_slug(campaign) else None
        if record is None:
            raise Unknown(campaign)
        before = decode(record, campaign)
        after = made(before)
        names = (keys.campaign(campaign), keys.CHANGES)
        rules = (int(_is_before_hits(before, after)), int(_is_before_links(before, after)), int(quiet))
        done = await store.eval(_CHANGE, 2, *names, record, _keep_unknown(record, after), campaign, *rules)
        if done == 1:
            return after
        if done == -1:
            raise Sealed(SEALED)


def _keep_unknown(record: bytes, after: Campaign) -> bytes:
    """Returns the new record, with fields of a newer version that the old record holds."""
    return _encode({**msgspec.json.decode(record), **msgspec.to_builtins(after)})


async def note_links(store: AsyncRedis, campaign: str, now: float) -> None:
    """Links of this campaign are made: its mode can only be lowered from now on."""
    await store.eval(_USED, 1, keys.campaign(campaign), "linked", int(now))


async def note_upload(store: AsyncRedis, campaign: str, now: float) -> None:
    """Recipients of this campaign are uploaded."""
    await store.eval(_USED, 1, keys.campaign(campaign), "uploaded", int(now), "listed")


_USED = """#!lua flags=allow-oom
-- KEYS: campaign. ARGV: field of the last time, seconds; if given, field of the first time.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[3] then redis.call('HSETNX', KEYS[1], ARGV[3], ARGV[2]) end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


async def uses(store: AsyncRedis, campaign: str) -> tuple[Campaign, Uses]:
    """A campaign, and when it was used. Unknown: there is none. Unreadable: its record cannot be read."""
    fields = ["record", "sealed", "linked", "uploaded"]
    record, *times = await store.hmget(keys.campaign(campaign), fields)
    if record is None:
        raise Unknown(campaign)
    return decode(record, campaign), Uses(*(_time(at, campaign) for at in times))


def _time(value: bytes | None, campaign: str) -> int:
    try:
        return int(value or 0)
    except ValueError:
        raise Unreadable(campaign, "a time that is not a number") from None


async def delete(store: AsyncRedis, campaign: str, shards: int) -> None:
    """Removes a campaign and every key of it; its tombstone stays. Unknown: there is none."""
    names = (
        *(keys.campaign(campaign), keys.CAMPAIGNS, keys.GONE, keys.CHANGES, keys.DELETING, keys.DROPPED),
        *(keys.notes(campaign), keys.shares(campaign)),
    )
    if not is_slug(campaign) or not await store.eval(_DELETE, 8, *names, campaign, keys.share("")):
        raise Unknown(campaign)
    await _purge(store, campaign, shards)


async def finish_deletions(store: AsyncRedis, shards: int) -> list[str]:
    """Carries on with deletions that a crash cut short; those it finished."""
    left = [name.decode() for name in await store.smembers(keys.DELETING)]
    for campaign in left:
        await _purge(store, campaign, shards)
    return left


async def _purge(store: AsyncRedis, campaign: str, shards: int) -> None:
    for shard in range(shards):
        await checkpoint.raise_generation(store, shard)
        await purge.whole(store, shard, campaign)
    await aof_rewrite.ask(store)
    await store.srem(keys.DELETING, campaign)


def seal(store: Redis, wanted: dict[str, int | None], now: float, settings: Settings) -> dict[str, Campaign]:
    """The campaigns that hits are counted under, marked as having hits, so that their zone is fixed.

    wanted: id -> when the last of its links that came was made (s), so that the campaign is made if there is
    none, as the settings say; None: no good link came.
    Missing from the answer: those that are gone, or unknown.
    """
    ids = list(wanted)
    arguments: list[str | bytes | int] = [int(now)]
    for name in ids:
        made = Campaign(
            id=name,
            name=name,
            kind="email",
            mode=settings.default_mode,
            time_zone=settings.time_zone,
            created=int(now),
            made_by="hit",
        )
        linked = wanted[name]
        arguments += [name, b"" if linked is None else _encode(made), min(linked or 0, int(now))]
    names = [keys.CAMPAIGNS, keys.GONE, keys.CHANGES, *(keys.campaign(name) for name in ids)]
    records = store.eval(_SEAL, len(names), *names, *arguments)
    found = {}
    for name, record in zip(ids, records, strict=True):
        try:
            if record:
                found[name] = decode(record, name)
        except Unreadable as error:
            tell_unreadable(error)
            found[name] = decode_rest(record, name, "web" if wanted[name] is None else "email")
    return found


def to_json(campaign: Campaign) -> dict[str, Any]:
    """As the API shows it."""
    shown: dict[str, Any] = msgspec.to_builtins(campaign)
    for field in ("created", "sent_at", "closed_at"):
        if shown[field] is not None:
            shown[field] = iso(shown[field])
    del shown["leaving"], shown["gone"]
    if campaign.kind == "email":
        shown["identity"] = shown["origins"] = None
    return shown


def new(
    id: str,  # noqa: A002 - the field's own name
    name: str,
    kind: Kind,
    sent: int | None = None,
    time_zone: str = "UTC",
    base_url: str | None = None,
    mode: str = "pseudonymous",
    gpc: Signals | None = None,
    bounced: int = 0,
    sent_at: int | None = None,
    keep: dict[str, int] | None = None,
    identity: Identity = "cookieless",
    origins: tuple[str, ...] = (),
    min_cell: int = MIN_CELL,
    created: float | None = None,
) -> Campaign:
    """A campaign made now. created: seconds; None: by the clock of this machine."""
    return Campaign(
        id=id,
        name=name,
        kind=kind,
        sent=sent,
        time_zone=time_zone,
        base_url=base_url,
        mode=mode,
        gpc=gpc,
        bounced=bounced,
        sent_at=sent_at,
        keep=keep or {},
        identity=identity,
        origins=origins,
        min_cell=min_cell,
        created=int(time.time() if created is None else created),
    )

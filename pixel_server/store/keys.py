"""The table of all keys in Redis: type, lifetime, content, writer and reader of each kind.

Call a kind to get the name of a key: `keys.people(3, "spring", 0x1f4)` is `px:{3}:people:spring:1f4`. In
patterns {s} is a shard's number, ID is a campaign, and {all} is literal. A cluster keeps keys with the same
hash tag (the part in braces) together, and no command names keys with different hash tags. No part of a
name is a text that a stranger chose. The job queue's own keys are `rq:*`.

Writers and readers are processes, or parts of processes: `web` is any web process, `cli` the commands,
`stats` the code of the figures, `all` everything, `readyz` the health check and the command `doctor`. A
recipient's mark is a keyed hash of the recipient key. The store's mark is a random text by which an emptied
store is noticed (`store_mark`).

The inventory takes patterns and lifetimes from this table, and the removal of campaigns takes the kinds.
A test compares a used store with this table.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pixel_server.store.key import (
    BucketKey,
    CampaignBucketKey,
    CampaignDayKey,
    CampaignKey,
    GlobalKey,
    Key,
    NumberKey,
    ShardKey,
)

MAX_BEAT_SKEW_SECONDS = 60
"""Seconds by which a beat in WORKERS may lie in the future. A later beat was written by a wrong clock."""

PEOPLE_BUCKETS = 4096
"""Number of hashes over which a campaign's recipients of one shard are spread. With 1 million recipients in
4 shards each hash holds 61. With up to 8 million recipients, each hash stays within Redis's compact form (512
entries a hash)."""

_QUEUED = "a day, and {settings.keep_webhooks:,} days if set aside"
_AFTER_SENDING = "{settings.keep_recipients:,} days after sending"

# fmt: off

# Single keys. Each entry: pattern, type, lifetime; content, writer, reader.
STORE = Key("px:{all}:store", "hash", "forever",
    "format, number of shards, store's marks", writer="first start", reader="all").name
SIGNERS = Key("px:{all}:signers", "set", "forever",
    "fingerprints of signing keys", writer="start", reader="start").name
CAMPAIGNS = Key("px:{all}:campaigns", "zset", "forever",
    "ids of campaigns, in order", writer="api", reader="api").name
GONE = Key("px:{all}:gone", "set", "forever",
    "ids of deleted campaigns", writer="api", reader="all").name
DELETING = Key("px:{all}:deleting", "set", "until the deletion ends",
    "ids of campaigns whose deletion has not ended", writer="api", reader="maintenance").name
CHANGES = Key("px:{all}:changes", "stream", "the last 10,000",
    "ids of campaigns created or changed", writer="api, roll-up", reader="web").name
DROPPED = Key("px:{all}:dropped", "hash", "until the campaign is deleted",
    "requests that were not recorded, see `dropped_field`", writer="web", reader="stats").name
WITHDRAWN = Key("px:{all}:withdrawn", "hash", "forever, so that the recipients stay unrecorded",
    "periods of withdrawal, by recipient's mark", writer="privacy, api", reader="all").name
WITHDRAWAL_CHANGES = Key("px:{all}:withdrawals", "stream", "the last 100,000",
    "recipients' marks whose withdrawal changed", writer="privacy, api", reader="web").name
OWED_ERASURES = Key("px:{all}:erasing", "zset", "until done",
    "masked recipient keys, by the time their erasure is due", writer="privacy", reader="maintenance").name
ERASURE_TIMES = Key("px:{all}:erasures", "zset", "1 hour",
    "recipients' marks, by the time of erasure", writer="privacy, maintenance", reader="privacy").name
ACTIONS = Key("px:{all}:actions", "stream", "the last 10,000",
    "what recipients did on the privacy page", writer="privacy", reader="api, cli").name
ACTION_COUNTS = Key("px:{all}:acted", "hash", "forever",
    "number of these actions, by action", writer="privacy", reader="api, cli").name
AUDIT = Key("px:{all}:audit", "stream", "the last 10,000",
    "who did what", writer="api, cli, retention", reader="api, cli").name
API_KEYS = Key("px:{all}:apikeys", "set", "forever",
    "ids of API keys", writer="api", reader="api").name
REWRITE = Key("px:{all}:rewrite", "hash", "forever",
    "rewrites of the append-only files: asked, answered, waiting; answered by each node",
    writer="erasure, schedule", reader="schedule, readyz").name
SWEEP = Key("px:{all}:sweep", "hash", "forever",
    "position of the retention run, removals that wait", writer="retention", reader="retention, readyz").name
LOSSES = Key("px:{all}:losses", "hash", "60 days",
    "batches that Redis lost", writer="web", reader="readyz, cli").name
WORKERS = Key("px:{all}:workers", "zset", "10 seconds an entry",
    "workers, by the time of their last beat", writer="workers", reader="readyz, roll-up").name
NONE = Key("px:{all}:none", "string", "never made",
    "nothing, see `script.script_call`", writer="none", reader="scripts").name
MERGED = Key("px:{all}:merged", "hash", "forever",
    "what is merged over shards, see `merged`", writer="workers", reader="workers, stats").name
CLOCKS = Key("px:{all}:clocks", "hash", "a minute",
    "processes with a wrong clock", writer="web, workers", reader="readyz, cli").name
REPLICATED = Key("px:{all}:replicated", "string", "1 second",
    "nothing, see `replication.confirm`", writer="all", reader="none").name

HOSTS = Key("px:{all}:hosts", "hash", "60 days an entry",
    "last beat of each host: spool, hashes of settings", writer="web, workers", reader="readyz, cli").name
NETWORKS = Key("px:{all}:networks", "hash", "forever",
    "refreshed lists of networks, see `classify.network_store`", writer="workers, cli",
    reader="web, workers, readyz").name

WEBHOOKS = Key("px:{all}:webhooks", "hash", "until deleted",
    "endpoints of webhooks with their secrets, by id", writer="api, workers", reader="all").name
NOTICES = Key("px:{all}:notices", "stream", "until moved to the queues, within seconds",
    "events of webhooks that belong to no shard", writer="privacy, api, workers", reader="workers").name
COURIER = Key("px:{all}:courier", "string", "3 seconds",
    "the worker that sends events", writer="workers", reader="workers, schedule").name
HOOK_MARKS = Key("px:{all}:hookmarks", "hash", "forever",
    "what events were made of: troubles of the server, last change of a campaign",
    writer="workers", reader="workers").name

# A key for each endpoint of webhooks.
hook_events = GlobalKey("px:{all}:hookevents:HOOK", "hash", _QUEUED,
    "events that wait or are set aside: recipient's mark or zeros, event", writer="workers, api",
    reader="workers")
hook_units = GlobalKey("px:{all}:hookunits:HOOK", "hash", _QUEUED,
    "requests: number of tries, time (ms), ids of events", writer="workers, api", reader="workers, api")
hook_due = GlobalKey("px:{all}:hookdue:HOOK", "zset", _QUEUED,
    "requests, by the time (ms) of the next try", writer="workers, api", reader="workers, api")
hook_aside = GlobalKey("px:{all}:hookaside:HOOK", "zset", "{settings.keep_webhooks:,} days",
    "requests set aside, by time (ms)", writer="workers", reader="api, workers")
hook_log = GlobalKey("px:{all}:hooklog:HOOK", "stream", "{settings.keep_webhooks:,} days, the last 1,000",
    "tries: type of event, answer", writer="workers", reader="api")
hook_state = GlobalKey("px:{all}:hookstate:HOOK", "hash", "until deleted",
    "successes, failures and losses of an endpoint", writer="workers", reader="all")

SOURCES = Key("px:{all}:sources", "set", "forever",
    "ids of sources of events", writer="api, cli", reader="api, cli").name

# A key for each id, or each minute since 1970.
campaign = GlobalKey("px:{all}:campaign:ID", "hash", "until the campaign is deleted",
    "record and times of use", writer="api, roll-up", reader="api, roll-up")
notes = GlobalKey("px:{all}:notes:ID", "hash", "until the campaign is deleted",
    "notes, by id", writer="api", reader="api, stats")
shares = GlobalKey("px:{all}:shares:ID", "set", "until the campaign is deleted",
    "ids of share links", writer="api", reader="api")
share = GlobalKey("px:{all}:share:KEY", "hash", "until revoked, or the campaign is deleted",
    "hash of the token, record, last use", writer="api, pages", reader="api, pages")
api_key = GlobalKey("px:{all}:apikey:KEY", "hash", "until revoked",
    "hash of the key, name, scopes, times", writer="api", reader="api")
sign_in = GlobalKey("px:{all}:signin:LINK", "string", "10 minutes, one use",
    "id of an API key, by hash of the link's token", writer="up, cli", reader="pages")
source = GlobalKey("px:{all}:source:KEY", "hash", "until removed",
    "hash of the secret, record with the provider's key, numbers of events", writer="api, cli, pages",
    reader="api, cli, pages")
signed_out = GlobalKey("px:{all}:signedout:SESSION", "string", "12 hours",
    "sessions that ended, by hash of the cookie", writer="pages", reader="pages")
acts = GlobalKey("px:{all}:acts:MINUTE", "hash", "2 minutes",
    "number of actions on the privacy page, by recipient's mark", writer="privacy", reader="privacy")

# A key for each shard. Some kinds have a key for each shard and minute, end of a day, or bucket.
hits = ShardKey("px:{s}:hits", "stream", "until counted",
    "batches of hits", writer="recorder", reader="roll-up")
producers = ShardKey("px:{s}:producers", "hash", "30 idle days an entry",
    "last sequence and time of each producer; store's mark", writer="recorder", reader="recorder")
moved_producers = ShardKey("px:{s}:moved", "hash", "until the copy is cancelled",
    "producers of a store that is being copied", writer="copy", reader="copy")
checkpoint = ShardKey("px:{s}:turn", "hash", "forever",
    "checkpoint, mark, time of newest hit", writer="the shard's writers", reader="the shard's writers")
lead = ShardKey("px:{s}:lead", "string", "1.5 seconds",
    "set while other writers wait for the roll-up", writer="roll-up", reader="the shard's other writers")
visits = ShardKey("px:{s}:visits", "hash", "an hour of hit time, at most a day",
    "packed visits under way", writer="roll-up", reader="roll-up")
visit_times = ShardKey("px:{s}:lasts", "zset", "an hour of hit time, at most a day",
    "visits under way, by the time (ms) of their last hit", writer="roll-up", reader="roll-up")
visiting = ShardKey("px:{s}:visiting", "hash", "an hour of hit time, at most a day",
    "number of visits under way, by campaign", writer="roll-up", reader="roll-up")
changed = ShardKey("px:{s}:changed", "zset", "until merged",
    "changed values, by number of the change", writer="the shard's writers", reader="workers")
drops = ShardKey("px:{s}:drops", "hash", "forever",
    "hits dropped, by reason", writer="roll-up", reader="readyz")
dead = ShardKey("px:{s}:dead", "stream", "{settings.keep_dead_letters:,} days",
    "hits that could not be read", writer="roll-up", reader="readyz, cli")
stop = ShardKey("px:{s}:stop", "string", "until the shard goes on",
    "why the shard stands still", writer="roll-up", reader="readyz")
outbox = ShardKey("px:{s}:outbox", "stream", "until moved to the queues, within seconds",
    "events of webhooks, each with its recipient", writer="roll-up", reader="workers")
evidence = NumberKey("px:{s}:evidence:MINUTE", "hash", "6 minutes of hit time, at most a day",
    "hits that may belong to a burst, by minute since 1970", writer="roll-up", reader="roll-up")
salt = NumberKey("px:{s}:salt:END", "string", "48 hours after their day",
    "salt of visitors' hashes, by the end (s) of a local day", writer="roll-up", reader="roll-up")
replicated = ShardKey("px:{s}:replicated", "string", "1 second",
    "nothing, see `replication.confirm`", writer="all", reader="none")
none = ShardKey("px:{s}:none", "string", "never made",
    "nothing, see `script.script_call`", writer="none", reader="scripts")
last = BucketKey("px:{s}:last:BUCKET", "hash", "{settings.keep_recipients:,} days",
    "day of the last open, mode `last`", writer="roll-up", reader="api, retention")

# A key for each shard and campaign. Some kinds have a key for each shard, campaign and day or bucket.
# With many shards, the keys of stats exist with the tag {all} too: merged over all shards, see `merged`.
total = CampaignKey("px:{s}:total:ID", "hash", "until the campaign is deleted",
    "sums of all time, last hit", writer="roll-up, api", reader="stats")
rules = CampaignKey("px:{s}:rules:ID", "hash", "until the campaign is deleted",
    "hits, by id of the rule that judged them", writer="roll-up", reader="stats")
breakdown = CampaignKey("px:{s}:breakdown:ID", "hash", "{settings.keep_days:,} days",
    "packed opens of people, by month", writer="roll-up", reader="stats")
months = CampaignKey("px:{s}:months:ID", "hash", "{settings.keep_days:,} days",
    "packed days, by month", writer="roll-up", reader="stats")
addresses = CampaignKey("px:{s}:addresses:ID", "hll", "until the campaign is deleted",
    "client addresses", writer="roll-up", reader="stats")
visitors = CampaignKey("px:{s}:visitors:ID", "hll", "until the campaign is deleted",
    "web visitors of all time", writer="roll-up", reader="stats")
daily_visitors = CampaignDayKey("px:{s}:visitors:ID:DAY", "hll", "{settings.keep_days:,} days",
    "web visitors of a local day", writer="roll-up", reader="stats")
web = CampaignDayKey("px:{s}:web:ID:DAY", "hash", "{settings.keep_days:,} days",
    "views and visits of a local day, by name", writer="roll-up", reader="stats")
sample = CampaignDayKey("px:{s}:sample:ID:DAY", "hash", "90 days",
    "records of some visits of a local day", writer="roll-up", reader="stats")
buckets = CampaignDayKey("px:{s}:buckets:ID:DAY", "string", "{settings.keep_buckets:,} days",
    "packed 15-minute buckets of a UTC day", writer="roll-up", reader="stats")
people = CampaignBucketKey("px:{s}:people:ID:BUCKET", "hash", _AFTER_SENDING,
    "packed recipients", writer="roll-up", reader="roll-up, api")
listed = CampaignBucketKey("px:{s}:listed:ID:BUCKET", "hash", _AFTER_SENDING,
    "recipients on the list, day of their last mail", writer="api", reader="api")
deliveries = CampaignBucketKey("px:{s}:deliveries:ID:BUCKET", "hash", _AFTER_SENDING,
    "packed facts that a mail service told of recipients' mails", writer="web, cli", reader="web, cli")
consents = CampaignBucketKey("px:{s}:consents:ID:BUCKET", "hash", _AFTER_SENDING,
    "packed references of consent, by recipient key", writer="api", reader="roll-up, api")
names = CampaignBucketKey("px:{s}:names:ID:BUCKET", "hash", "{settings.keep_names:,} days after sending",
    "packed recipients with their names", writer="api", reader="api")
# fmt: on

TABLE = Key.TABLE
"""All kinds, by pattern."""
_BY_SHAPE = {(key.kind_name, key.pattern.count(":")): key for key in TABLE.values()}

K = TypeVar("K", bound=Key)


def kinds(key_class: type[K]) -> list[K]:
    """Returns the kinds that are of a class, for example `CampaignKey`: a key for each shard and campaign."""
    return [key for key in TABLE.values() if isinstance(key, key_class)]


def kind_of(name: str) -> Key | None:
    """Returns the kind of a key by its name, None if the table does not have the key."""
    kind = "".join(name.split(":")[2:3])
    return _BY_SHAPE.get((kind, name.count(":")))


def dropped_field(campaign: str, reason: Literal["gpc", "out", "origin"]) -> str:
    """Returns the field of DROPPED that counts a campaign's requests that were not recorded for this reason.

    gpc: the request came with GPC or DNT. out: the browser has opted out. origin: the campaign does not
    allow the origin of the page. The fields of gpc and out leave out the later requests of a page view, which
    report how long the page was seen.
    """
    return campaign if reason == "gpc" else f"{campaign}:{reason}"

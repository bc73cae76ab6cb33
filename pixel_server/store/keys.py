"""Every key in Redis: what it holds, how long it lives, who writes and who reads it.

{s} is a shard's number, {all} stands as it is: keys with one tag lie together on a cluster, and no
command names keys of two tags. ID is a campaign. The job queue's own keys are `rq:*`. A test compares
a used store with this table. No key is made from anything that a stranger chooses.

key                          type    lives                writer: content                     reader
px:{all}:store               hash    forever              first start: format, shards, marks  all
px:{all}:signers             set     forever              start: prints of signing keys       every start
px:{all}:campaigns           zset    forever              api: ids, in order                  api
px:{all}:campaign:ID         hash    until deleted        api, roll-up: record, times of use  api, roll-up
px:{all}:gone                set     forever              api: deleted ids                    all
px:{all}:dropped             hash    until deleted        web: requests dropped, see `dropped` stats
px:{all}:withdrawn           hash    forever              privacy, api: periods, by mark      all
px:{all}:withdrawals         stream  last 100,000         privacy, api: marks that changed    web
px:{all}:deleting            set     until deletion ends  api: deletions not yet finished     schedule
px:{all}:changes             stream  last 10,000          api, roll-up: id made, changed, ... web
px:{all}:apikeys             set     forever              api: ids of API keys                api
px:{all}:apikey:KEY          hash    until revoked        api: hash, name, scopes, times      api
px:{all}:signin:LINK         string  10 minutes, one use  up, cli: API key's id, by hash      sign-in page
px:{all}:signedout:SESSION   string  12 hours             sign-out: by hash of the cookie     pages
px:{all}:notes:ID            hash    until deleted        api: notes, by id                   api, stats
px:{all}:shares:ID           set     until deleted        api: ids of share links             api
px:{all}:share:KEY           hash    until revoked        api, pages: hash, record, last use  api, pages
px:{all}:audit               stream  last 10,000          api, cli, retention: who did what   api, cli
px:{all}:actions             stream  last 10,000          privacy: what recipients did        api, cli
px:{all}:acted               hash    forever              privacy: how often, by what         api, cli
px:{all}:acts:MINUTE         hash    2 minutes            privacy: actions, by mark           privacy
px:{all}:erasing             zset    until done           privacy: masked keys, when due      chores
px:{all}:erasures            zset    1 hour               privacy, chores: marks, when done   privacy
px:{all}:rewrite             hash    forever              erasure, chores: asked, answered    schedule
px:{all}:sweep               hash    forever              retention: where it goes on         retention
px:{all}:losses              hash    60 days              web: batches that Redis lost        readyz, cli
px:{all}:workers             zset    10 s an entry        workers: name and last beat         readyz
px:{all}:clocks              hash    a minute             all: processes with a wrong clock   readyz
px:{s}:hits                  stream  until counted        recorder: batches                   roll-up
px:{s}:producers             hash    30 days idle         recorder: last sequence, ms; mark   recorder
px:{s}:turn                  hash    forever              its writers: checkpoint            the same
px:{s}:lead                  string  1.5 s                roll-up: it commits next            other writers
px:{s}:total:ID              hash    until deleted        roll-up: sums of all time, last hit stats
px:{s}:rules:ID              hash    until deleted        roll-up: hits by id of a rule       stats
px:{s}:breakdown:ID          hash    PIXEL_KEEP_DAYS_...  roll-up: opens of people, packed    stats
px:{s}:evidence:MINUTE       hash    6 minutes, or a day* roll-up: hits that may be bursts    roll-up
px:{s}:salt:END              string  47 h after a day     roll-up: what visitors are hashed with  roll-up
px:{s}:visits                hash    1 hour, or a day*    roll-up: visits under way, packed    roll-up
px:{s}:lasts                 zset    1 hour, or a day*    roll-up: their last times, ms        roll-up
px:{s}:visiting              hash    1 hour, or a day*    roll-up: how many, by campaign       roll-up
px:{s}:web:ID:DAY            hash    PIXEL_KEEP_DAYS_...  roll-up: views and visits, by name   stats
px:{s}:months:ID             hash    PIXEL_KEEP_DAYS_...  roll-up: packed days, by month      stats
px:{s}:buckets:ID:DAY        string  PIXEL_KEEP_DAYS_...  roll-up: packed 15 minutes of a day stats
px:{s}:people:ID:BUCKET      hash    PIXEL_KEEP_DAYS_...  roll-up: packed recipients          roll-up
px:{s}:listed:ID:BUCKET      hash    PIXEL_KEEP_DAYS_...  api: recipients, day of last mail    api
px:{s}:names:ID:BUCKET       hash    PIXEL_KEEP_DAYS_...  upload: packed recipient and name   api
px:{s}:last:BUCKET           hash    PIXEL_KEEP_DAYS_...  roll-up: day of last open, mode last roll-up
px:{s}:addresses:ID          HLL     until deleted        roll-up: client addresses           stats
px:{s}:visitors:ID           HLL     until deleted        roll-up: web visitors               stats
px:{s}:visitors:ID:DAY       HLL     PIXEL_KEEP_DAYS_...  roll-up: web visitors of a day      stats
px:{s}:drops                 hash    forever              roll-up: hits dropped, by reason    readyz
px:{s}:dead                  stream  PIXEL_KEEP_DAYS_...  roll-up: hits that were unreadable  readyz, cli
px:{s}:stop                  string  until it goes on     roll-up: why the shard stands still readyz

* Of hit time, while hits are counted; else a day of the clock, also where hits wait because the shard stands
still.
"""

from __future__ import annotations

from typing import Literal

STORE = "px:{all}:store"
SIGNERS = "px:{all}:signers"
CAMPAIGNS = "px:{all}:campaigns"
GONE = "px:{all}:gone"
WITHDRAWN = "px:{all}:withdrawn"
WITHDRAWALS = "px:{all}:withdrawals"
DROPPED = "px:{all}:dropped"
DELETING = "px:{all}:deleting"
CHANGES = "px:{all}:changes"
API_KEYS = "px:{all}:apikeys"
WORKERS = "px:{all}:workers"
CLOCKS = "px:{all}:clocks"
LOSSES = "px:{all}:losses"
AUDIT = "px:{all}:audit"
ACTIONS = "px:{all}:actions"
ACTED = "px:{all}:acted"
ERASING = "px:{all}:erasing"
ERASURES = "px:{all}:erasures"
REWRITE = "px:{all}:rewrite"
SWEEP = "px:{all}:sweep"

SKEW = 60
"""Seconds. A beat (WORKERS) from further in the future is nobody's: it was written by another clock."""

PEOPLE_BUCKETS = 4096
"""Hashes a campaign's recipients of one shard are spread over; with 1 million recipients in 4 shards
each holds 61, and up to 8 million in all stay within Redis's compact form (512 entries a hash)."""


def campaign(campaign: str) -> str:
    return f"px:{{all}}:campaign:{campaign}"


def dropped(campaign: str, why: Literal["gpc", "out", "origin"]) -> str:
    """A field of DROPPED. Opens and views that came with GPC or DNT, or by a browser that opted out (a report
    of a view's time is not counted again); requests from a page of an origin the campaign does not know."""
    return campaign if why == "gpc" else f"{campaign}:{why}"


def api_key(key: str) -> str:
    return f"px:{{all}}:apikey:{key}"


def sign_in(digest: str) -> str:
    """digest: of a link's token, hexadecimal."""
    return f"px:{{all}}:signin:{digest}"


def signed_out(digest: str) -> str:
    """digest: of a session's cookie, hexadecimal."""
    return f"px:{{all}}:signedout:{digest}"


def acts(minute: int) -> str:
    """minute: since 1970."""
    return f"px:{{all}}:acts:{minute}"


def notes(campaign: str) -> str:
    return f"px:{{all}}:notes:{campaign}"


def shares(campaign: str) -> str:
    return f"px:{{all}}:shares:{campaign}"


def share(share: str) -> str:
    return f"px:{{all}}:share:{share}"


def hits(shard: int) -> str:
    return f"px:{{{shard}}}:hits"


def producers(shard: int) -> str:
    return f"px:{{{shard}}}:producers"


def checkpoint(shard: int) -> str:
    return f"px:{{{shard}}}:turn"


def lead(shard: int) -> str:
    return f"px:{{{shard}}}:lead"


def total(shard: int, campaign: str) -> str:
    return f"px:{{{shard}}}:total:{campaign}"


def rules(shard: int, campaign: str) -> str:
    return f"px:{{{shard}}}:rules:{campaign}"


def breakdown(shard: int, campaign: str) -> str:
    return f"px:{{{shard}}}:breakdown:{campaign}"


def evidence(shard: int, minute: int) -> str:
    """minute: since 1970, of the hits' own time."""
    return f"px:{{{shard}}}:evidence:{minute}"


def salt(shard: int, end: int) -> str:
    """end: of its local day, seconds."""
    return f"px:{{{shard}}}:salt:{end}"


def visits(shard: int) -> str:
    return f"px:{{{shard}}}:visits"


def lasts(shard: int) -> str:
    return f"px:{{{shard}}}:lasts"


def visiting(shard: int) -> str:
    return f"px:{{{shard}}}:visiting"


def web(shard: int, campaign: str, day: str) -> str:
    """day: of the campaign's zone, YYYYMMDD."""
    return f"px:{{{shard}}}:web:{campaign}:{day}"


def months(shard: int, campaign: str) -> str:
    return f"px:{{{shard}}}:months:{campaign}"


def buckets(shard: int, campaign: str, day: str) -> str:
    """day: of UTC, YYYYMMDD."""
    return f"px:{{{shard}}}:buckets:{campaign}:{day}"


def people(shard: int, campaign: str, bucket: int) -> str:
    return f"px:{{{shard}}}:people:{campaign}:{bucket:03x}"


def listed(shard: int, campaign: str, bucket: int) -> str:
    return f"px:{{{shard}}}:listed:{campaign}:{bucket:03x}"


def names(shard: int, campaign: str, bucket: int) -> str:
    return f"px:{{{shard}}}:names:{campaign}:{bucket:03x}"


def last(shard: int, bucket: int) -> str:
    return f"px:{{{shard}}}:last:{bucket:03x}"


def addresses(shard: int, campaign: str) -> str:
    return f"px:{{{shard}}}:addresses:{campaign}"


def visitors(shard: int, campaign: str, day: str = "") -> str:
    """day: of the campaign's zone, YYYYMMDD; without one, all time."""
    return f"px:{{{shard}}}:visitors:{campaign}" + (f":{day}" if day else "")


def drops(shard: int) -> str:
    return f"px:{{{shard}}}:drops"


def dead(shard: int) -> str:
    return f"px:{{{shard}}}:dead"


def stop(shard: int) -> str:
    return f"px:{{{shard}}}:stop"

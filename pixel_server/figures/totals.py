"""What a campaign came to over all time: its sums, whom it went to, its rate; and what of it is not known.

`stats` shows it of one campaign, `overview` of many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pixel_server.campaigns.campaign import Campaign, Kind
from pixel_server.consent import Consent
from pixel_server.figures import open_rate
from pixel_server.store import keys, producer
from pixel_server.store.protocols import Pipeline
from pixel_server.tokens import Mode

COUNTS = {
    "email": ("hits", "opens", "unique_opens", "unique_opens_person", "opens_anonymous", "hits_gpc"),
    "web": (
        *("hits", "views", "views_bot", "visits", "bounces", "visits_new", "visits_returning"),
        *("views_no_visitor", "views_no_visit", "hits_gpc"),
    ),
}
"""Sums that are shown, by kind of campaign; each is kept of all time, and by day."""
OF_WHOM = (
    *("unique_opens", "unique_opens_person", "unique_visitors", "unique_ips"),
    *("visits", "bounces", "visits_new", "visits_returning"),
)
"""What is not known where nobody is told apart."""
UNIQUES = {"email": "unique_opens_person", "web": "unique_visitors"}
"""The one figure of how many different people there were, by kind of campaign; machines are none."""
OF_MANY = (
    *("last_hit", "mailed", "unique_opens", "unique_opens_person", "opens_anonymous"),
    *("recipients_hidden", "recipients_hidden_person"),
)
"""What is read of many campaigns at once; the time of the last hit first, for it is not a sum."""

Figures = dict[str, int | None]


@dataclass(slots=True)
class Kept:
    """What shards hold of a campaign over all time. visitors: an estimate, that adds up over shards."""

    counts: dict[str, int] = field(default_factory=dict)
    visitors: int = 0
    last_hit: int | None = None

    def add(self, counts: Mapping[str, int], visitors: int) -> None:
        """One shard's. counts: the fields of `keys.total`."""
        for name, value in counts.items():
            if name == "last_hit":
                self.last_hit = max(value, self.last_hit or 0) or None
            else:
                self.counts[name] = self.counts.get(name, 0) + value
        self.visitors += visitors


def follows(campaign: Campaign, consent: Consent) -> bool:
    """Whether its recipients or visitors are told apart."""
    return consent.rule(campaign.mode, None).mode >= Mode.PSEUDONYMOUS


def sent(campaign: Campaign, kept: Kept) -> int | None:
    """Mails, as the sender says; else those whose links were made with `sent`."""
    return campaign.sent if campaign.sent is not None else kept.counts.get("mailed") or None


def delivered(campaign: Campaign, kept: Kept) -> int | None:
    mails = sent(campaign, kept)
    return None if mails is None else max(0, mails - campaign.bounced)


def figures(campaign: Campaign, kept: Kept, followed: bool) -> Figures:
    """The sums of all time. followed: see `follows`."""
    found: Figures = {name: kept.counts.get(name, 0) for name in COUNTS[campaign.kind]}
    if campaign.kind == "web":
        found["unique_visitors"] = kept.visitors
    hide(found, campaign, followed)
    return found


def shown(campaign: Campaign, kept: Kept, followed: bool) -> tuple[Figures, open_rate.Rate | None, bool]:
    """(sums, the open rate, whether more opened than were delivered), of all time."""
    found = figures(campaign, kept, followed)
    return found, *rate(found, delivered(campaign, kept), kept.counts)


def hide(found: dict[str, Any], campaign: Campaign, followed: bool) -> None:
    """Makes null what is not known, as nobody is told apart: at all, or by a cookie."""
    if not followed:
        for name in OF_WHOM:
            if name in found:
                found[name] = None
    if campaign.kind == "web" and campaign.identity != "cookie":
        found["visits_new"] = found["visits_returning"] = None


def rate(found: Figures, mails: int | None, counts: Mapping[str, int]) -> tuple[open_rate.Rate | None, bool]:
    """(the open rate, whether more opened than were delivered). found: sums that are shown. mails: that were
    delivered. counts: who is hidden, over all time; of a range nothing is known of that."""
    opened, person = found.get("unique_opens"), found.get("unique_opens_person")
    anonymous = found.get("opens_anonymous")
    if mails is None or opened is None or person is None or anonymous is None:
        return None, False
    hidden, both = counts.get("recipients_hidden", 0), counts.get("recipients_hidden_person", 0)
    # In a range, a recipient's first open by a person may lie in it, and the first open before it.
    opened = max(opened, person + hidden - both)
    return open_rate.open_rate(open_rate.Openers(mails, opened, person, hidden, both, anonymous))


_OF_MANY = """
-- KEYS: what the names of totals and of visitors begin with. ARGV: campaigns, each with the first letter of
-- its kind and a colon before it, and blanks between; fields. Returns of each campaign the fields (0 where
-- there is none) and its visitors (of mail, 0), packed: a list of numbers.
local out = {}
for kind, campaign in string.gmatch(ARGV[1], '(%a):(%S+)') do
  for _, value in ipairs(redis.call('HMGET', KEYS[1] .. campaign, unpack(ARGV, 2))) do
    out[#out + 1] = tonumber(value or 0)
  end
  out[#out + 1] = kind == 'w' and redis.call('PFCOUNT', KEYS[2] .. campaign) or 0
end
return cmsgpack.pack(out)
"""

_numbers = msgspec.msgpack.Decoder(list[int]).decode


class Named(Protocol):
    """A campaign, as far as its sums can be found by it."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...


def ask_many(pipe: Pipeline, campaigns: Sequence[Named], shards: int) -> None:
    """Queues what `take_many` takes: of many campaigns what the open rate and unique figures need."""
    wanted = " ".join(f"{campaign.kind[0]}:{campaign.id}" for campaign in campaigns)
    for shard in range(shards):
        names = (keys.total(shard, ""), keys.visitors(shard, ""))
        pipe.eval(_OF_MANY, 2, *names, wanted, *OF_MANY)


def take_many(answers: Sequence[bytes], campaigns: Sequence[Named]) -> dict[str, Kept]:
    """An answer a shard -> campaign -> its sums, only OF_MANY among them."""
    width = len(OF_MANY) + 1
    shards = [_numbers(answer) for answer in answers]
    last_hits = list(map(max, zip(*(numbers[::width] for numbers in shards), strict=True)))
    sums = list(map(sum, zip(*shards, strict=True)))
    found = {}
    for i, campaign in enumerate(campaigns):
        _, *counts, visitors = sums[i * width : (i + 1) * width]
        found[campaign.id] = Kept(dict(zip(OF_MANY[1:], counts, strict=True)), visitors, last_hits[i] or None)
    return found


def ask_as_of(pipe: Pipeline, shards: int) -> None:
    """Queues what `as_of` is made of: before all else that is read."""
    pipe.time()
    for shard in range(shards):
        producer.queue_oldest_entry(pipe, shard)


def as_of(answers: list[Any]) -> int:
    """ms: every hit that reached the stream before is counted in what was read after these."""
    (seconds, micros), *oldest = answers
    waiting = [int(entry.partition(b"-")[0]) for entry in oldest if entry]
    return int(min([seconds * 1000 + micros // 1000, *waiting]))

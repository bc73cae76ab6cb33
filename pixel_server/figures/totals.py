"""A campaign's totals of all time: its sums, its mails sent and delivered, and its open rate.

`stats` shows them for one campaign, `overview` for many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pixel_server.campaigns.campaign import Campaign, Kind
from pixel_server.campaigns.mails import Mails, mails_of
from pixel_server.consent import Consent
from pixel_server.counters.delivery_record import KINDS
from pixel_server.counters.delivery_record import Kind as DeliveryKind
from pixel_server.figures import open_rate
from pixel_server.store import keys
from pixel_server.store.key import Tag
from pixel_server.store.protocols import Pipeline
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.tokens import Mode

COUNTS = {
    "email": ("hits", "opens", "unique_opens", "unique_opens_person", "opens_anonymous", "hits_gpc"),
    "web": (
        *("hits", "views", "views_bot", "visits", "bounces", "visits_new", "visits_returning"),
        *("views_no_visitor", "views_no_visit", "hits_gpc"),
    ),
}
"""Names of the sums that are shown, by kind of campaign. Each sum is stored for all time and by day."""
PEOPLE_FIGURES = (
    *("unique_opens", "unique_opens_person", "unique_visitors", "unique_ips"),
    *("visits", "bounces", "visits_new", "visits_returning"),
)
"""Names of the figures that are null if the campaign does not tell people apart."""
UNIQUES = {"email": "unique_opens_person", "web": "unique_visitors"}
"""Name of the figure that counts different people, by kind of campaign. It leaves machines out."""
OVERVIEW_FIELDS: dict[Kind, tuple[str, ...]] = {
    "email": (
        *("last_hit", "mailed", "unique_opens", "unique_opens_person", "opens_anonymous"),
        *("recipients_hidden", "recipients_hidden_person"),
        *("delivered", "bounced_hard", "bounced_soft"),
    ),
    "web": ("last_hit", "views"),
}
"""Fields of `keys.total` that are read for many campaigns at once, by kind of campaign. The first is a time,
the others are sums."""

Figures = dict[str, int | None]


@dataclass(slots=True)
class Sums:
    """The sums of a campaign over all shards. visitors: an estimate. last_hit: seconds since 1970."""

    counts: dict[str, int] = field(default_factory=dict)
    visitors: int = 0
    last_hit: int | None = None

    def add(self, counts: Mapping[str, int], visitors: int) -> None:
        """Adds the sums of a shard. counts: fields of `keys.total`. Each visitor is in one shard only."""
        for name, value in counts.items():
            if name == "last_hit":
                self.last_hit = max(value, self.last_hit or 0) or None
            else:
                self.counts[name] = self.counts.get(name, 0) + value
        self.visitors += visitors


def tells_people_apart(campaign: Campaign, consent: Consent) -> bool:
    """Returns whether the campaign's mode tells its recipients or visitors apart."""
    return consent.rule(campaign.mode, None).mode >= Mode.PSEUDONYMOUS


def mails(campaign: Campaign, sums: Sums) -> Mails:
    """Returns the numbers of mails, see `campaigns.mails`."""
    return mails_of(campaign, sums.counts)


def deliveries(sums: Sums) -> dict[DeliveryKind, int] | None:
    """Returns what mail services reported: numbers of recipients. Returns None if they reported nothing."""
    counts = {kind: sums.counts.get(kind, 0) for kind in KINDS}
    return counts if any(counts.values()) else None


def figures(campaign: Campaign, sums: Sums, are_people_told_apart: bool) -> Figures:
    """Returns the sums that are shown, of all time."""
    shown: Figures = {name: sums.counts.get(name, 0) for name in COUNTS[campaign.kind]}
    if campaign.kind == "web":
        shown["unique_visitors"] = sums.visitors
    hide_unknown(shown, campaign, are_people_told_apart)
    return shown


def figures_and_rate(
    campaign: Campaign, sums: Sums, are_people_told_apart: bool
) -> tuple[Figures, open_rate.Rate | None, bool]:
    """Returns (figures, open rate, whether more recipients opened than mails were delivered), of all time."""
    shown = figures(campaign, sums, are_people_told_apart)
    return shown, *rate(shown, mails(campaign, sums).delivered, sums.counts)


def hide_unknown(figures: dict[str, Any], campaign: Campaign, are_people_told_apart: bool) -> None:
    """Sets the figures of people to None if people are not told apart.

    Also sets new and returning visits to None if the campaign uses no cookie.
    """
    if not are_people_told_apart:
        for name in PEOPLE_FIGURES:
            if name in figures:
                figures[name] = None
    if campaign.kind == "web" and campaign.identity != "cookie":
        figures["visits_new"] = figures["visits_returning"] = None


def rate(
    figures: Figures, delivered: int | None, counts: Mapping[str, int]
) -> tuple[open_rate.Rate | None, bool]:
    """Returns (open rate, whether more recipients opened than mails were delivered).

    counts: the sums of all time, or {} for a range, because hidden recipients are counted for all time only.
    """
    opened, person = figures.get("unique_opens"), figures.get("unique_opens_person")
    anonymous = figures.get("opens_anonymous")
    if delivered is None or opened is None or person is None or anonymous is None:
        return None, False
    hidden, both = counts.get("recipients_hidden", 0), counts.get("recipients_hidden_person", 0)
    # A first open by a person may lie in a range although the recipient's first open lies before the range.
    opened = max(opened, person + hidden - both)
    return open_rate.open_rate(open_rate.Openers(delivered, opened, person, hidden, both, anonymous))


_READ_MANY = """
-- KEYS: the names of totals and of visitors, without the campaign. ARGV: campaigns, separated by blanks, each
-- with the first letter of its kind and a colon before it: "e:spring w:shop"; then the fields to read,
-- written in the same way: "e:last_hit".
-- Returns a packed list of numbers: for each campaign the fields of its kind (0 for a missing one), and for a
-- web campaign its visitors.
local fields, out, length = {e = {}, w = {}}, {}, 0
for i = 2, #ARGV do
  local kind, field = string.match(ARGV[i], '(%a):(%S+)')
  table.insert(fields[kind], field)
end
for kind, campaign in string.gmatch(ARGV[1], '(%a):(%S+)') do
  local count = #fields[kind]
  local values = redis.call('HMGET', KEYS[1] .. campaign, unpack(fields[kind]))
  for i = 1, count do out[length + i] = tonumber(values[i] or 0) end
  length = length + count
  if kind == 'w' then
    length = length + 1
    out[length] = redis.call('PFCOUNT', KEYS[2] .. campaign)
  end
end
return cmsgpack.pack(out)
"""

_unpack_numbers = msgspec.msgpack.Decoder(list[int]).decode


class HasIdAndKind(Protocol):
    """A campaign, or another value with the id and the kind of a campaign."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...


def queue_many(pipe: Pipeline, campaigns: Sequence[HasIdAndKind], tags: Sequence[Tag]) -> None:
    """Queues the commands for `unpack_many`: one for each tag, see `sources`."""
    for tag in tags:
        pipe.eval(*_read_many_call(tag, campaigns))


def _read_many_call(tag: Tag, campaigns: Sequence[HasIdAndKind]) -> ScriptCall:
    """Returns the call that reads OVERVIEW_FIELDS, and the visitors of web campaigns."""
    names = " ".join(f"{campaign.kind[0]}:{campaign.id}" for campaign in campaigns)
    fields = [f"{kind[0]}:{field}" for kind, of_kind in OVERVIEW_FIELDS.items() for field in of_kind]
    prefixes = keys.total(tag, ""), keys.visitors(tag, "")
    return script_call(_READ_MANY, keys=prefixes, arguments=(names, *fields), undeclared=tag)


def unpack_many(answers: Sequence[bytes], campaigns: Sequence[HasIdAndKind]) -> dict[str, Sums]:
    """Returns the sums of OVERVIEW_FIELDS by campaign id. answers: one for each tag."""
    shards = [_unpack_numbers(answer) for answer in answers]
    numbers = list(map(sum, zip(*shards, strict=True)))
    sums, start = {}, 0
    for campaign in campaigns:
        fields = OVERVIEW_FIELDS[campaign.kind]
        end = start + len(fields)
        last_hit = max([shard[start] for shard in shards])
        counts = dict(zip(fields[1:], numbers[start + 1 : end], strict=True))
        is_web = campaign.kind == "web"
        sums[campaign.id] = Sums(counts, numbers[end] if is_web else 0, last_hit or None)
        start = end + is_web
    return sums

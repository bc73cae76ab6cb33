"""The numbers of a campaign's mails, and where the number of mails sent comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pixel_server.campaigns.campaign import Campaign

Source = Literal["given", "deliveries", "lists"]
FIELDS = ("delivered", "bounced_hard", "bounced_soft", "mailed")
"""Fields of `keys.total` on which the numbers depend."""


class Mails(NamedTuple):
    """The mails of a campaign. sent, delivered, source: None if not known. bounced: 0 if nothing is known.

    source: where `sent` comes from, see `mails_of`.
    """

    sent: int | None
    bounced: int
    source: Source | None

    @property
    def delivered(self) -> int | None:
        """Returns the mails sent less the mails that bounced."""
        return None if self.sent is None else max(0, self.sent - self.bounced)


def mails_of(campaign: Campaign, counts: Mapping[str, int]) -> Mails:
    """Returns the numbers of mails. counts: sums over all shards, by name; at least those of FIELDS.

    `sent` is what the sender stated ("given"); or else the recipients that a mail service reported as
    delivered or bounced ("deliveries"), if it reported any as delivered; or else the sum of the lists
    ("lists"). `bounced` is what the sender stated, or else what mail services reported.
    """
    delivered = counts.get("delivered", 0)
    reported = counts.get("bounced_hard", 0) + counts.get("bounced_soft", 0)
    bounced = campaign.bounced or reported
    if campaign.sent is not None:
        return Mails(campaign.sent, bounced, "given")
    if delivered:
        return Mails(delivered + reported, bounced, "deliveries")
    listed = counts.get("mailed", 0)
    return Mails(listed, bounced, "lists") if listed else Mails(None, bounced, None)

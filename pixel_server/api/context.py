"""The context of handlers: the parts of the process that the API and the pages use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pixel_server.api.recent_answers import RecentAnswers
from pixel_server.api.route_times import RouteTimes
from pixel_server.auth.proxy_users import ProxyUsers
from pixel_server.auth.throttle import Throttle
from pixel_server.campaigns import storage
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.consent import Consent
from pixel_server.figures.inventory_cache import InventoryCache
from pixel_server.mail.links import Minter
from pixel_server.problems import Problem
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis

NO_BASE_URL = "set PIXEL_BASE_URL, or the campaign's base_url: links need an address"
"""Detail of the problem that answers a call for links if no base URL is set."""


@dataclass(frozen=True, slots=True)
class Api:
    """The parts of this process that a handler may use.

    late_since: returns the time of the oldest hit in the spool (ms), or None if the
    spool is empty. clock: returns seconds since 1970. audience_count: held while an
    audience is counted. reported: numbers of events of mail services, by provider and outcome.
    """

    store: AsyncRedis
    settings: Settings
    secrets: Secrets
    campaign_cache: CampaignCache
    consent: Consent
    withdrawn: WithdrawnSet
    inventory: InventoryCache
    late_since: Callable[[], int | None]
    clock: Callable[[], float]
    throttle: Throttle = field(default_factory=Throttle)
    proxy_users: ProxyUsers = field(default_factory=lambda: ProxyUsers(Settings()))
    recent: RecentAnswers = field(default_factory=RecentAnswers)
    route_times: RouteTimes = field(default_factory=RouteTimes)
    audience_count: asyncio.Lock = field(default_factory=asyncio.Lock)
    reported: Counter[tuple[str, str]] = field(default_factory=Counter)

    def minter(self, base_url: str | None) -> Minter:
        """Returns a minter of links that begin with `base_url`, or with the server's base URL if it is None.

        Raises Problem 409 if the server has no base URL either.
        """
        address = base_url or self.settings.base_url
        if address is None:
            raise Problem(409, NO_BASE_URL)
        return Minter(address, self.secrets)

    async def campaign(self, campaign_id: str) -> Campaign:
        """Returns the campaign with an id. Raises Problem 404 if no campaign has it."""
        try:
            return await storage.get(self.store, campaign_id)
        except UnknownCampaign as error:
            raise Problem(404, str(error)) from None

"""Makes the parts of every web process. Starts no task and sends nothing to Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request

from pixel_server.api.context import Api
from pixel_server.api.health import Health, ProcessState, RecorderHealth
from pixel_server.api.metrics import HostSources, Metrics
from pixel_server.api.metrics_access import MetricsAccess
from pixel_server.auth.proxy_users import ProxyUsers
from pixel_server.auth.throttle import Throttle
from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache
from pixel_server.classify.network_store import ListCopies
from pixel_server.collect import loss_storage
from pixel_server.collect.client_address import ClientAddress
from pixel_server.collect.host_beat import HostBeat
from pixel_server.collect.losses import LossReport
from pixel_server.collect.spool.status import find_trouble, read_size, read_status, waiting_since_ms
from pixel_server.consent import Consent
from pixel_server.figures.inventory_cache import InventoryCache
from pixel_server.metrics.numbers import Numbers
from pixel_server.metrics.process_file import Publisher
from pixel_server.recipients.withdrawals_file import WithdrawalsFile
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import hosts
from pixel_server.store.clock import Clock
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark


@dataclass(frozen=True, slots=True)
class CommonParts:
    """Parts of every web process.

    redis_clock: the time of Redis. clock: the same, except in tests. prefix: the path of PIXEL_BASE_URL, ''
    if the URL has no path. campaigns_file: the file that keeps `campaign_cache` for the next start.
    """

    settings: Settings
    secrets: Secrets
    redis: AsyncRedis
    redis_clock: Clock
    clock: Callable[[], float]
    consent: Consent
    mark: StoreMark
    campaign_cache: CampaignCache
    withdrawn: WithdrawnSet
    prefix: str
    campaigns_file: Path
    spool_directory: Path
    network_copies: ListCopies


def make_common(
    settings: Settings, secrets: Secrets, redis: AsyncRedis, clock: Callable[[], float] | None
) -> CommonParts:
    """Makes the parts of every web process. Reads the data directory's copy of the campaigns."""
    redis_clock, consent, mark = Clock(), Consent(settings), StoreMark(settings.data)
    campaigns_file = settings.data / CACHE_FILE
    campaign_cache = CampaignCache(redis, consent, mark)
    campaign_cache.read_saved(campaigns_file)
    return CommonParts(
        settings=settings,
        secrets=secrets,
        redis=redis,
        redis_clock=redis_clock,
        clock=clock or redis_clock,
        consent=consent,
        mark=mark,
        campaign_cache=campaign_cache,
        withdrawn=WithdrawnSet(redis, secrets, mark, WithdrawalsFile(settings.data)),
        prefix=urlsplit(settings.base_url or "").path,
        campaigns_file=campaigns_file,
        spool_directory=settings.data / "spool",
        network_copies=ListCopies(settings.refreshed_networks_directory),
    )


def make_host_beat(common: CommonParts, *, has_spool: bool) -> HostBeat:
    """Makes the beats by which the other hosts know of this process. Raises OSError."""
    return HostBeat(
        common.redis,
        hosts.fingerprints(common.settings, common.secrets, "web"),
        common.spool_directory if has_spool else None,
        common.clock,
        common.mark,
    )


def make_health(
    common: CommonParts,
    *,
    recorder: RecorderHealth,
    losses: Callable[[], LossReport],
    recent_addresses: Callable[[], list[bytes]] = list,
) -> Health:
    """Makes the health checks. recent_addresses: returns the client addresses of the last hits."""
    spool = common.spool_directory
    return Health(
        common.redis,
        common.settings,
        recorder,
        spool_status=lambda: read_status(spool),
        recent_addresses=recent_addresses,
        spool_trouble=lambda: find_trouble(spool),
        clock=common.clock,
        process=ProcessState(common.mark, common.campaign_cache, common.withdrawn, losses),
    )


def make_api(common: CommonParts) -> Api:
    """Makes the context that the handlers of the API and of pages share."""
    return Api(
        common.redis,
        common.settings,
        common.secrets,
        common.campaign_cache,
        common.consent,
        common.withdrawn,
        inventory=InventoryCache(common.settings, lambda: _spooled_hits(common.spool_directory)),
        late_since=lambda: _oldest_spooled_ms(common.spool_directory),
        clock=common.clock,
        throttle=Throttle(_client_address_function(common.settings)),
        proxy_users=ProxyUsers(common.settings),
    )


def make_metrics(common: CommonParts, api: Api, gather: Callable[[], Numbers]) -> Metrics:
    """Makes the endpoint `/metrics`. gather: returns the numbers of this process."""
    return Metrics(
        api,
        MetricsAccess(api, ClientAddress(common.settings)),
        Publisher(common.settings.data, gather),
        HostSources(
            lambda: loss_storage.report_file(common.settings.data),
            lambda: read_size(common.spool_directory),
        ),
    )


def _oldest_spooled_ms(spool: Path) -> int | None:
    """Returns the time (ms) of the oldest hit in the spool, or None if the spool is empty or cannot be read.

    /readyz reports a spool that cannot be read.
    """
    try:
        return waiting_since_ms(spool)
    except OSError:
        return None


def _spooled_hits(spool: Path) -> tuple[int, int | None]:
    """Returns the number of hits in the spool, and the time (ms) of the oldest hit, if there is any."""
    status = read_status(spool)
    return status.hits, status.oldest_ms


def _client_address_function(settings: Settings) -> Callable[[Request], bytes]:
    """Returns a function that gives a request's client address, honouring trusted proxies."""
    client_address = ClientAddress(settings)
    return lambda request: client_address.resolve(
        request.client.host if request.client else None, dict(request.headers.raw)
    )

"""Makes the parts of a web process and connects them. Starts no task and sends nothing to Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rq import Queue
from starlette.requests import Request

from pixel_server import store_url
from pixel_server.api.context import Api
from pixel_server.api.health import Health, ProcessState, RecorderHealth
from pixel_server.auth.throttle import Throttle
from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache
from pixel_server.collect.admission import Admission
from pixel_server.collect.batch import Batch, Sink, report_gap
from pixel_server.collect.client_address import ClientAddress
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.host_beat import HostBeat
from pixel_server.collect.loss_watch import LossWatch
from pixel_server.collect.losses import LossReport, RemovedFile
from pixel_server.collect.memory_reserve_sink import MemoryReserveSink
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.rollup_trigger import RollupTrigger
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.resharding import ReshardingSink
from pixel_server.collect.spool.sink import SpoolSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import find_trouble, read_status, waiting_since_ms
from pixel_server.collect.tail import Tail
from pixel_server.consent import Consent
from pixel_server.figures.inventory_cache import InventoryCache
from pixel_server.recipients.withdrawals_file import WithdrawalsFile
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import hosts
from pixel_server.store.clock import Clock
from pixel_server.store.memory_reserve import MemoryWatch
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


@dataclass(frozen=True, slots=True)
class PixelParts:
    """Parts of a process that answers pixel requests.

    A hit goes through admission, recorder and redis_sink; if Redis is away, to the spool, and from there
    through drain and drain_sink. reserve: file descriptors for all these parts.
    """

    admission: Admission
    recorder: Recorder
    redis_sink: RedisSink
    spool: Spool
    drain: Drain
    drain_sink: RedisSink
    rollup_trigger: RollupTrigger
    memory: MemoryWatch
    loss_watch: LossWatch
    reserve: DescriptorReserve


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
    )


def make_pixels(common: CommonParts, queue: Queue) -> PixelParts:
    """Makes the parts that record hits. queue: receives the roll-up jobs."""
    settings, clock = common.settings, common.clock
    admission = Admission(
        settings, common.secrets, common.campaign_cache, common.consent, common.withdrawn, clock
    )
    rollup_trigger = RollupTrigger(queue, settings.shards, clock)
    memory = MemoryWatch(common.redis, settings.memory_reserve)
    reserve = DescriptorReserve()

    def report_lost(batch: Batch, seen: int) -> None:
        recorder.count_lost(report_gap(batch, seen))
        loss_watch.note_gap(batch, seen)

    tail = Tail(settings.shards, settings.tail_seconds, settings.tail_bytes, report_lost)
    if settings.replicas or store_url.parse(settings.redis_url).kind != "single":
        tail.begin()
    loss_watch = LossWatch(common.redis, settings.data, settings.shards, common.mark, reserve, tail, clock)
    redis_sink = RedisSink(
        settings.redis_url,
        mark=common.mark.current,
        reserve=reserve,
        tail=tail,
        replicas=settings.replicas,
    )
    drain_sink = RedisSink(
        settings.redis_url,
        timeout_seconds=1.0,
        max_timeout_seconds=5.0,
        mark=common.mark.current,
        reserve=reserve,
        tail=tail,
        replicas=settings.replicas,
    )
    spool = Spool(common.spool_directory, settings.spool_bytes, clock=clock, reserve=reserve)
    recorder = Recorder(
        MemoryReserveSink(redis_sink, memory),
        settings.shards,
        settings.pending_bytes,
        spool=SpoolSink(spool) if settings.spool_bytes else None,
        is_ready=lambda: redis_sink.is_ready,
        on_stored=rollup_trigger.request,
        on_acknowledged=loss_watch.note,
        clock=clock,
    )
    drain = _make_drain(
        settings, spool, MemoryReserveSink(drain_sink, memory), recorder, rollup_trigger, loss_watch
    )
    return PixelParts(
        admission=admission,
        recorder=recorder,
        redis_sink=redis_sink,
        spool=spool,
        drain=drain,
        drain_sink=drain_sink,
        rollup_trigger=rollup_trigger,
        memory=memory,
        loss_watch=loss_watch,
        reserve=reserve,
    )


def _make_drain(
    settings: Settings,
    spool: Spool,
    sink: Sink,
    recorder: Recorder,
    rollup_trigger: RollupTrigger,
    loss_watch: LossWatch,
) -> Drain:
    """Makes the drain, and connects it to the parts that it informs."""

    def note_removed(removed: list[RemovedFile]) -> None:
        recorder.count_removed(sum(file.hits for file in removed))
        loss_watch.note_removed(removed)

    def note_acknowledged(batches: Sequence[Batch], seen: Sequence[int]) -> None:
        of_this_store = [pair for pair in zip(batches, seen, strict=True) if pair[0].shard < settings.shards]
        loss_watch.note([batch for batch, _ in of_this_store], [number for _, number in of_this_store])

    return Drain(
        spool,
        ReshardingSink(sink, settings.shards),
        is_redis_away=lambda: recorder.is_redis_away,
        on_accepted=recorder.resume,
        on_lost=recorder.count_lost,
        on_removed=note_removed,
        spooled_groups=recorder.spooled_groups,
        on_drained=recorder.note_drained,
        on_stored=rollup_trigger.request,
        on_acknowledged=note_acknowledged,
        max_aside_days=settings.keep_dead_letters,
    )


def make_host_beat(common: CommonParts, *, has_spool: bool) -> HostBeat:
    """Makes the beats by which the other hosts know of this process. Raises OSError."""
    return HostBeat(
        common.redis,
        hosts.fingerprints(common.settings, common.secrets, "web"),
        common.spool_directory if has_spool else None,
        common.clock,
        has_left=lambda: bool(common.mark.trouble),
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

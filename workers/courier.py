"""The courier: moves events from the outboxes to the queues, and sends what is due.

One worker of all hosts has the courier, a thread of its own, for as long as it renews its lease. If that
worker dies, another takes over when the lease has ended. Nothing depends on there being one courier: a move
is repeated without harm, and each unit of a queue is claimed.

An endpoint that hangs or fails holds up no other: each has its own few requests under way, and one that fails
has one, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets as random
import threading
import time
from collections.abc import Sequence, Set

import redis

from pixel_server.logs import Log
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys, replication
from pixel_server.store.client import StoreRefusedError, connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import EVEN_IF_FULL, script_call
from pixel_server.store.store_mark import StoreMark
from pixel_server.webhooks import health, outbox, queue, storage
from pixel_server.webhooks.endpoint import Endpoint, union
from pixel_server.webhooks.event import HEALTH, MILESTONE, Event
from workers import milestones, webhook_delivery
from workers.context import known_mark

log = Log(__name__)

LEASE_MS = 3000
"""Milliseconds after which another courier takes over, if this one does not renew its lease. A courier renews
it every POLL_SECONDS. If a slow courier loses it, nothing is lost or doubled: see above."""
POLL_SECONDS = 0.5
"""Seconds between two looks into the outboxes and queues. A commit of the same worker wakes the courier."""
LOOK_SECONDS = 5.0
"""Seconds between two looks for troubles of the server, and for campaigns that were changed."""
AGE_SECONDS = 600.0
"""Seconds between two looks for what has waited too long."""
MAX_REQUESTS = 4
"""Largest number of requests to one endpoint at once. One that fails gets one at a time."""
SLOT_SECONDS = 1.0
"""Seconds for which an endpoint gets requests by the record that was read before."""
MAX_MOVES = 5
"""Largest number of moves before the courier sends again."""
REDIS_TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""Seconds until the next try after Redis did not answer."""

_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)
"""Errors if a node of a cluster does not answer."""

_LEASE = (
    EVEN_IF_FULL
    + """
-- KEYS: courier. ARGV: owner, lease (ms). Takes or renews the lease. Returns 0 if another has it.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)


class Courier:
    """One courier, from taking the lease to losing it. `run` is its life, in an event loop of its own.

    mark: the mark of the store that this worker may use.
    """

    def __init__(self, store: AsyncRedis, settings: Settings, secrets: Secrets, mark: StoreMark) -> None:
        self._store, self._settings, self._secrets, self._mark = store, settings, secrets, mark
        self._owner = random.token_hex(8)
        self._wake = asyncio.Event()
        self._sender = webhook_delivery.Sender(self._store, settings, {})
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        self._next_look = self._next_aging = 0.0
        self._reported: set[bytes] = set()

    def wake(self) -> None:
        """Makes the courier look at once. Call it in its own loop."""
        self._wake.set()

    async def run(self) -> None:
        """Works until another courier has the lease, or no endpoint exists. Lets requests end."""
        is_failing = False
        try:
            while True:
                try:
                    if not await self._has_lease() or not await self.step():
                        break
                    is_failing = False
                except StoreRefusedError:
                    break  # the mark has logged it
                except (redis.RedisError, OSError) as error:
                    if not is_failing:
                        log.warning(
                            "webhooks-wait",
                            "Redis does not answer; webhooks wait until it does: %(error)s",
                            error=error,
                        )
                    is_failing = True
                    await asyncio.sleep(RETRY_SECONDS)
                await self._pause()
        finally:
            await self.finish()

    async def finish(self) -> None:
        """Waits until all requests have ended."""
        await asyncio.gather(*self._tasks())

    async def _has_lease(self) -> bool:
        call = script_call(_LEASE, keys=(keys.COURIER,), arguments=(self._owner, LEASE_MS))
        return bool(await self._store.eval(*call))

    async def step(self) -> bool:
        """Moves what is in the outboxes, and begins to send what is due.

        Returns False if no endpoint exists. Raises redis.RedisError, OSError or StoreRefusedError.
        """
        await self._mark.check(self._store)
        self._wake.clear()
        for _ in range(MAX_MOVES):
            if not await self._move():
                break
        else:
            self._wake.set()
        endpoints = await storage.list_all(self._store)
        if not endpoints:
            return False
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            await self._look(endpoints)
        if now >= self._next_aging:
            self._next_aging = now + AGE_SECONDS
            for endpoint in endpoints:
                await queue.set_old_aside(self._store, endpoint.id, self._settings.keep_webhooks)
        await self._send([endpoint for endpoint in endpoints if endpoint.is_enabled])
        return True

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for tasks in self._running.values() for task in tasks]

    async def _pause(self) -> None:
        """Waits for POLL_SECONDS, a wake, or the end of a request."""
        waker = asyncio.create_task(self._wake.wait())
        await asyncio.wait([waker, *self._tasks()], timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waker.cancel()

    # Moving

    async def _move(self) -> bool:
        """Moves the oldest entries of all outboxes to the queues. Returns whether there may be more.

        Reads the endpoints after the entries: so it sees each endpoint for which an entry was made.
        The entries leave the outboxes last, when replicas have the queues. If this ends before, they are
        moved again, and are queued once: by their ids.
        """
        found = await outbox.read(self._store, self._settings.shards)
        if not found:
            return False
        endpoints = await storage.list_all(self._store)
        entries = [entry for of_key in found.values() for entry in of_key]
        events = [entry.event for entry in entries if entry.event is not None]
        unchecked = await self._check_milestones({entry.look for entry in entries if entry.look})
        for endpoint in endpoints:
            await self._queue(endpoint, events)
        if lost := sum(entry.lost for entry in entries):
            await self._note_lost(endpoints, lost)
        if not await self._is_replicated():
            return False
        is_more = False
        for name, of_key in found.items():
            self._report_faults(name, of_key)
            if done := [entry for entry in of_key if not entry.fault and entry.look not in unchecked]:
                await outbox.remove(self._store, name, done)
            is_more |= len(of_key) >= outbox.READ_ENTRIES and bool(done)
        return is_more

    async def _is_replicated(self) -> bool:
        """Returns whether replicas have all that was queued. If they do not, the entries are moved again."""
        try:
            await replication.confirm(self._store)
        except replication.NotReplicatedError:
            log.warning(
                "webhooks-not-replicated",
                "no replica has confirmed the queues of webhooks, so the events stay in the outboxes too",
            )
            return False
        return True

    async def _queue(self, endpoint: Endpoint, events: Sequence[Event]) -> None:
        wanted = [made for made in events if endpoint.wants(made)]
        max_events = self._settings.webhook_queue
        _, dropped = await queue.add(self._store, self._secrets, endpoint.id, wanted, max_events)
        if dropped:
            log.error(
                "webhook-full",
                "%(events)d events for the webhook %(webhook)s are dropped, because %(limit)d wait already "
                "(PIXEL_WEBHOOK_QUEUE)",
                events=dropped,
                webhook=endpoint.id,
                limit=max_events,
            )

    async def _note_lost(self, endpoints: Sequence[Endpoint], lost: int) -> None:
        log.error(
            "webhook-outbox-full",
            "%(events)d events are dropped, because they were made faster than they could be queued",
            events=lost,
        )
        pipe = self._store.pipeline(transaction=False)
        for endpoint in endpoints:
            pipe.hincrby(keys.hook_state(endpoint.id), "dropped", lost)
        await pipe.execute()

    def _report_faults(self, name: str, entries: Sequence[outbox.Entry]) -> None:
        """Logs each entry that cannot be read, once. It stays, for the newer version that wrote it."""
        for entry in entries:
            if entry.fault and entry.id not in self._reported:
                self._reported.add(entry.id)
                log.error(
                    "webhook-event-unreadable",
                    "the entry %(entry)s of %(key)s cannot be read, and waits for a newer version: %(fault)s",
                    entry=entry.id.decode(),
                    key=name,
                    fault=entry.fault,
                )

    # Looking

    async def _look(self, endpoints: Sequence[Endpoint]) -> None:
        """Looks for troubles of the server, and for milestones of campaigns that were changed."""
        wanted = union(endpoints)
        if wanted.has(HEALTH):
            with contextlib.suppress(*_AWAY):  # what a node does not tell is no trouble that is over
                await self._tell_troubles()
        if wanted.has(MILESTONE):
            changed, last = await milestones.changed_campaigns(self._store)
            if not await self._check_milestones({name for name in changed if wanted.has(MILESTONE, name)}):
                await milestones.note_changes(self._store, last)

    async def _check_milestones(self, campaigns: Set[str]) -> set[str]:
        """Tells the milestones that campaigns have reached. Returns the campaigns that cannot be read now."""
        unchecked = set()
        for campaign in campaigns:
            now_s, _ = await self._store.time()
            shards = self._settings.shards
            try:
                await milestones.check(self._store, self._secrets, campaign, shards, int(now_s) * 1000)
            except _AWAY:
                unchecked.add(campaign)
        return unchecked

    async def _tell_troubles(self) -> None:
        now_s, _ = await self._store.time()
        for change in await health.note(self._store, self._settings.shards, float(now_s)):
            log.info(
                "webhook-health",
                "told the webhooks that a trouble %(state)s: %(text)s",
                state="began" if change.has_begun else "is over",
                text=change.text,
            )

    # Sending

    async def _send(self, endpoints: Sequence[Endpoint]) -> None:
        """Claims what is due, and begins to send it. Leaves out endpoints that have enough under way."""
        free = list(endpoints)
        while free:
            ready = [endpoint for endpoint in free if self._has_room(endpoint)]
            if not ready:
                return
            pipe = self._store.pipeline(transaction=False)
            for endpoint in ready:
                pipe.eval(*queue.claim_call(endpoint))
            free = []
            for endpoint, reply in zip(ready, await pipe.execute(), strict=True):
                if reply and self._begin(endpoint, reply):
                    free.append(endpoint)

    def _has_room(self, endpoint: Endpoint) -> bool:
        under_way = len(self._running.get(endpoint.id, ()))
        return under_way < (1 if self._sender.failures.get(endpoint.id) else MAX_REQUESTS)

    def _begin(self, endpoint: Endpoint, reply: Sequence[object]) -> bool:
        """Begins to send a claimed unit. Returns False if it cannot be read; it then waits for its lease."""
        try:
            unit = queue.parse_claim(reply)
        except ValueError as error:
            log.error(
                "webhook-unit-unreadable",
                "an event for the webhook %(webhook)s cannot be read, and waits: %(error)s",
                webhook=endpoint.id,
                error=error,
            )
            return False
        if unit is None:
            return False
        tasks = self._running.setdefault(endpoint.id, set())
        task = asyncio.create_task(self._deliver_on(endpoint, unit))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return True

    async def _deliver_on(self, endpoint: Endpoint, unit: queue.Unit | None) -> None:
        """Delivers a unit, and then the units that are due, for SLOT_SECONDS or until a try fails.

        If this server itself fails, the unit is due again after its lease.
        """
        end = time.monotonic() + SLOT_SECONDS
        try:
            while unit is not None:
                await self._sender.deliver(endpoint, unit)
                if self._sender.failures.get(endpoint.id) or time.monotonic() >= end:
                    return
                unit = await queue.claim(self._store, endpoint)
        except Exception as error:  # whatever it is, other units must go on
            is_away = isinstance(error, redis.RedisError | OSError)
            log.error(
                "webhook-not-noted",
                "a delivery to the webhook %(webhook)s could not be stored, so it is made again: %(error)s",
                webhook=endpoint.id,
                error=error,
                exc=None if is_away else error,
            )


class _Thread:
    """The thread of this process's courier. lock: guards all fields."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.courier: Courier | None = None

    def wake(self, settings: Settings, secrets: Secrets) -> None:
        with self.lock:
            if self.loop is not None and self.courier is not None:
                self.loop.call_soon_threadsafe(self.courier.wake)
            elif self.thread is None:
                self.thread = threading.Thread(
                    target=self._run, args=(settings, secrets), daemon=True, name="courier"
                )
                self.thread.start()

    def _run(self, settings: Settings, secrets: Secrets) -> None:
        try:
            asyncio.run(self._serve(settings, secrets))
        except Exception as error:  # the next job starts a courier again
            log.error("courier-failed", "webhooks wait, trying again: %(error)s", error=error, exc=error)
        finally:
            with self.lock:
                self.thread = None

    async def _serve(self, settings: Settings, secrets: Secrets) -> None:
        store = connect_async(settings.redis_url, timeout=REDIS_TIMEOUT_SECONDS)
        courier = Courier(store, settings, secrets, known_mark())
        with self.lock:
            self.loop, self.courier = asyncio.get_running_loop(), courier
        try:
            await courier.run()
        finally:
            with self.lock:
                self.loop = self.courier = None
            await store.aclose()


_THREAD = _Thread()


def wake(settings: Settings, secrets: Secrets) -> None:
    """Wakes this process's courier, and starts it if it does not run. Returns at once."""
    _THREAD.wake(settings, secrets)

"""Tells the other hosts that this web process lives, and what its spool holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from pixel_server import files, tasks
from pixel_server.collect.spool.status import read_status, waiting_since_ms
from pixel_server.logs import Log
from pixel_server.store import hosts
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall
from pixel_server.store.store_mark import MOVED_TEXT, StoreMark

log = Log(__name__)

HOST_FILE = "host"
"""Name of the file in the spool's directory that holds the host's id."""


def read_host_id(spool: Path) -> str | None:
    """Returns the id of the host whose spool a directory is, or was before it was copied; None if unknown."""
    try:
        text = (spool / HOST_FILE).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if len(text) == 16 and text.isalnum() else None


def make_host_id(spool: Path) -> str:
    """Returns the id of this host. Makes the id if the spool's directory has none. Raises OSError."""
    if not (host := read_host_id(spool)):
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.create(spool / HOST_FILE, random.token_hex(8).encode(), 0o600)
        host = read_host_id(spool)
    if host is None:
        raise OSError(f"{spool / HOST_FILE} cannot be read")
    return host


class HostBeat:
    """The beats of one web process. spool: directory of its spool, None if it has no spool.

    settings: from `hosts.fingerprints`. clock: returns Redis's time, s. mark: the mark of the store, None for
    any store. Nothing is written to a store with another mark, except to a store that `pixel-server copy` has
    closed: its beats say that this process has left it.
    """

    def __init__(
        self,
        store: AsyncRedis,
        settings: Mapping[str, str],
        spool: Path | None,
        clock: Callable[[], float],
        mark: StoreMark | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._spool = spool
        self._clock = clock
        self._mark = mark
        self._name = socket.gethostname()
        self._differences: list[str] = []

    async def run(self) -> None:
        """Sends beats until cancelled. The recorder logs that Redis is away."""
        await tasks.repeat(self.send, hosts.BEAT_SECONDS, _report, unreported=(redis.RedisError,))

    async def send(self) -> None:
        """Sends a beat, forgets old beats, and logs settings that differ between hosts."""
        if not self._may_write:
            return
        found = hosts.parse_reply(await self._store.eval(*await asyncio.to_thread(self._beat_call)))
        now = self._clock()
        if forgotten := [host.id for host in found if host.is_forgotten(now)]:
            await self._store.eval(*hosts.forget_call(*forgotten))
        differences = hosts.describe_settings(found, now)
        for text in differences:
            if text not in self._differences:
                log.error("hosts-differ", "%(difference)s", difference=text)
        self._differences = differences

    async def send_last(self) -> None:
        """Tells the other hosts that this process ends. If hits are left in the spool, they are told that."""
        if not self._may_write:
            return
        with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                call = await asyncio.to_thread(self._last_call)
                await self._store.eval(*call)

    @property
    def _may_write(self) -> bool:
        mark = self._mark
        return mark is None or (mark.is_checked and mark.trouble in ("", MOVED_TEXT))

    def _beat_call(self) -> ScriptCall:
        return self._call(self._spool_content(), is_stopped=False)

    def _last_call(self) -> ScriptCall:
        content = self._spool_content()
        if content is None or content == (0, None):
            return hosts.forget_call(self._id())
        return self._call(content, is_stopped=True)

    def _call(self, content: tuple[int | None, int | None] | None, *, is_stopped: bool) -> ScriptCall:
        beat = hosts.encode_beat(
            at=self._clock(),
            name=self._name,
            kind="web",
            settings=self._settings,
            spool=content,
            is_stopped=is_stopped,
            has_left=self._mark is not None and bool(self._mark.trouble),
        )
        return hosts.beat_call(host=self._id(), beat=beat)

    def _id(self) -> str:
        if self._spool is None:
            return f"{self._name}:{os.getpid()}"
        return make_host_id(self._spool)

    def _spool_content(self) -> tuple[int | None, int | None] | None:
        """Returns (hits, time of the oldest hit in ms) of the spool, None if there is no spool."""
        if self._spool is None:
            return None
        try:
            return read_status(self._spool).hits, waiting_since_ms(self._spool)
        except OSError:
            return None, None


def _report(error: Exception) -> None:
    log.error("host-beat-failed", "cannot tell the other hosts of this one: %(error)s", error=error)

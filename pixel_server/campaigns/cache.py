"""Which campaigns there are and which are gone, in the memory of each web process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis

from pixel_server import files, tasks
from pixel_server.campaigns.campaign import (
    Campaign,
    Identity,
    Kind,
    UnreadableCampaign,
    decode,
    report_unreadable,
)
from pixel_server.campaigns.storage import page, queue_changes, queue_record, unpack_changes, version
from pixel_server.consent import Consent, Rule
from pixel_server.settings import cookie_path
from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.tokens import Mode

log = logging.getLogger("pixel_server.campaigns.cache")

REFRESH = 0.25
"""Seconds between two looks of a web process at what was made or deleted elsewhere."""


class Web(NamedTuple):
    """What a web process must know of a web campaign; see `campaigns.Campaign`."""

    identity: Identity = "cookieless"
    origins: tuple[str, ...] = ()
    path: str | None = None
    """Of its base URL, for cookies; None: the server's."""


PLAIN = Web()
SAVED = "campaigns.json"
"""The file of `Directory.save`, in the data directory."""


class _Known(msgspec.Struct):
    """What the file of `Directory.save` holds."""

    kinds: dict[str, Kind]
    gone: list[str]
    rules: dict[str, Rule] = {}
    web: dict[str, Web] = {}


class Directory:
    """Which campaigns there are and which are gone, in memory, so that no pixel asks Redis.

    One entry a campaign; one in `rules` where its mode or GPC setting is another than the server's, one in
    `web` where it is a web campaign with an identity, origins or a base URL.
    Learns of changes made elsewhere within REFRESH seconds while Redis answers; while it does not, or its
    store is not the known one (`mark`), what was known stays. broken: the campaigns whose record cannot be
    read, as a newer version's. Such a campaign stays as it was last known, here or in the file of `save`;
    of one that was never known nothing is recorded (mode `off`).
    """

    def __init__(self, store: AsyncRedis, consent: Consent, mark: StoreMark | None = None) -> None:
        self._store = store
        self._consent = consent
        self.mark = mark or StoreMark()
        self.broken: set[str] = set()
        self._saved: _Known | None = None
        self._seen = b""
        self.loaded = False
        self.kinds: dict[str, Kind] = {}
        self.gone: set[str] = set()
        self.rules: dict[str, Rule] = {}
        self.web: dict[str, Web] = {}

    def is_web(self, campaign: str) -> bool:
        return self.kinds.get(campaign) == "web"

    def mode(self, campaign: str) -> Mode:
        """That of a mail campaign, known or not."""
        return self.rules.get(campaign, self._consent.default).mode

    def learn(self, campaign: Campaign) -> None:
        """A campaign made or changed in this process."""
        self.kinds[campaign.id] = campaign.kind
        rule = self._consent.rule(campaign.mode, campaign.gpc)
        if rule == self._consent.default:
            self.rules.pop(campaign.id, None)
        else:
            self.rules[campaign.id] = rule
        path = None if campaign.base_url is None else cookie_path(campaign.base_url)
        web = Web(campaign.identity, campaign.origins, path)
        if campaign.kind == "email" or web == PLAIN:
            self.web.pop(campaign.id, None)
        else:
            self.web[campaign.id] = web

    def forget(self, campaign: str) -> None:
        """A campaign deleted in this process."""
        self.kinds.pop(campaign, None)
        self.rules.pop(campaign, None)
        self.web.pop(campaign, None)
        self.gone.add(campaign)

    def _keep(self, campaign: str, before: Directory) -> None:
        """Takes a campaign whose record cannot be read as it was last known."""
        self.broken.add(campaign)
        for known in (before, before._saved):
            if known is not None and campaign in known.kinds:
                self.kinds[campaign] = known.kinds[campaign]
                self.rules.pop(campaign, None)
                self.web.pop(campaign, None)
                if (rule := known.rules.get(campaign)) is not None:
                    self.rules[campaign] = rule
                if (web := known.web.get(campaign)) is not None:
                    self.web[campaign] = web
                return
        self.kinds[campaign] = "email"
        self.rules[campaign] = Rule(Mode.OFF, "drop")

    async def load(self) -> None:
        """Reads all of it. Raises StoreEmptiedError, with nothing changed, if the store is another one."""
        seen = await version(self._store)
        gone = {name.decode(errors="replace") for name in await self._store.smembers(keys.GONE)}
        whole = Directory(self._store, self._consent)
        after: str | None = None
        while True:
            broken: list[str] = []
            found, after = await page(self._store, after, 1000, broken)
            for campaign in found:
                whole.learn(campaign)
            for name in broken:
                whole._keep(name, self)
            if after is None:
                break
        await self.mark.look(self._store)
        self._seen = seen
        self.kinds, self.rules, self.web, self.gone = whole.kinds, whole.rules, whole.web, gone
        self.broken = whole.broken
        self.loaded = True

    async def refresh(self) -> None:
        """Reads what has changed since the last look; all of it if that cannot be told. As `load`."""
        if not self.loaded:
            return await self.load()
        pipe = self._store.pipeline(transaction=False)
        queue_changes(pipe, self._seen)
        self.mark.ask(pipe)
        entries, mark = await pipe.execute()
        self.mark.take(mark)
        found = unpack_changes(entries, self._seen)
        if found is None:
            return await self.load()
        changed, seen = found
        if changed:
            for campaign in changed:
                queue_record(pipe, campaign)
            self.mark.ask(pipe)
            *records, mark = await pipe.execute(raise_on_error=False)
            self.mark.take(mark)
            for campaign, record in zip(changed, records, strict=True):
                self._learn(campaign, record)
        self._seen = seen
        return None

    def _learn(self, campaign: str, record: bytes | Exception | None) -> None:
        """Takes a campaign's record as it is in the store."""
        if record is None:
            self.broken.discard(campaign)
            return self.forget(campaign)
        try:
            self.learn(decode(record, campaign))
            self.broken.discard(campaign)
        except UnreadableCampaign as error:
            report_unreadable(error)
            self._keep(campaign, self)

    def save(self, path: Path) -> None:
        """Writes what is known to a file, for a start while Redis is away."""
        files.write(path, msgspec.json.encode(_Known(self.kinds, sorted(self.gone), self.rules, self.web)))

    def recall(self, path: Path) -> None:
        """Reads what `save` wrote, if there is such a file, for campaigns whose record cannot be read."""
        try:
            self._saved = msgspec.json.decode(path.read_bytes(), type=_Known)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("directory: cannot read %s, what was known before is not known: %s", path, error)

    def restore(self, path: Path) -> None:
        """Takes what `save` wrote, if there is such a file."""
        self.recall(path)
        if (kept := self._saved) is not None and not self.loaded:
            self.kinds, self.gone, self.rules, self.web = (
                dict(kept.kinds),
                set(kept.gone),
                dict(kept.rules),
                dict(kept.web),
            )

    async def follow(self, path: Path | None = None) -> None:
        """Keeps up with changes until cancelled; keeps the file of `save` as it should be."""
        saved: tuple[int, int, dict[str, Rule], dict[str, Web]] | None = None

        async def save_changes() -> None:
            nonlocal saved
            known = (len(self.kinds), len(self.gone), dict(self.rules), dict(self.web))
            if path is not None and self.loaded and known != saved:
                saved = known
                try:
                    await asyncio.to_thread(self.save, path)
                except OSError as error:
                    log.warning("directory: cannot write %s: %s", path, error)

        async def refresh_and_save() -> None:
            try:
                await self.refresh()
            except Exception:
                await save_changes()
                raise
            await save_changes()

        await save_changes()
        await tasks.repeat(refresh_and_save, REFRESH, _report_failed_refresh, pauses_first=True)


def _report_failed_refresh(error: Exception) -> None:
    if isinstance(error, StoreEmptiedError):
        return  # `StoreMark.take` has logged it
    if isinstance(error, redis.RedisError | OSError):
        log.warning("directory: Redis does not answer, going by what is known: %s", error)
    else:  # whatever the store holds, this process goes on
        log.error("directory: the store's campaigns cannot be read, going by what is known: %r", error)

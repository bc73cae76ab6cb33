"""Which campaigns there are and which are gone, in the memory of each web process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis

from pixel_server import files, keys
from pixel_server.campaigns import Campaign, Identity, Kind, Unknown, changes, get, page, version
from pixel_server.consent import Consent, Rule
from pixel_server.settings import cookie_path
from pixel_server.store import AsyncRedis
from pixel_server.tokens import Mode

log = logging.getLogger("pixel_server.directory")

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
    Learns of changes made elsewhere within REFRESH seconds while Redis answers; while it does not, what
    was known stays.
    """

    def __init__(self, store: AsyncRedis, consent: Consent) -> None:
        self._store = store
        self._consent = consent
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

    async def load(self) -> None:
        """Reads all of it."""
        self._seen = await version(self._store)
        gone = {name.decode() for name in await self._store.smembers(keys.GONE)}
        whole = Directory(self._store, self._consent)
        after: str | None = None
        while True:
            found, after = await page(self._store, after, 1000)
            for campaign in found:
                whole.learn(campaign)
            if after is None:
                break
        self.kinds, self.rules, self.web, self.gone = whole.kinds, whole.rules, whole.web, gone
        self.loaded = True

    async def refresh(self) -> None:
        """Reads what has changed since the last look; all of it if that cannot be told."""
        if not self.loaded:
            return await self.load()
        found = await changes(self._store, self._seen)
        if found is None:
            return await self.load()
        changed, seen = found
        for campaign in changed:
            try:
                self.learn(await get(self._store, campaign))
            except Unknown:
                self.forget(campaign)
        self._seen = seen
        return None

    def save(self, path: Path) -> None:
        """Writes what is known to a file, for a start while Redis is away."""
        files.write(path, msgspec.json.encode(_Known(self.kinds, sorted(self.gone), self.rules, self.web)))

    def restore(self, path: Path) -> None:
        """Takes what `save` wrote, if there is such a file."""
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Known)
        except (OSError, msgspec.DecodeError):
            return
        self.kinds, self.gone, self.rules, self.web = kept.kinds, set(kept.gone), kept.rules, kept.web

    async def follow(self, path: Path | None = None) -> None:
        """Keeps up with changes until cancelled; keeps the file of `save` as it should be."""
        failing = False
        saved: tuple[int, int, dict[str, Rule], dict[str, Web]] | None = None
        while True:
            known = (len(self.kinds), len(self.gone), dict(self.rules), dict(self.web))
            if path is not None and self.loaded and known != saved:
                saved = known
                try:
                    await asyncio.to_thread(self.save, path)
                except OSError as error:
                    log.warning("directory: cannot write %s: %s", path, error)
            await asyncio.sleep(REFRESH)
            try:
                await self.refresh()
                failing = False
            except (redis.RedisError, OSError) as error:
                if not failing:
                    log.warning("directory: Redis does not answer, going by what is known: %s", error)
                failing = True

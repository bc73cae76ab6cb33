"""The campaigns in the memory of a web process, so that a pixel request need not read them from Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec

from pixel_server import files, tasks
from pixel_server.campaigns import change_log
from pixel_server.campaigns.campaign import (
    Campaign,
    Identity,
    Kind,
    UnreadableCampaign,
    decode,
    report_unreadable,
)
from pixel_server.campaigns.origins import normalise_stored
from pixel_server.campaigns.storage import page, queue_record
from pixel_server.consent import Consent, Rule
from pixel_server.logs import Log
from pixel_server.settings import cookie_path
from pixel_server.store import keys
from pixel_server.store.client import StoreRefusedError, is_away
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.tokens import Mode

log = Log(__name__)

REFRESH_SECONDS = 0.25
"""Seconds between two readings of the changes that other processes made."""
_PAGE_SIZE = 1000


class WebCampaign(NamedTuple):
    """Fields of a web campaign that the pixel endpoint uses.

    path: path of the visitor's cookies, from the campaign's base URL, or None to use the server's base URL.
    """

    identity: Identity = "cookieless"
    origins: tuple[str, ...] = ()
    path: str | None = None


DEFAULT_WEB = WebCampaign()
CACHE_FILE = "campaigns.json"
"""Name of the file that `CampaignCache.save` writes in the data directory."""


class _File(msgspec.Struct):
    """Content of the file that `CampaignCache.save` writes, as JSON. gone: ids of deleted campaigns."""

    kinds: dict[str, Kind]
    gone: list[str]
    rules: dict[str, Rule] = {}
    web: dict[str, WebCampaign] = {}


class CampaignCache:
    """The campaigns and the deleted campaigns (`gone`) that a web process knows.

    `kinds` has an entry for each campaign. `rules` has an entry if the campaign's mode or GPC setting differs
    from the server's. `web` has an entry for a web campaign with an identity, origins or a base URL.

    The cache learns of changes made elsewhere within REFRESH_SECONDS. The cache does not change while Redis
    does not answer, or while `mark` shows that Redis was emptied or replaced. `unreadable` holds the ids of
    campaigns whose record this version cannot read. Such a campaign keeps the fields that the cache last
    held, or else the fields in the file that `save` wrote. If neither has the campaign, nothing is recorded
    for it (mode `off`).
    """

    def __init__(self, store: AsyncRedis, consent: Consent, mark: StoreMark | None = None) -> None:
        self._store = store
        self._consent = consent
        self.mark = mark or StoreMark()
        self.unreadable: set[str] = set()
        self._saved: _File | None = None
        self._seen_version = b""
        self.has_loaded = False
        self.kinds: dict[str, Kind] = {}
        self.gone: set[str] = set()
        self.rules: dict[str, Rule] = {}
        self.web: dict[str, WebCampaign] = {}

    def is_web(self, campaign: str) -> bool:
        return self.kinds.get(campaign) == "web"

    def mode(self, campaign: str) -> Mode:
        """Returns the mode of a mail campaign, or the server's default if the campaign is not known."""
        return self.rules.get(campaign, self._consent.default).mode

    def learn(self, campaign: Campaign) -> None:
        """Adds or replaces a campaign that this process has created or changed."""
        self.kinds[campaign.id] = campaign.kind
        rule = self._consent.rule(campaign.mode, campaign.gpc)
        if rule == self._consent.default:
            self.rules.pop(campaign.id, None)
        else:
            self.rules[campaign.id] = rule
        path = None if campaign.base_url is None else cookie_path(campaign.base_url)
        web = WebCampaign(campaign.identity, normalise_stored(campaign.origins), path)
        if campaign.kind == "email" or web == DEFAULT_WEB:
            self.web.pop(campaign.id, None)
        else:
            self.web[campaign.id] = web

    def forget(self, campaign: str) -> None:
        """Removes a campaign that this process has deleted, and adds its id to `gone`."""
        self.kinds.pop(campaign, None)
        self.rules.pop(campaign, None)
        self.web.pop(campaign, None)
        self.gone.add(campaign)

    def _learn_unreadable(self, campaign: str, old_cache: CampaignCache) -> None:
        """Adds a campaign whose record cannot be read, with the fields that `old_cache` holds for it.

        If `old_cache` does not know the campaign, uses the fields in the file that `old_cache` has read, or
        else the mode `off`.
        """
        self.unreadable.add(campaign)
        for earlier in (old_cache, old_cache._saved):
            if earlier is not None and campaign in earlier.kinds:
                self.kinds[campaign] = earlier.kinds[campaign]
                self.rules.pop(campaign, None)
                self.web.pop(campaign, None)
                if (rule := earlier.rules.get(campaign)) is not None:
                    self.rules[campaign] = rule
                if (web := earlier.web.get(campaign)) is not None:
                    self.web[campaign] = web
                return
        self.kinds[campaign] = "email"
        self.rules[campaign] = Rule(Mode.OFF, "drop")

    async def load(self) -> None:
        """Reads all campaigns.

        Raises StoreRefusedError, and changes nothing, if this process must not use the store.
        """
        version = await change_log.read_version(self._store)
        deleted = {campaign.decode(errors="replace") for campaign in await self._store.smembers(keys.GONE)}
        loaded = CampaignCache(self._store, self._consent)
        after: str | None = None
        while True:
            unreadable: list[str] = []
            campaigns, after = await page(self._store, after, _PAGE_SIZE, unreadable)
            for campaign in campaigns:
                loaded.learn(campaign)
            for campaign_id in unreadable:
                loaded._learn_unreadable(campaign_id, self)
            if after is None:
                break
        await self.mark.check(self._store)
        self._seen_version = version
        self.kinds, self.rules, self.web, self.gone = loaded.kinds, loaded.rules, loaded.web, deleted
        self.unreadable = loaded.unreadable
        self.has_loaded = True

    async def refresh(self) -> None:
        """Reads the changes since the last call, or all campaigns if the log has dropped some changes.

        Raises StoreRefusedError, and changes nothing, if this process must not use the store.
        """
        if not self.has_loaded:
            return await self.load()
        pipe = self._store.pipeline(transaction=False)
        change_log.queue_read(pipe, self._seen_version)
        self.mark.queue_read(pipe)
        entries, mark = await pipe.execute()
        self.mark.compare(mark)
        changes = change_log.unpack(entries, self._seen_version)
        if changes is None:
            return await self.load()
        changed, version = changes
        if changed:
            for campaign in changed:
                queue_record(pipe, campaign)
            self.mark.queue_read(pipe)
            *records, mark = await pipe.execute(raise_on_error=False)
            self.mark.compare(mark)
            for campaign, record in zip(changed, records, strict=True):
                self._learn_record(campaign, record)
        self._seen_version = version
        return None

    def _learn_record(self, campaign: str, record: bytes | Exception | None) -> None:
        """Adds, replaces or removes a campaign. record: its stored record, or None if it was deleted."""
        if record is None:
            self.unreadable.discard(campaign)
            return self.forget(campaign)
        try:
            self.learn(decode(record, campaign))
            self.unreadable.discard(campaign)
        except UnreadableCampaign as error:
            report_unreadable(error)
            self._learn_unreadable(campaign, self)

    def save(self, path: Path) -> None:
        """Writes the cache to a file, for a start while Redis is away."""
        files.write(path, msgspec.json.encode(_File(self.kinds, sorted(self.gone), self.rules, self.web)))

    def read_saved(self, path: Path) -> None:
        """Reads the file that `save` wrote, if it exists.

        `load` and `refresh` use the file for campaigns whose record cannot be read.
        """
        try:
            self._saved = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning(
                "campaigns-file-unreadable",
                "cannot read %(path)s, so campaigns are not known until Redis answers: %(error)s",
                path=path,
                error=error,
            )

    def restore(self, path: Path) -> None:
        """Fills the cache from the file that `save` wrote, if it exists and Redis has not been read."""
        self.read_saved(path)
        if (file := self._saved) is not None and not self.has_loaded:
            self.kinds, self.gone, self.rules, self.web = (
                dict(file.kinds),
                set(file.gone),
                dict(file.rules),
                dict(file.web),
            )

    async def follow(self, path: Path | None = None) -> None:
        """Calls `refresh` again and again, until the task is cancelled. Saves changes at `path`, if given."""
        last_saved: tuple[int, int, dict[str, Rule], dict[str, WebCampaign]] | None = None

        async def save_changes() -> None:
            nonlocal last_saved
            current = (len(self.kinds), len(self.gone), dict(self.rules), dict(self.web))
            if path is not None and self.has_loaded and current != last_saved:
                last_saved = current
                try:
                    await asyncio.to_thread(self.save, path)
                except OSError as error:
                    log.warning(
                        "campaigns-file-not-written",
                        "cannot write %(path)s, which a start without Redis would need: %(error)s",
                        path=path,
                        error=error,
                    )

        async def refresh_and_save() -> None:
            try:
                await self.refresh()
            except Exception:
                await save_changes()
                raise
            await save_changes()

        await save_changes()
        await tasks.repeat(refresh_and_save, REFRESH_SECONDS, _report_failed_refresh, pauses_first=True)


def _report_failed_refresh(error: Exception) -> None:
    if isinstance(error, StoreRefusedError):
        return  # `StoreMark.compare` has logged it
    if is_away(error):
        log.warning(
            "campaigns-redis-away",
            "Redis does not answer; the campaigns known so far stay in use: %(error)s",
            error=error,
        )
    else:  # whatever the store holds, this process goes on
        log.error(
            "campaigns-unreadable",
            "the campaigns in the store cannot be read; those known so far stay in use: %(error)s",
            error=error,
        )

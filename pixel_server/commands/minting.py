"""The minter of commands that make links. It makes the same links as the `up` of this data directory."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click
import redis

from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign, decode
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import base_url_of_up, settings_here, store_url, warn_if_local
from pixel_server.consent import Consent
from pixel_server.mail.links import Minter, MintOptions
from pixel_server.recipients import consents
from pixel_server.run.up_state import read_up_state
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.slug import SLUG_RULE, is_slug
from pixel_server.store import client, keys
from pixel_server.tokens import MAX_TIME, Mode

STORE_TIMEOUT_SECONDS = 0.25
"""Seconds to wait for an answer of the store. Links can be made without a store."""


def check_campaign(campaign: str) -> None:
    """Raises Failure if this is not the id of a campaign."""
    if not is_slug(campaign):
        raise Failure(f"campaign {SLUG_RULE}")


class CampaignMinter(NamedTuple):
    """A minter of links in the mode of a campaign.

    needs_consent: whether the campaign tells only recipients apart whose consent is stored. False if the
    store does not answer.
    """

    minter: Minter
    needs_consent: bool

    def options(self, options: MintOptions, *, is_apart: bool) -> MintOptions:
        """Returns the options of a link. is_apart: whether the link may tell its recipient apart."""
        if is_apart:
            return options
        return MintOptions(**{**options, "mode": min(self.minter.mode, Mode.COUNT)})


def make_minter(campaign: str, *, is_sent: bool) -> CampaignMinter:
    """Returns a minter that makes links in the campaign's mode.

    Warns on standard error if the campaign does not exist. is_sent: whether the links go into mails, so that
    it also warns if only this machine can reach them. Raises Failure as `find_minter` does.
    """
    minter, warning = find_minter(campaign)
    if warning:
        click.echo(f"pixel-server: {warning}", err=True)
    if is_sent:
        warn_if_local(link_parts()[0])
    return minter


def find_minter(campaign: str) -> tuple[CampaignMinter, str]:
    """Returns a minter that makes links in the campaign's mode, and a warning about the campaign, or "".

    Raises Failure if it is a web campaign, if the server's public address is not known, or if `up` has other
    secrets.
    """
    base_url, settings, secrets = link_parts()
    stored = _read_campaign(campaign, settings, secrets)
    mode, warning = _find_mode(campaign, settings, stored)
    record = stored.record if stored else None
    needs_consent = record is not None and consents.needs_consent(record)
    return CampaignMinter(Minter(base_url, secrets, mode), needs_consent), warning


def link_parts() -> tuple[str, Settings, Secrets]:
    """Returns what links are made of: the base URL, the settings and the secrets. Raises Failure."""
    settings = settings_here()
    base_url = settings.base_url or base_url_of_up(settings)
    if base_url is None:
        raise Failure(
            f"no `pixel-server up` has run with {settings.data}: set PIXEL_DATA_DIR to the directory of an "
            "`up`, or PIXEL_BASE_URL to the public address of the server"
        )
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    _require_secrets_of_up(settings, secrets)
    return base_url, settings, secrets


def find_sending_time(campaign: str, at: datetime | None) -> int | None:
    """Returns a time of sending in seconds since 1970. A time without an offset is in the campaign's zone.

    Uses the default zone if the campaign does not exist. Raises Failure if the zone is needed and the store
    does not answer, or if no link can hold the time.
    """
    if at is None:
        return None
    if at.tzinfo is None:
        settings = settings_here()
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        stored = _read_campaign(campaign, settings, secrets)
        if stored is None:
            raise Failure(
                "--sent-at needs an offset, as 2026-11-30T09:00:00+01:00: no Redis of this server answers, "
                "so the campaign's time zone is not known"
            )
        at = at.replace(tzinfo=stored.record.zone if stored.record else ZoneInfo(settings.time_zone))
    try:
        seconds = int(at.timestamp())
    except OverflowError:
        seconds = -1
    if not 0 <= seconds <= MAX_TIME:
        raise Failure("--sent-at must be between 1970 and 2106")
    return seconds


def _require_secrets_of_up(settings: Settings, secrets: Secrets) -> None:
    """Raises Failure if the `up` of this directory has other secrets, and so would not count the links."""
    state = read_up_state(settings.data)
    recipient, signers = secrets.fingerprints()
    if state and not {recipient, signers[0]} <= set(state.secret_fingerprints):
        raise Failure("`up` has other secrets: set the same PIXEL_SECRET and PIXEL_RECIPIENT_SECRET here")


def _find_mode(campaign: str, settings: Settings, stored: _Stored | None) -> tuple[Mode, str]:
    """Returns the campaign's mode: from the store, or else from the file that a web process last wrote.

    stored: the campaign in the store, or None if the store cannot be used. Also returns a warning if the
    campaign does not exist, because its id may be mistyped, or if its mode is off. Raises Failure if it is a
    web campaign.
    """
    cache = CampaignCache(client.connect_async(store_url(settings)), Consent(settings))
    if stored is None:
        cache.restore(settings.data / CACHE_FILE)
        if not cache.kinds:  # nothing is known of any campaign, so no warning is due
            return cache.mode(campaign), ""
    elif stored.record is not None:
        cache.learn(stored.record)
    elif stored.is_gone:
        cache.forget(campaign)
    if cache.is_web(campaign):
        raise Failure(f"{campaign!r} is a web campaign: its pixel is the same for all; see docs/web.md")
    mode, warnings = cache.mode(campaign), []
    if campaign in cache.gone:
        warnings.append(f"the campaign {campaign!r} was deleted: no open of it is counted")
    elif campaign not in cache.kinds:
        warnings.append(f"{UnknownCampaign(campaign)} yet: its first open will create it")
    if mode is Mode.OFF:
        warnings.append(f"the mode of {campaign!r} is off: no link is made")
    return mode, "; ".join(warnings)


class _Stored(NamedTuple):
    """A campaign in the store. record: None if the campaign does not exist. is_gone: it was deleted."""

    record: Campaign | None
    is_gone: bool


def _read_campaign(campaign: str, settings: Settings, secrets: Secrets) -> _Stored | None:
    """Returns a campaign from the store.

    Returns None if the store does not answer or belongs to a server with other secrets. Raises Failure if
    this version cannot read the campaign.
    """
    try:
        with client.connect(store_url(settings), timeout=STORE_TIMEOUT_SECONDS) as store:
            pipe = store.pipeline(transaction=False)
            pipe.hget(keys.STORE, "recipient")
            pipe.hget(keys.campaign(campaign), "record")
            pipe.sismember(keys.GONE, campaign)
            recipient, record, is_gone = pipe.execute()
    except (redis.RedisError, OSError):
        return None
    if recipient != secrets.fingerprints()[0].encode():
        return None
    try:
        return _Stored(None if record is None else decode(record, campaign), bool(is_gone))
    except UnreadableCampaign as error:
        raise Failure(f"{error}; update this program") from None

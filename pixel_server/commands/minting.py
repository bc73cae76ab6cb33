"""What commands share that make links: the minter, as this directory's `up` would take its links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import redis

from pixel_server.commands.support import Failure, left_base_url, settings_here, store_url
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.tokens import Mode

if TYPE_CHECKING:
    from pixel_server.campaigns.cache import CampaignCache
    from pixel_server.mail.links import Minter

PATIENCE = 0.25
"""Seconds that a store may take to answer: links are made without one."""


def check_campaign(campaign: str) -> None:
    """Failure: it is no id."""
    from pixel_server.slug import SLUG_RULE, is_slug  # noqa: PLC0415

    if not is_slug(campaign):
        raise Failure(f"campaign {SLUG_RULE}")


def minter(campaign: str) -> Minter:
    """What makes links of this campaign, in its mode; says on standard error if it is not there.

    Failure: it is a web campaign, it is not known where the world reaches the server, or `up` has other
    secrets.
    """
    from pixel_server.mail.links import Minter  # noqa: PLC0415

    settings = settings_here()
    address = settings.base_url or left_base_url(settings)
    if address is None:
        raise Failure(
            f"no `pixel-server up` has run with {settings.data}: set PIXEL_DATA_DIR to where it did, or "
            "PIXEL_BASE_URL to the address at which the world reaches the server"
        )
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    _are_those_of_up(settings, secrets)
    return Minter(address, secrets, _mode(campaign, settings, secrets))


def _are_those_of_up(settings: Settings, secrets: Secrets) -> None:
    """Failure: an `up` in this data directory had other secrets, and would not count such links."""
    from pixel_server.run.up_state import read_up_state  # noqa: PLC0415

    found = read_up_state(settings.data)
    recipient, signers = secrets.fingerprints()
    if found and not (recipient in found.prints and signers[0] in found.prints):
        raise Failure("`up` had other secrets: set the same PIXEL_SECRET and PIXEL_RECIPIENT_SECRET here")


def _mode(campaign: str, settings: Settings, secrets: Secrets) -> Mode:
    """That of a campaign: as our store has it, else as a web process last wrote it to the data directory.

    Failure: it is a web campaign. Warns of an id that is not there, as one that is mistyped.
    """
    from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache  # noqa: PLC0415
    from pixel_server.consent import Consent  # noqa: PLC0415
    from pixel_server.store.client import connect_async  # noqa: PLC0415

    known = CampaignCache(connect_async(store_url(settings)), Consent(settings))
    if not _ask(known, campaign, settings, secrets):
        known.restore(settings.data / CACHE_FILE)
        if not known.kinds:  # nothing is known of any
            return known.mode(campaign)
    if known.is_web(campaign):
        raise Failure(f"{campaign!r} is a web campaign: one pixel for all its pages; see docs/web.md")
    if campaign in known.gone:
        click.echo(f"pixel-server: the campaign {campaign!r} was deleted: no open of it is counted", err=True)
    elif campaign not in known.kinds:
        click.echo(
            f"pixel-server: there is no campaign {campaign!r} yet: its first open will make it", err=True
        )
    mode = known.mode(campaign)
    if mode is Mode.OFF:
        click.echo(f"pixel-server: the mode of {campaign!r} is off: no link is made", err=True)
    return mode


def _ask(known: CampaignCache, campaign: str, settings: Settings, secrets: Secrets) -> bool:
    """Learns of one campaign from the store. False: it does not answer, or is not ours."""
    from pixel_server.campaigns.campaign import UnreadableCampaign, decode  # noqa: PLC0415
    from pixel_server.store import keys  # noqa: PLC0415
    from pixel_server.store.client import connect  # noqa: PLC0415

    try:
        with connect(store_url(settings), timeout=PATIENCE) as client:
            pipe = client.pipeline(transaction=False)
            pipe.hget(keys.STORE, "recipient")
            pipe.hget(keys.campaign(campaign), "record")
            pipe.sismember(keys.GONE, campaign)
            recipient, record, is_gone = pipe.execute()
    except (redis.RedisError, OSError):
        return False
    if recipient != secrets.fingerprints()[0].encode():
        return False
    if record is not None:
        try:
            known.learn(decode(record, campaign))
        except UnreadableCampaign as error:
            raise Failure(f"{error}; update this program") from None
    elif is_gone:
        known.forget(campaign)
    return True

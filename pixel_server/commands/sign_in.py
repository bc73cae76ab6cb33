"""`pixel-server sign-in`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pixel_server.commands.frame import Failure, as_json, with_store

if TYPE_CHECKING:
    from pixel_server.settings import Settings
    from pixel_server.store import AsyncRedis


@click.command("sign-in")
@click.option("--key", metavar="ID", help="Sign in with this API key.  [default: the oldest that may do all]")
@as_json
def sign_in(key: str | None, as_json: bool) -> None:
    """Print a link that signs in to the dashboard, once and within ten minutes."""
    from pixel_server import sign_in_links  # noqa: PLC0415
    from pixel_server.up import left  # noqa: PLC0415

    async def make(store: AsyncRedis, settings: Settings) -> tuple[str, str]:
        found = left(settings.data)
        base_url = settings.base_url or (found.base_url if found else None)
        if base_url is None:
            raise Failure("set PIXEL_BASE_URL: a link needs an address")
        return base_url, await sign_in_links.make(store, key)

    try:
        base_url, token = with_store(make)
    except sign_in_links.NoKey:
        what = (
            f"there is no key {key}"
            if key
            else "no API key may do all; make one: pixel-server key create NAME"
        )
        raise Failure(what) from None
    link = f"{base_url}/sign-in/{token}"
    click.echo(json.dumps({"url": link, "seconds": sign_in_links.LIVES}) if as_json else link)

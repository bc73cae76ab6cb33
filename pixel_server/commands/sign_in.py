"""`pixel-server sign-in`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pixel_server.commands.support import Failure, as_json, with_store

if TYPE_CHECKING:
    from pixel_server.settings import Settings
    from pixel_server.store.protocols import AsyncRedis


@click.command("sign-in")
@click.option("--key", metavar="ID", help="Sign in with this API key.  [default: the oldest that may do all]")
@as_json
def sign_in(key: str | None, as_json: bool) -> None:
    """Print a link that signs in to the dashboard, once and within ten minutes.

    If the `up` here has another address than the base URL's, the link at that goes to standard error.
    """
    from pixel_server.auth import sign_in_links  # noqa: PLC0415
    from pixel_server.run.up_state import read_up_state, sign_in_bases  # noqa: PLC0415

    async def make(store: AsyncRedis, settings: Settings) -> tuple[list[str], str]:
        found = read_up_state(settings.data)
        base_url = settings.base_url or (found.base_url if found else None)
        if base_url is None:
            raise Failure("set PIXEL_BASE_URL: a link needs an address")
        bases = sign_in_bases(found.address, base_url) if found else [base_url]
        return bases, await sign_in_links.make(store, key)

    try:
        bases, token = with_store(make)
    except sign_in_links.NoApiKey:
        what = (
            f"there is no key {key}"
            if key
            else "no API key may do all; make one: pixel-server key create NAME"
        )
        raise Failure(what) from None
    links = [f"{base}/sign-in/{token}" for base in bases]
    if as_json:
        local = links[1] if links[1:] else None
        click.echo(
            json.dumps({"url": links[0], "local_url": local, "seconds": sign_in_links.LIFETIME_SECONDS})
        )
        return
    click.echo(links[0])
    for other in links[1:]:
        click.echo(f"pixel-server: or at {other} (the same, at its own address)", err=True)

"""`pixel-server sign-in`"""

from __future__ import annotations

import json

import click

from pixel_server.auth import sign_in_links
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from pixel_server.run.up_state import read_up_state, sign_in_bases
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis


@click.command()
@click.option("--key", metavar="ID", help="Sign in with this API key.  [default: the oldest with all scopes]")
@as_json
def sign_in(key: str | None, as_json: bool) -> None:
    """Print a link that signs in to the dashboard. The link works once, within ten minutes.

    If the `up` of this data directory has another address than the base URL, a link at that address is
    printed to standard error.
    """

    async def make_token(store: AsyncRedis, settings: Settings) -> tuple[list[str], str]:
        state = read_up_state(settings.data)
        base_url = settings.base_url or (state.base_url if state else None)
        if base_url is None:
            raise Failure("set PIXEL_BASE_URL to the public address of this server")
        bases = sign_in_bases(state.address, base_url) if state else [base_url]
        return bases, await sign_in_links.make(store, key, who=audit_log.COMMAND)

    try:
        bases, token = with_store(make_token)
    except sign_in_links.NoApiKey:
        raise Failure(
            f"there is no key {key}"
            if key
            else "no API key has all permissions; create one: pixel-server key create NAME"
        ) from None
    links = [f"{base}/sign-in/{token}" for base in bases]
    if as_json:
        local = links[1] if links[1:] else None
        click.echo(
            json.dumps({"url": links[0], "local_url": local, "seconds": sign_in_links.LIFETIME_SECONDS})
        )
        return
    click.echo(links[0])
    for other in links[1:]:
        click.echo(f"pixel-server: or at {other} (at the address that `up` listens on)", err=True)

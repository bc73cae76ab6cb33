"""The command line: the same things without HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import redis

from pixel_server import __version__, lifeline
from pixel_server.consent import Consent
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import SIGNALS, Settings, SettingsError, table
from pixel_server.tokens import MODES

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

T = TypeVar("T")


class Failure(click.ClickException):
    """One clear line, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"pixel-server: {self.message}", err=True)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        from pixel_server.store import StoreError  # noqa: PLC0415 - offline commands need no Redis

        try:
            return super().invoke(ctx)
        except (SettingsError, SecretsError, StoreError) as error:
            raise Failure(str(error)) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise Failure(f"Redis does not answer: {error}; is `pixel-server up` running?") from None
        except redis.RedisError as error:
            raise Failure(f"Redis refuses: {error}") from None


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="pixel-server")
def main() -> None:
    """Self-hosted tracking pixel and email-open beacon server."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("rq").setLevel(logging.WARNING)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--data", type=click.Path(path_type=Path), help="Data directory.  [default: ./pixel-data]")
def up(host: str, port: int, data: Path | None) -> None:
    """Start everything: Redis, one web process, the workers. Ctrl-C stops it."""
    from pixel_server import up as everything  # noqa: PLC0415

    settings = Settings.from_env()
    settings = replace(settings, data=data or settings.data)
    everything.run(host, port, settings, own_redis=not os.environ.get("REDIS_URL", "").strip())


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), envvar="PORT")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--handle", type=int, hidden=True, help="A socket that is listening already.")
def serve(host: str, port: int, processes: int, handle: int | None) -> None:
    """Run the web process, which answers pixels and the API."""
    from pixel_server import serving  # noqa: PLC0415
    from pixel_server.processes import Child, keep  # noqa: PLC0415

    lifeline.hold()
    _fit_or_fail()
    listening = serving.bind(host, port) if handle is None else socket.socket(fileno=handle)
    if processes == 1:
        serving.run(listening)
        return
    number = listening.fileno()
    arguments = ["serve", "--handle", str(number)]
    keep([Child(f"web {i + 1}", arguments, os.environ, [number]) for i in range(processes)])


@main.command()
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--one", is_flag=True, hidden=True, help="Be one worker.")
def work(processes: int, one: bool) -> None:
    """Run the workers, which count hits, and their schedule."""
    from pixel_server.processes import Child, keep  # noqa: PLC0415
    from workers.work import Schedule, run_worker  # noqa: PLC0415

    lifeline.hold()
    settings = Settings.from_env()
    if one:
        run_worker(settings)
        return
    _fit_or_fail()
    keep(
        [Child(f"worker {i + 1}", ["work", "--one"], os.environ) for i in range(processes)],
        Schedule(settings).tick,
    )


@main.group()
def campaign() -> None:
    """Make, list, show and delete campaigns."""


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@campaign.command("create")
@click.argument("id")
@click.option("--name", help="Its name.  [default: the id]")
@click.option("--kind", type=click.Choice(["email", "web"]), default="email", show_default=True)
@click.option("--sent", type=int, help="How many mails went out.")
@click.option("--time-zone", default="UTC", show_default=True)
@click.option("--base-url", help="Where its links point, if not to PIXEL_BASE_URL.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Most that is kept of a recipient.  [default: PIXEL_DEFAULT_MODE]",
)
@click.option("--gpc", type=click.Choice(SIGNALS), help="What GPC and DNT do.  [default: PIXEL_GPC]")
@_as_json
def create_campaign(as_json: bool, **given: Any) -> None:
    """Make a campaign."""
    from pixel_server import campaigns  # noqa: PLC0415
    from pixel_server.report import body  # noqa: PLC0415

    if given["name"] is None:
        given["name"] = given["id"]
    checks: dict[str, Callable[[Any], Any]] = {
        "id": body.slug,
        "name": body.name,
        "sent": body.sent,
        "time_zone": body.time_zone,
        "base_url": body.base_url,
    }
    consent = Consent(Settings.from_env())
    checks["mode"] = consent.check
    given["mode"] = given["mode"] or consent.default.mode.name.lower()
    for field, check in checks.items():
        try:
            given[field] = check(given[field])
        except ValueError as error:
            raise Failure(f"{field} {error}") from None
    made = campaigns.new(**given)
    try:
        _with_store(lambda store, _: campaigns.create(store, made))
    except campaigns.Exists:
        raise Failure(f"the id {made.id} is taken, or was: ids are never given twice") from None
    if as_json:
        click.echo(json.dumps(campaigns.to_json(made)))
    else:
        click.echo(f"made {made.kind} campaign {made.id}")


@campaign.command("list")
@_as_json
def list_campaigns(as_json: bool) -> None:
    """List all campaigns."""
    from pixel_server import campaigns  # noqa: PLC0415

    async def all_of_them(store: Any, _: Settings) -> list[campaigns.Campaign]:
        found, after = await campaigns.page(store, None, 1000)
        while after is not None:
            more, after = await campaigns.page(store, after, 1000)
            found += more
        return found

    items = [campaigns.to_json(item) for item in _with_store(all_of_them)]
    if as_json:
        click.echo(json.dumps({"items": items, "next": None}))
        return
    for item in items:
        sent = "" if item["sent"] is None else f"{item['sent']} sent"
        click.echo(f"{item['id']:<30}  {item['kind']:<5}  {sent:>14}  {item['name']}")


@campaign.command("show")
@click.argument("id")
@_as_json
def show_campaign(id: str, as_json: bool) -> None:  # noqa: A002
    """Show a campaign's figures of all time."""
    from pixel_server import campaigns  # noqa: PLC0415
    from pixel_server.report import ranges, stats  # noqa: PLC0415

    async def figures(store: Any, settings: Settings) -> tuple[campaigns.Campaign, dict[str, Any]]:
        found = await campaigns.get(store, id)
        now = time.time()
        wanted = ranges.parse({}, found.time_zone, now)
        return found, await stats.read(store, found, wanted, settings, now)

    try:
        found, read = _with_store(figures)
    except campaigns.Unknown:
        raise Failure(f"there is no campaign {id}") from None
    if as_json:
        click.echo(json.dumps({**campaigns.to_json(found), "stats": read}))
        return
    rows = [("campaign", f"{found.id} ({found.kind}) {found.name}"), ("counted up to", read["as_of"])]
    for name, value in read["totals"].items():
        if not value and name in ("opens_anonymous", "hits_gpc", "dropped_gpc"):
            continue  # nothing to tell
        estimate = read["estimates"].get(name)
        error = f" (estimate, \u00b1{estimate['standard_error']:.1%})" if estimate else ""
        rows.append((name.replace("_", " "), "not known" if value is None else f"{value:,}{error}"))
    if found.kind == "email":
        rows.append(("sent", "not set" if found.sent is None else f"{found.sent:,}"))
        rate = read["open_rate"]
        none = "more openers than sent" if read["over"] else "none without `sent`"
        rows.append(("open rate", none if rate is None else _span(rate)))
    for name, shown in rows:
        click.echo(f"{name:<16} {shown}")


def _span(rate: dict[str, float]) -> str:
    low, high = f"{rate['low']:.1%}", f"{rate['high']:.1%}"
    return low if low == high else f"{low} to {high}"


@campaign.command("delete")
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
def delete_campaign(id: str, yes: bool, as_json: bool) -> None:  # noqa: A002
    """Delete a campaign and all that was counted for it. Its id is never given again."""
    from pixel_server import campaigns  # noqa: PLC0415

    if not yes:
        click.confirm(f"Delete {id} and all that was counted for it?", abort=True, err=True)
    try:
        _with_store(lambda store, settings: campaigns.delete(store, id, settings.shards))
    except campaigns.Unknown:
        raise Failure(f"there is no campaign {id}") from None
    click.echo(json.dumps({"deleted": id}) if as_json else f"deleted {id}")


@main.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient")
@click.option("--html", "as_html", is_flag=True, help="Print the image tag.")
@_as_json
def link(campaign_id: str, recipient: str, as_html: bool, as_json: bool) -> None:
    """Make the pixel link of one mail. Works offline."""
    from pixel_server.links import Minter, check_recipient  # noqa: PLC0415
    from pixel_server.slug import PATTERN, is_slug  # noqa: PLC0415

    settings = Settings.from_env()
    if not is_slug(campaign_id):
        raise Failure(f"campaign must match {PATTERN}")
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise Failure(f"recipient {error}") from None
    address = settings.base_url or _left_base_url(settings)
    if address is None:
        raise Failure("set PIXEL_BASE_URL, the address at which the world reaches this server")
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    _are_those_of_up(settings, secrets)
    made = Minter(address, secrets).link(campaign_id, recipient)
    if as_json:
        click.echo(json.dumps({"recipient": recipient, "url": made.url, "html": made.html}))
    else:
        click.echo(made.html if as_html else made.url)


@main.group()
def key() -> None:
    """Make, list and revoke API keys."""


@key.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(["read", "write", "people"]), help="[default: all]"
)
@_as_json
def create_key(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make an API key. It is shown this once."""
    from pixel_server import apikeys  # noqa: PLC0415
    from pixel_server.report import body  # noqa: PLC0415

    try:
        body.name(name)
    except ValueError as error:
        raise Failure(f"name {error}") from None
    chosen = [scope for scope in apikeys.SCOPES if scope in scopes] or list(apikeys.SCOPES)
    try:
        record, made = _with_store(lambda store, _: apikeys.create(store, name, chosen))
    except ValueError as error:
        raise Failure(f"name {error}") from None
    click.echo(json.dumps({**apikeys.to_json(record), "key": made}) if as_json else made)


@key.command("list")
@_as_json
def list_keys(as_json: bool) -> None:
    """List API keys."""
    from pixel_server import apikeys  # noqa: PLC0415

    records = [apikeys.to_json(record) for record in _with_store(lambda store, _: apikeys.listed(store))]
    if as_json:
        click.echo(json.dumps({"items": records, "next": None}))
        return
    for record in records:
        used = record["last_used"] or "never used"
        click.echo(f"{record['id']}  {','.join(record['scopes']):<10}  {used:<20}  {record['name']}")


@key.command("revoke")
@click.argument("id")
@_as_json
def revoke_key(id: str, as_json: bool) -> None:  # noqa: A002
    """Revoke an API key by its id."""
    from pixel_server import apikeys  # noqa: PLC0415

    try:
        if not (id.isascii() and id.isalnum()):
            raise apikeys.Unknown(id)
        _with_store(lambda store, _: apikeys.revoke(store, id))
    except apikeys.Unknown:
        raise Failure(f"there is no key {id}") from None
    click.echo(json.dumps({"revoked": id}) if as_json else f"revoked {id}")


@main.group("dead-letters")
def dead_letters() -> None:
    """Look at hits that could not be read, and drop them."""


@dead_letters.command("list")
@_as_json
def list_dead(as_json: bool) -> None:
    """List them, oldest first in each shard."""
    from pixel_server import keys  # noqa: PLC0415

    async def read(store: Any, settings: Settings) -> list[dict[str, Any]]:
        found = []
        for shard in range(settings.shards):
            for entry, fields in await store.xrange(keys.dead(shard), "-", "+", 1000):
                reason = fields[b"reason"].decode("utf-8", "replace")
                found.append(
                    {"shard": shard, "id": entry.decode(), "reason": reason, "data": fields[b"data"].hex()}
                )
        return found

    found = _with_store(read)
    if as_json:
        click.echo(json.dumps({"items": found, "next": None}))
        return
    for letter in found:
        click.echo(f"{letter['shard']}  {letter['id']}  {letter['reason']}  {letter['data'][:80]}")


@dead_letters.command("drop")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
def drop_dead(yes: bool, as_json: bool) -> None:
    """Drop all of them: a shard that stands still goes on."""
    from pixel_server import keys  # noqa: PLC0415

    if not yes:
        click.confirm("Drop all dead letters?", abort=True, err=True)

    async def drop(store: Any, settings: Settings) -> int:
        return sum(
            [await store.xtrim(keys.dead(n), maxlen=0, approximate=False) for n in range(settings.shards)]
        )

    dropped = _with_store(drop)
    click.echo(json.dumps({"dropped": dropped}) if as_json else f"dropped {dropped} dead letters")


@main.group()
def spool() -> None:
    """Hits that wait on disk, because Redis was away."""


@spool.command("status")
@_as_json
def spool_status(as_json: bool) -> None:
    """Show what waits, and since when. Needs no Redis."""
    from pixel_server.collect.spool import status  # noqa: PLC0415
    from pixel_server.report.ranges import show_ms  # noqa: PLC0415

    found = status(Settings.from_env().data / "spool")
    oldest = None if found.oldest_ms is None else show_ms(found.oldest_ms)
    shown = {
        "segments": found.segments,
        "hits": found.hits,
        "bytes": found.bytes,
        "waiting_since": oldest,
        "set_aside": found.aside,
    }
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' '):<14} {'-' if value is None else value}")


@spool.command("drain")
@_as_json
def spool_drain(as_json: bool) -> None:
    """Give to Redis what no running web process holds. (A running one drains its own by itself.)"""
    import hiredis  # noqa: PLC0415

    from pixel_server.collect.drain import Drain  # noqa: PLC0415
    from pixel_server.collect.spool import Spool  # noqa: PLC0415
    from pixel_server.collect.stream import Stream  # noqa: PLC0415

    async def drain(store: Any, settings: Settings) -> int:
        held = Spool(settings.data / "spool", settings.spool_bytes)
        stream = Stream(_store_url(settings), within=10.0)
        try:
            return await Drain(held, stream).once()
        finally:
            stream.close()
            held.close()

    try:
        batches = _with_store(drain)
    except (OSError, TimeoutError, hiredis.ReplyError) as error:
        raise Failure(f"the spool waits: {error or type(error).__name__}") from None
    click.echo(json.dumps({"batches": batches}) if as_json else f"drained {batches} batches")


@main.command("settings")
@_as_json
def show_settings(as_json: bool) -> None:
    """List every setting with its default."""
    Settings.from_env()
    if as_json:
        click.echo(json.dumps([{"name": n, "default": d, "help": h} for n, d, h in table()]))
        return
    for name, default, text in table():
        click.echo(f"{name:<30} {default:<26} {text}")


def _are_those_of_up(settings: Settings, secrets: Secrets) -> None:
    """Failure: an `up` in this data directory had other secrets, and would not count such links."""
    from pixel_server.up import left  # noqa: PLC0415

    found = left(settings.data)
    recipient, signers = secrets.fingerprints()
    if found and not (recipient in found.prints and signers[0] in found.prints):
        raise Failure("`up` had other secrets: set the same PIXEL_SECRET and PIXEL_RECIPIENT_SECRET here")


def _left_base_url(settings: Settings) -> str | None:
    from pixel_server.up import left  # noqa: PLC0415

    found = left(settings.data)
    return found.base_url if found else None


def _store_url(settings: Settings) -> str:
    """REDIS_URL, else what `up` left in the data directory."""
    from pixel_server.up import left  # noqa: PLC0415

    found = None if os.environ.get("REDIS_URL", "").strip() else left(settings.data)
    return found.redis_url if found else settings.redis_url


def _with_store(act: Callable[[Any, Settings], Awaitable[T]], url: str | None = None) -> T:
    """Runs `act` with a store that was found fit, and the settings."""
    from pixel_server import store as stores  # noqa: PLC0415

    settings = Settings.from_env()
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)

    async def run() -> T:
        address = url or _store_url(settings)
        store = stores.connect_async(address, timeout=10.0)
        try:
            await stores.check(store, address, settings.shards, secrets)
            return await act(store, settings)
        finally:
            await store.aclose()

    return asyncio.run(run())


def _fit_or_fail() -> None:
    """Before anything is started: settings, secrets and store, or one clear line.

    A store that is only away now is waited for by what is started.
    """
    from pixel_server.store import StoreAwayError  # noqa: PLC0415

    async def nothing(store: Any, settings: Settings) -> None:
        return None

    settings = Settings.from_env()
    try:
        _with_store(nothing, settings.redis_url)
    except StoreAwayError as error:
        if not settings.spool_bytes:
            raise
        logging.getLogger("pixel_server").error("%s; starting all the same", error)

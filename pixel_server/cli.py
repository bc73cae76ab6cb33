"""The command line: the same things without HTTP."""

from __future__ import annotations

import json
import logging
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixel_server import __version__, logs
from pixel_server.commands import (
    audit,
    campaign,
    check,
    dead_letters,
    demo,
    doctor,
    embed,
    explain,
    key,
    link,
    losses,
    networks,
    note,
    privacy,
    share,
    sign_in,
    spool,
    store,
    upload,
)
from pixel_server.commands.support import Failure, Group, as_json, environment, with_store, with_this
from pixel_server.run import uvicorn_parts
from pixel_server.run.supervisor import hold_lifeline
from pixel_server.settings import Settings, shown_environment, table, unknown_names

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis


@click.group(cls=Group)
@click.version_option(__version__, prog_name="pixel-server")
def main() -> None:
    """Self-hosted tracking pixel and email-open beacon server."""
    logs.configure()


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), envvar="PORT")
@click.option("--data", type=click.Path(path_type=Path), help="Data directory.  [default: ./pixel-data]")
@click.option("--demo", "with_demo", is_flag=True, help="Add two made-up campaigns, as `demo add` does.")
def up(host: str, port: int, data: Path | None, with_demo: bool) -> None:
    """Start everything: Redis, one web process, the workers. Ctrl-C stops it."""
    uvicorn_parts.check()
    from pixel_server.run import up as everything  # noqa: PLC0415

    settings = Settings.from_env()
    _warn_of_unknown()
    settings = replace(settings, data=data or settings.data)
    own_redis = not os.environ.get("REDIS_URL", "").strip()
    everything.run(host, port, settings, own_redis, with_demo)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), envvar="PORT")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--only", type=click.Choice(["pixels", "pages"]), help="Answer only these; others get 421.")
@click.option("--handle", type=int, hidden=True, help="A socket that is listening already.")
@click.option("--beside", type=int, hidden=True, help="A channel on which a process for pixels sends pages.")
def serve(
    host: str, port: int, processes: int, only: str | None, handle: int | None, beside: int | None
) -> None:
    """Run the web process, which answers pixels, and beside it one that answers pages and the API."""
    uvicorn_parts.check()
    from pixel_server.run import listen, web_process  # noqa: PLC0415
    from pixel_server.run.supervisor import Child, keep  # noqa: PLC0415

    hold_lifeline()
    if beside is not None:
        web_process.serve_pages_beside_pixels(beside)
        return
    if handle is None:
        _warn_of_unknown()
    _fit_or_fail()
    listening = listen.bind(host, port) if handle is None else socket.socket(fileno=handle)
    if processes == 1:
        if only is None:
            web_process.serve_pixels_beside_pages(listening)
        elif only == "pixels":
            web_process.serve(listening, web_process.FAST_PROTOCOL, web_process.PIXELS_APP)
        else:
            web_process.serve(listening, web_process.PLAIN_PROTOCOL, web_process.PAGES_APP)
        return
    number = listening.fileno()
    arguments = ["serve", "--handle", str(number), *([] if only is None else ["--only", only])]
    keep([Child(f"web {i + 1}", arguments, os.environ, [number]) for i in range(processes)])


@main.command()
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--one", is_flag=True, hidden=True, help="Be one worker.")
def work(processes: int, one: bool) -> None:
    """Run the workers, which count hits, and their schedule."""
    from pixel_server.run.supervisor import Child, keep  # noqa: PLC0415
    from workers.schedule import Schedule  # noqa: PLC0415
    from workers.worker import run_worker  # noqa: PLC0415

    is_child = hold_lifeline()
    settings = Settings.from_env()
    if one:
        run_worker(settings)
        return
    if not is_child:
        _warn_of_unknown()
    _fit_or_fail()
    keep(
        [Child(f"worker {i + 1}", ["work", "--one"], os.environ) for i in range(processes)],
        Schedule(settings).tick,
    )


@main.group()
def retention() -> None:
    """What is older than it may be, and is removed."""


@retention.command("run")
@click.option("--yes", is_flag=True, help="Remove all that is due, also more than a day's worth.")
@as_json
def run_retention(yes: bool, as_json: bool) -> None:
    """Say what is due to be removed; with --yes remove it.

    The workers do this by themselves, and take what became due within a day. More at once waits for --yes:
    after a long outage, when a setting was lowered, or when a clock was wrong.
    """
    from workers.retention import WrongClock, by_hand  # noqa: PLC0415

    try:
        found = with_store(lambda store, settings: by_hand(store, settings, "all" if yes else "nothing"))
    except WrongClock as error:
        raise Failure(str(error)) from None
    shown = dict(sorted((found.taken if yes else found.waiting).items()))
    if as_json:
        click.echo(json.dumps({"removed" if yes else "due": shown}))
        return
    listed = ", ".join(f"{count} {kind}" for kind, count in shown.items()) or "nothing"
    click.echo(f"removed: {listed}" if yes else f"due to be removed: {listed}")


campaign.campaign.add_command(upload.upload)
main.add_command(campaign.campaign)
main.add_command(link.link)
main.add_command(embed.embed)
main.add_command(check.check)
main.add_command(key.key)
main.add_command(demo.demo)
main.add_command(note.note)
main.add_command(share.share)
main.add_command(dead_letters.dead_letters)
main.add_command(spool.spool)
main.add_command(store.store)
main.add_command(losses.losses)
main.add_command(privacy.privacy)
main.add_command(audit.audit)
main.add_command(explain.explain)
main.add_command(networks.networks)
main.add_command(doctor.doctor)
main.add_command(sign_in.sign_in)


@main.command("settings")
@as_json
def show_settings(as_json: bool) -> None:
    """List every setting: with = what is set here or by this data directory's `up`, else its default."""
    _warn_of_unknown()
    here = environment()
    Settings.from_env(here)
    found = shown_environment(here)
    if as_json:
        rows = [{"name": n, "value": found.get(n), "default": d, "help": h} for n, d, h in table()]
        click.echo(json.dumps(rows))
        return
    for name, default, text in table():
        mark, value = ("=", found[name]) if name in found else (" ", default)
        click.echo(f"{name:<30} {mark}{value:<26} {text}")


def _warn_of_unknown() -> None:
    for line in unknown_names(os.environ):
        logging.getLogger("pixel_server").warning("%s", line)


def _fit_or_fail() -> None:
    """Before anything is started: settings, secrets and store, or one clear line.

    A store that is only away now is waited for by what is started.
    """
    from pixel_server.classify import rules  # noqa: PLC0415
    from pixel_server.classify.networks import Networks  # noqa: PLC0415
    from pixel_server.store.client import StoreAwayError  # noqa: PLC0415
    from pixel_server.store.compatibility import secrets_for  # noqa: PLC0415

    async def nothing(store: AsyncRedis, settings: Settings) -> None:
        return None

    settings = Settings.from_env()
    rules.load(settings.rules)
    Networks.load(settings.networks)
    url = settings.redis_url
    try:
        with_this(url, settings, secrets_for(settings, url), nothing)
    except StoreAwayError as error:
        if not settings.spool_bytes:
            raise
        logging.getLogger("pixel_server").error("%s; starting anyway", error)

"""`pixel-server hosts ...`"""

from __future__ import annotations

import json

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, print_table, with_store
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys
from pixel_server.store import hosts as records
from pixel_server.store.clock import read_time
from pixel_server.store.protocols import AsyncRedis


@click.group()
def hosts() -> None:
    """List the hosts that share this store, and forget a host whose spool is lost."""


@hosts.command("list")
@as_json
def list_hosts(as_json: bool) -> None:
    """List hosts and processes, when each was last seen, and the hits in its spool."""

    async def read(store: AsyncRedis, settings: Settings) -> tuple[list[records.Host], float]:
        return records.parse(await store.hgetall(keys.HOSTS)), await read_time(store)

    found, now = with_store(read)
    if as_json:
        items = [
            {
                "id": host.id,
                "name": host.name,
                "kind": host.kind,
                "is_away": host.is_away(now),
                "seen_seconds_ago": round(max(0.0, now - host.at), 1),
                "spool_hits": host.spool_hits,
            }
            for host in found
        ]
        click.echo(json.dumps({"items": items, "next": None}))
        return
    rows = [("id", "name", "kind", "seen", "spool")]
    for host in found:
        state = "stopped" if host.is_stopped else f"{max(0.0, now - host.at):.0f} s ago"
        hits = "unreadable" if host.spool_hits is None else f"{host.spool_hits:,} hits"
        rows.append((host.id, host.name, host.kind, state, hits if host.has_spool else "-"))
    print_table(rows)


@hosts.command("forget")
@click.argument("host_id", metavar="ID")
@as_json
def forget(host_id: str, as_json: bool) -> None:
    """Forget a host that will not come back. The hits in its spool are lost unless they were drained."""

    async def forget_host(store: AsyncRedis, settings: Settings) -> None:
        now = await read_time(store)
        found = {host.id: host for host in records.parse(await store.hgetall(keys.HOSTS))}
        if host_id not in found:
            raise Failure(f"there is no host {host_id!r}: see `pixel-server hosts list`")
        if not found[host_id].is_away(now):
            raise Failure(f"host {host_id} is running: stop it first")
        await store.eval(*records.forget_call(host_id))
        await audit_log.note(store, audit_log.COMMAND, "host.forgotten", host=host_id)

    with_store(forget_host)
    click.echo(json.dumps({"forgotten": host_id}) if as_json else f"forgot {host_id}")

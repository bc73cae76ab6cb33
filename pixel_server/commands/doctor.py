"""`pixel-server doctor`"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import click
import redis

from pixel_server.commands.doctor_addresses import base_url, campaigns, operator
from pixel_server.commands.doctor_files import aof, backup, networks, readable_secrets, rules, spool
from pixel_server.commands.doctor_relay import relay
from pixel_server.commands.doctor_store import losses, network_refresh, redis_and_workers
from pixel_server.commands.findings import Check, Finding
from pixel_server.commands.support import as_json, settings_here
from pixel_server.settings import Settings, SettingsError

CHECKS: tuple[Check, ...] = (
    *(networks, network_refresh, rules, operator, base_url, spool, aof, readable_secrets, backup),
    *(losses, redis_and_workers, campaigns, relay),
)


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Report what needs the operator's attention.

    Checks the settings, the lists of networks, the rules, the spool, the disk, the secrets, backups, Redis,
    the workers, the campaigns and the relay. Works without Redis. A line of `advice` can wait; the exit code
    is 1 if there is a `problem`.
    """
    settings = Settings.from_env()
    with contextlib.suppress(SettingsError):  # the check of the store reports this error
        settings = settings_here()
    today = datetime.now(UTC).date()
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(settings, today)
        except (SettingsError, OSError, redis.RedisError) as error:  # the other checks go on
            findings.append(Finding(check.__name__, "check", "problem", f"cannot be made: {error}"))
    if as_json:
        click.echo(json.dumps({"items": [finding._asdict() for finding in findings], "next": None}))
    else:
        for finding in findings:
            click.echo(f"{finding.level:<8} {finding.check} {finding.thing}: {finding.text}")
    ctx.exit(1 if any(finding.level == "problem" for finding in findings) else 0)

"""The option `--metrics` of commands that run without a web process."""

from __future__ import annotations

import click

from pixel_server.addresses import parse_host_port


def _parse_address(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    try:
        return None if value is None else parse_host_port(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


metrics_option = click.option(
    "--metrics",
    metavar="HOST:PORT",
    callback=_parse_address,
    help="Also answer /metrics at this address, for a host without a web process.",
)
"""Passes the parameter `metrics`: (host, port), or None if the option is not given."""

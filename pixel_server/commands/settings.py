"""`pixel-server settings`"""

from __future__ import annotations

import json

import click

from pixel_server.commands.startup import warn_of_unknown_settings
from pixel_server.commands.support import as_json, environment
from pixel_server.settings import Settings, shown_environment, table


@click.command()
@as_json
def settings(as_json: bool) -> None:
    """List every setting and its value.

    `=` marks a value that comes from the environment, or from the last `pixel-server up` with this data
    directory. Other values are defaults.
    """
    warn_of_unknown_settings()
    environ = environment()
    Settings.from_env(environ)
    values = shown_environment(environ)
    if as_json:
        rows = [
            {"name": name, "value": values.get(name), "default": default, "help": text}
            for name, default, text in table()
        ]
        click.echo(json.dumps(rows))
        return
    for name, default, text in table():
        mark, value = ("=", values[name]) if name in values else (" ", default)
        click.echo(f"{name:<30} {mark}{value:<26} {text}")

"""Command-line options for the fields of a campaign. They are made from the table of fields.

Their values are checked as the API checks the fields of a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from pixel_server.api import fields as api_fields
from pixel_server.campaigns.campaign import FIELDS, Field
from pixel_server.commands.failures import Failure
from pixel_server.settings import Settings, time_zones

Command = TypeVar("Command", bound=Callable[..., Any])

NONE = "none"
"""Value of an option that unsets its field, as null does in the API."""
_INSTANTS = frozenset(field.name for field in FIELDS if field.type == "instant")
_INTEGERS = frozenset(field.name for field in FIELDS if field.type == "integer")


def field_options(command: Command) -> Command:
    """Adds options to a command: one option for each field except the name."""
    for field in reversed(FIELDS):
        if field.name != "name":
            command = _option(field)(command)
    return command


def _option(field: Field) -> Callable[[Command], Command]:
    if field.type == "days_by_kind":
        text = f"{field.help} KIND is buckets, days, recipients or names."
        return click.option(_option_name(field.name), multiple=True, metavar="KIND=DAYS", help=text)
    if field.type in ("origins", "tags"):
        return click.option(_option_name(field.name), field.name, multiple=True, help=field.help)
    if field.name in ("mode", "preset", "gpc"):
        choices = (*field.choices, NONE) if field.is_nullable else field.choices
        return click.option(_option_name(field.name), type=click.Choice(choices), help=field.help)
    if field.type == "instant":
        text = f"{field.help} A day, or a time without an offset, is in the campaign's time zone."
        return click.option(_option_name(field.name), help=text)
    return click.option(_option_name(field.name), help=field.help)


def _option_name(field: str) -> str:
    """Returns the name of a field's option: `--sent-at` of `sent_at`, `--tag` of `tags`."""
    singular = {"origins": "origin", "tags": "tag"}.get(field, field)
    return f"--{singular.replace('_', '-')}"


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that were given, as a request to the API holds them.

    `{"sent": "1200", "gpc": "none", "mode": None}` becomes `{"sent": 1200, "gpc": None}`.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value in (None, ()):
            continue
        if isinstance(value, tuple):
            values = [] if value == (NONE,) else list(value)
            fields[name] = dict(map(_days_of_kind, values)) if name == "keep" else values
        elif value == NONE:
            fields[name] = None
        else:
            fields[name] = _integer(value) if name in _INTEGERS else value
    return fields


def check_fields(fields: dict[str, Any], settings: Settings, zone: str) -> dict[str, Any]:
    """Returns the fields as a Campaign holds them. Raises Failure for the first bad field.

    zone: time zone of times without an offset, unless the fields have a `time_zone`.
    """
    checks = api_fields.campaign_checks(settings)
    zone = fields.get("time_zone", zone)
    own_zone = ZoneInfo(zone if zone in time_zones() else "UTC")  # a bad zone is refused below
    checked = {}
    for name, value in fields.items():
        try:
            if name in _INSTANTS and isinstance(value, str):
                checked[name] = api_fields.local_instant(value, own_zone)
            else:
                checked[name] = checks[name](value)
        except ValueError as error:
            raise Failure(f"{_option_name(name)} {str(error).replace('null', NONE)}") from None
    return checked


def _days_of_kind(text: str) -> tuple[str, int | str]:
    """Returns the kind of data and its days: `("recipients", 30)` for `recipients=30`."""
    kind, _, days = text.partition("=")
    return kind, _integer(days)


def _integer(text: str) -> int | str:
    """Returns the integer in a text. Returns any other text unchanged: the field's check refuses it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 13 else text

"""How numbers, shares, times and differences are written on pages. Pure; what is not known is a dash."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from pixel_server.times import DAY

UNKNOWN = "\N{EN DASH}"
_MINUTE, _HOUR = 60, 3600


def number(value: float | None) -> str:
    """1204 as 1,204."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """0.1304 as 13.0%; 1 as 100%."""
    if value is None:
        return UNKNOWN
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def span(seconds: float | None) -> str:
    """A duration in its two greatest units."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    for unit, size, below, part in (("min", _MINUTE, "s", 1), ("h", _HOUR, "min", _MINUTE)):
        if whole < (_HOUR if unit == "min" else DAY):
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    hours = whole % DAY // _HOUR
    return f"{whole // DAY} d" + (f" {hours} h" if hours else "")


def instant(at: str | float | None, zone: str = "UTC") -> str:
    """An instant as `26 Nov 2026, 10:54 UTC`. at: ISO 8601, or seconds."""
    when = _when(at)
    if when is None:
        return UNKNOWN
    here = when.astimezone(ZoneInfo(zone))
    name = here.tzname() or ""
    # Zones without an abbreviation of their own are called +0330 there.
    return f"{here.day} {here:%b %Y, %H:%M} {'UTC' if name[:1] in ('+', '-') else ''}{name}"


def exact(at: str | float) -> str:
    """The same with seconds."""
    when = _when(at)
    assert when is not None
    return f"{when.day} {when:%b %Y, %H:%M:%S} UTC"


def day(at: str | float, zone: str) -> str:
    when = _when(at)
    assert when is not None
    here = when.astimezone(ZoneInfo(zone))
    return f"{here.day} {here:%b %Y}"


def iso(at: str | float) -> str:
    """For the `datetime` of a `<time>`."""
    when = _when(at)
    assert when is not None
    return when.isoformat(timespec="seconds")


def ago(at: float | None, now: float) -> str:
    """How long ago, in its greatest unit."""
    if at is None:
        return "never"
    passed = max(0, int(now - at))
    for size, unit in ((DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return "just now"


def change(now: float | None, before: float | None) -> str:
    """By how much it is more than before: `+12.3%`. Of nothing, or of what is not known, there is none."""
    if now is None or not before:
        return ""
    return _signed(100 * (now - before) / before, "%")


def points(now: float | None, before: float | None) -> str:
    """Of two shares, in percentage points."""
    return "" if now is None or before is None else _signed(100 * (now - before), " points")


def between(low: float, high: float) -> str:
    """The same of an interval, without the unit."""
    return f"{_signed(100 * low, '')} to {_signed(100 * high, '')}"


def called(name: str, dimension: str) -> str:
    """What a row of a breakdown is called: a country by its name, as the time zone database has it."""
    return _countries().get(name, name) if dimension == "country" else name


@cache
def _countries() -> dict[str, str]:
    lines = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text("utf-8").splitlines()
    found = dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))
    return {**found, "GB": "United Kingdom"}


def _signed(value: float, unit: str) -> str:
    rounded = round(value, 1)
    if rounded == 0:
        return f"±0{unit}"
    return f"{rounded:+.1f}{unit}".replace("-", "\N{MINUS SIGN}")


def _when(at: str | float | None) -> datetime | None:
    if at is None:
        return None
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)

"""How much may be kept of whom: by the link, by the campaign, by the server, and by the request itself.

Whatever says least holds. A web process goes by this at the door, and the roll-up does again, so that a
change also reaches hits that wait.
"""

from __future__ import annotations

from typing import NamedTuple

from pixel_server.settings import Settings, Signals
from pixel_server.tokens import MODES, Mode


class Rule(NamedTuple):
    """What holds for a campaign."""

    mode: Mode
    signals: Signals


def mode(name: str) -> Mode:
    """An unknown name is `off`."""
    return Mode[name.upper()] if name in MODES else Mode.OFF


def asks(gpc: str, dnt: str) -> bool:
    """Whether the headers `Sec-GPC` and `DNT` ask not to be followed."""
    return gpc.strip() == "1" or dnt.strip() == "1"


class Consent:
    """The rules of this server."""

    def __init__(self, settings: Settings) -> None:
        self._most = mode(settings.max_mode)
        self._signals: Signals = settings.signals
        self.default = self.rule(settings.default_mode, None)

    def check(self, name: str) -> str:
        """A mode that a campaign may be given. ValueError: it is none, or more than PIXEL_MAX_MODE."""
        if name not in MODES:
            raise ValueError(f"must be one of: {', '.join(MODES)}")
        if mode(name) > self._most:
            raise ValueError(f"is more than this server keeps, {self._most.name.lower()}")
        return name

    def rule(self, name: str, signals: Signals | None) -> Rule:
        """Of a campaign with this mode and this setting, None where it has none."""
        return Rule(min(mode(name), self._most), signals or self._signals)


def allowed(linked: int, rule: Rule, asked: bool) -> int:
    """The mode for one hit. linked: its token's mode. asked: whether the request asks not to be followed."""
    most = min(linked, rule.mode)
    if asked and rule.signals != "ignore":
        return min(most, Mode.COUNT) if rule.signals == "count" else Mode.OFF
    return most

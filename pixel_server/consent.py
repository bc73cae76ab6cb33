"""How much may be kept of whom: by the link, by the campaign, by the server, and by the request itself.

Whatever says least holds. A web process goes by this at the door, and the roll-up does again, so that a
change also reaches hits that wait.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pixel_server.settings import Settings
from pixel_server.tokens import Mode

Signals = Literal["ignore", "count", "drop"]
"""What `Sec-GPC: 1` or `DNT: 1` do: nothing; the hit is counted as in mode `count`; it is not kept."""

MODES = tuple(mode.name.lower() for mode in Mode)


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

    def rule(self, name: str, signals: Signals | None) -> Rule:
        """Of a campaign with this mode and this setting, None where it has none."""
        return Rule(min(mode(name), self._most), signals or self._signals)


def allowed(linked: int, rule: Rule, asked: bool) -> int:
    """The mode for one hit. linked: its token's mode. asked: whether the request asks not to be followed."""
    most = min(linked, rule.mode)
    if asked and rule.signals != "ignore":
        return min(most, Mode.COUNT) if rule.signals == "count" else Mode.OFF
    return most

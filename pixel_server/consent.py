"""Consent: the limit on what may be stored of a recipient or visitor.

The link, the campaign, the server and the request each set a limit, and the strictest of the four holds. A
web process applies this limit when it admits a hit. The roll-up applies it again, so that a change of the
campaign's limit also affects waiting hits.
"""

from __future__ import annotations

from typing import NamedTuple

from pixel_server.settings import GpcEffect, Settings
from pixel_server.tokens import MODES, Mode

_MODE_BY_NAME = {name: Mode[name.upper()] for name in MODES}


class Rule(NamedTuple):
    """The mode of a campaign, and the effect of the headers `Sec-GPC` and `DNT`."""

    mode: Mode
    gpc_effect: GpcEffect


def mode_named(name: str) -> Mode:
    """Returns the mode with this name, and OFF for an unknown name."""
    return _MODE_BY_NAME.get(name, Mode.OFF)


def requests_no_tracking(gpc: str, dnt: str) -> bool:
    """Returns whether the headers `Sec-GPC` and `DNT` ask not to be tracked."""
    return gpc.strip() == "1" or dnt.strip() == "1"


class Consent:
    """Makes the rules of campaigns on this server. default: the rule of an unknown campaign."""

    def __init__(self, settings: Settings) -> None:
        self._max_mode = mode_named(settings.max_mode)
        self._gpc_effect: GpcEffect = settings.gpc_effect
        self.default = self.rule(settings.default_mode, None)

    def check(self, name: str) -> str:
        """Returns `name` if a campaign may have the mode with this name.

        Raises ValueError if no mode has this name, or if the mode is above PIXEL_MAX_MODE.
        """
        if name not in MODES:
            raise ValueError(f"must be one of: {', '.join(MODES)}")
        if mode_named(name) > self._max_mode:
            raise ValueError(f"is more than this server keeps, {self._max_mode.name.lower()}")
        return name

    def rule(self, mode: str, gpc_effect: GpcEffect | None) -> Rule:
        """Returns the rule of a campaign. gpc_effect: the campaign's own setting, or None for PIXEL_GPC."""
        return Rule(min(mode_named(mode), self._max_mode), gpc_effect or self._gpc_effect)


def allowed_mode(link_mode: int, rule: Rule, no_tracking: bool) -> int:
    """Returns the mode of one hit. no_tracking: whether the hit's request asks not to be tracked."""
    mode = min(link_mode, rule.mode)
    if no_tracking and rule.gpc_effect != "ignore":
        return min(mode, Mode.COUNT) if rule.gpc_effect == "count" else Mode.OFF
    return mode

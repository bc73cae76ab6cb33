"""What the roll-up asks of a hit: its verdict, from what the hit, its link and its campaign say."""

from __future__ import annotations

import logging
from functools import lru_cache

from ua_parser import parse_user_agent

from pixel_server import tokens
from pixel_server.addresses import is_in_networks
from pixel_server.classify import rules as classify
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.classify.rules import Rules, Verdict, is_soon
from pixel_server.hit import Hit
from pixel_server.settings import Settings

log = logging.getLogger("pixel_server.classify.judge")


class Judge:
    """Call it with a hit, and when its mail was sent (s), None if that is not known."""

    def __init__(self, rules: Rules, networks: Networks, settings: Settings) -> None:
        self.ruleset = rules.ruleset
        self.burst = rules.burst.id if rules.burst else ""
        self._of = rules.of
        self._networks = networks
        self._names = networks.names
        self._own = settings.own_networks
        self._soon = settings.soon_seconds
        self._directory = settings.networks

    def __call__(self, one: Hit, sent: int | None) -> Verdict:
        own = one.flags & tokens.TEST != 0
        soon = sent is not None and is_soon(one.time // 1000 - sent, self._soon)
        if self._own and not own:
            own = is_in_networks(one.address, self._own)
        return self._of(one.agent, self._names(one.address), one.referrer, one.purpose, soon, own)

    def refresh(self) -> None:
        """Takes lists of networks that the operator has refreshed; goes on with the old if it cannot."""
        try:
            if self._networks.changed():
                self._networks = Networks.load(self._directory)
                self._names = self._networks.names
                log.info("judge: lists of networks were refreshed and are taken")
        except NetworksError as error:
            log.error("judge: going by the lists from before: %s", error)


@lru_cache(8)
def judge_of(settings: Settings) -> Judge:
    """RulesError, NetworksError: what the operator gave cannot be used."""
    parse_user_agent("")  # its patterns are made at its first use
    return Judge(classify.load(settings.rules), Networks.load(settings.networks), settings)

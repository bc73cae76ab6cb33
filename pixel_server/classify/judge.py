"""Judges a hit for the roll-up, by what the hit, its link and its campaign tell."""

from __future__ import annotations

import logging
from functools import lru_cache

from ua_parser import parse_user_agent

from pixel_server import tokens
from pixel_server.addresses import is_in_networks
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.classify.rules import Rules, Verdict, is_soon, load_rules
from pixel_server.hit import Hit
from pixel_server.settings import Settings

log = logging.getLogger("pixel_server.classify.judge")


class Judge:
    """Returns the verdict on a hit when called.

    ruleset: version of the rules. burst: id of the rule of bursts, or "".
    """

    def __init__(self, rules: Rules, networks: Networks, settings: Settings) -> None:
        self.ruleset = rules.ruleset
        self.burst = rules.burst.id if rules.burst else ""
        self._verdict = rules.verdict
        self._networks = networks
        self._names = networks.names
        self._own_networks = settings.own_networks
        self._soon_seconds = settings.soon_seconds
        self._directory = settings.networks_directory

    def __call__(self, hit: Hit, sent_at: int | None) -> Verdict:
        """Returns the verdict on a hit. sent_at: when its mail was sent, s since 1970; None if not known."""
        own = hit.flags & tokens.TEST != 0
        soon = sent_at is not None and is_soon(hit.time // 1000 - sent_at, self._soon_seconds)
        if self._own_networks and not own:
            own = is_in_networks(hit.address, self._own_networks)
        return self._verdict(hit.agent, self._names(hit.address), hit.referrer, hit.purpose, soon, own)

    def refresh(self) -> None:
        """Loads lists of networks that the operator has refreshed. Keeps the old lists if it cannot."""
        try:
            if self._networks.have_changed():
                self._networks = Networks.load(self._directory)
                self._names = self._networks.names
                log.info("judge: using the refreshed lists of networks")
        except NetworksError as error:
            log.error("judge: using the lists of networks from before: %s", error)


@lru_cache(8)
def load_judge(settings: Settings) -> Judge:
    """Returns the judge of these settings. Raises RulesError or NetworksError."""
    parse_user_agent("")  # compiles its patterns, which happens at its first use
    return Judge(load_rules(settings.rules), Networks.load(settings.networks_directory), settings)

"""Judges a hit for the roll-up, by the hit itself and the time at which its mail was sent."""

from __future__ import annotations

import logging
from functools import lru_cache

from ua_parser import parse_user_agent

from pixel_server import tokens
from pixel_server.addresses import is_in_networks
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.classify.rules import Rules, Verdict, is_at_delivery, is_soon, load_rules
from pixel_server.hit import Hit
from pixel_server.settings import Settings

log = logging.getLogger("pixel_server.classify.judge")


class Judge:
    """Decides what a hit was: a call with the hit returns its verdict.

    delivery_seconds: PIXEL_DELIVERY_SECONDS. ruleset: version of the rules. burst_rule_id: id of the rule
    about bursts, or "" if there is no such rule.
    """

    def __init__(self, rules: Rules, networks: Networks, settings: Settings) -> None:
        self.ruleset = rules.ruleset
        self.burst_rule_id = rules.burst_rule.id if rules.burst_rule else ""
        self._find_verdict = rules.verdict
        self._networks = networks
        self._network_names = networks.names
        self._own_networks = settings.own_networks
        self._soon_seconds = settings.soon_seconds
        self.delivery_seconds = settings.delivery_seconds
        self._directory = settings.networks_directory

    def __call__(self, hit: Hit, sent_at: int | None) -> Verdict:
        """Returns the verdict. sent_at: time of sending the mail, in s since 1970, or None if not known."""
        is_own = hit.flags & tokens.TEST != 0
        delay = None if sent_at is None else hit.time // 1000 - sent_at
        soon = is_soon(delay, self._soon_seconds)
        at_delivery = is_at_delivery(delay, self.delivery_seconds)
        if self._own_networks and not is_own:
            is_own = is_in_networks(hit.address, self._own_networks)
        return self._find_verdict(
            hit.agent,
            self._network_names(hit.address),
            hit.referrer,
            hit.purpose,
            soon,
            is_own,
            at_delivery,
        )

    def refresh(self) -> None:
        """Reloads the lists of networks if the operator has refreshed them.

        Keeps the old lists, and logs an error, if the new lists cannot be used.
        """
        try:
            if self._networks.have_changed():
                self._networks = Networks.load(self._directory)
                self._network_names = self._networks.names
                log.info("judge: using the refreshed lists of networks")
        except NetworksError as error:
            log.error("judge: using the old lists of networks until this is mended: %s", error)


@lru_cache(8)
def load_judge(settings: Settings) -> Judge:
    """Returns the judge for these settings.

    Raises RulesError or NetworksError if the rules or the lists of networks cannot be used.
    """
    parse_user_agent("")  # the first call compiles the patterns, which takes long
    return Judge(load_rules(settings.rules_file), Networks.load(settings.networks_directory), settings)

"""Judges a hit for the roll-up, by the hit itself and the time at which its mail was sent."""

from __future__ import annotations

from functools import lru_cache

from pixel_server import tokens
from pixel_server.addresses import is_in_networks
from pixel_server.classify.network_store import ListCopies
from pixel_server.classify.networks import Networks, NetworksError, load_networks
from pixel_server.classify.rules import Rules, Verdict, is_at_delivery, is_soon, load_rules, ruleset_name
from pixel_server.classify.user_agents import load_lists
from pixel_server.hit import Hit
from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store.protocols import Redis

log = Log(__name__)


class Judge:
    """Judges hits. A call takes a hit, and returns its verdict.

    delivery_seconds: PIXEL_DELIVERY_SECONDS. burst_rule_id: id of the rule about bursts, or "" if the rules
    have none.
    """

    def __init__(self, rules: Rules, networks: Networks, settings: Settings) -> None:
        self._rules_version = rules.ruleset
        self.burst_rule_id = rules.burst_rule.id if rules.burst_rule else ""
        self._find_verdict = rules.verdict
        self._networks = networks
        self._network_names = networks.names
        self._own_networks = settings.own_networks
        self._soon_seconds = settings.soon_seconds
        self.delivery_seconds = settings.delivery_seconds
        self._copies = ListCopies(settings.refreshed_networks_directory)

    @property
    def ruleset(self) -> str:
        """The version of the rules and of the lists of networks, see `ruleset_name`."""
        return ruleset_name(self._rules_version, self._networks)

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

    def refresh(self, store: Redis) -> None:
        """Reloads the lists of networks if the store has new lists, or the operator has changed his own.

        Keeps the old lists, and logs an error, if the new lists cannot be used.
        """
        self._copies.update(store)
        try:
            if self._networks.have_changed():
                self._networks = self._networks.reloaded()
                self._network_names = self._networks.names
                log.info("networks-refreshed", "using the refreshed lists of networks")
        except NetworksError as error:
            log.error(
                "networks-unusable",
                "using the old lists of networks until this is mended: %(error)s",
                error=error,
            )


@lru_cache(8)
def load_judge(settings: Settings) -> Judge:
    """Returns the judge for these settings.

    Raises RulesError or NetworksError if the rules or the lists of networks cannot be used.
    """
    load_lists()
    return Judge(load_rules(settings.rules_file), load_networks(settings), settings)

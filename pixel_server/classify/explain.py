"""Explains the verdict on a hit, by the same rules and lists as the roll-up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from pixel_server import hit
from pixel_server.addresses import is_in_networks, unmapped
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.classify.rule_file import NO_RULE
from pixel_server.classify.rules import Evidence, Rules, is_soon, load_rules
from pixel_server.settings import Settings

log = logging.getLogger("pixel_server.classify.explain")

_loaded: dict[Settings, tuple[Rules, Networks]] = {}


def _load(settings: Settings) -> tuple[Rules, Networks]:
    """Returns the rules and lists as workers have them.

    Loads lists that the operator has refreshed, and keeps the lists from before if it cannot.
    """
    loaded = _loaded.get(settings)
    if loaded is None:
        loaded = _loaded[settings] = load_rules(settings.rules), Networks.load(settings.networks_directory)
    rules, networks = loaded
    try:
        if networks.have_changed():
            loaded = _loaded[settings] = rules, Networks.load(settings.networks_directory)
    except NetworksError as error:
        log.error("explain: using the lists of networks from before: %s", error)
    return loaded


def explain(
    settings: Settings, user_agent: str, ip: str, headers: Mapping[str, str], delay: float | None
) -> dict[str, Any]:
    """Returns the verdict on a hit with this agent, address and headers, and the rule behind it.

    delay: seconds from sending to the hit, None if not known. Raises ValueError if `ip` is not an address,
    and RulesError or NetworksError if the operator's rules or lists cannot be used.
    """
    rules, networks = _load(settings)
    address = unmapped(ip_address(ip).packed)
    sent_headers = {_sent(name.lower()): _sent(value) for name, value in headers.items()}
    names = networks.names(address)
    evidence = Evidence(
        hit.cut_text(_sent(user_agent), hit.MAX_AGENT),
        names,
        hit.cut_text(sent_headers.get(b"referer"), hit.MAX_URL),
        hit.purpose(sent_headers),
        is_soon(delay, settings.soon_seconds),
        is_in_networks(address, settings.own_networks),
    )
    verdict = rules.judge(evidence)
    return {
        "verdict": verdict.verdict,
        "rule": verdict.rule,
        "source": "no rule holds" if verdict.rule == NO_RULE else rules.by_id[verdict.rule].source,
        "ruleset": rules.ruleset,
        "networks": list(names),
        "soon_seconds": settings.soon_seconds,
    }


def _sent(text: str) -> bytes:
    """Returns the bytes that a client would send."""
    return text.encode("utf-8", "surrogateescape")

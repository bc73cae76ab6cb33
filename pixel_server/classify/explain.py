"""Explains the verdict on a hit, by the same rules and lists as the roll-up."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from pixel_server import hit
from pixel_server.addresses import is_in_networks, unmapped
from pixel_server.classify.networks import Networks, NetworksError, load_networks
from pixel_server.classify.rule_file import NO_RULE
from pixel_server.classify.rules import Evidence, Rules, is_at_delivery, is_soon, load_rules, ruleset_name
from pixel_server.logs import Log
from pixel_server.settings import Settings

log = Log(__name__)

_cache: dict[Settings, tuple[Rules, Networks]] = {}


def _load(settings: Settings) -> tuple[Rules, Networks]:
    """Returns the rules and the lists of networks, the same as the workers use.

    Reloads the lists if they have changed. Keeps the old lists if the new ones cannot be used.
    """
    cached = _cache.get(settings)
    if cached is None:
        cached = _cache[settings] = (
            load_rules(settings.rules_file),
            load_networks(settings),
        )
    rules, networks = cached
    try:
        if networks.have_changed():
            cached = _cache[settings] = rules, networks.reloaded()
    except NetworksError as error:
        log.error(
            "networks-unusable",
            "using the old lists of networks until this is mended: %(error)s",
            error=error,
        )
    return cached


def explain(
    settings: Settings, user_agent: str, ip: str, headers: Mapping[str, str], delay: float | None
) -> dict[str, Any]:
    """Returns the verdict on a hit with this user agent, address and headers, and the rule that decided.

    delay: seconds from sending to the hit, or None if not known. Raises ValueError if `ip` is not an address,
    and RulesError or NetworksError if the operator's rules or lists cannot be used.
    """
    rules, networks = _load(settings)
    address = unmapped(ip_address(ip).packed)
    sent_headers = {_as_sent(name.lower()): _as_sent(value) for name, value in headers.items()}
    network_names = networks.names(address)
    evidence = Evidence(
        hit.cut_text(_as_sent(user_agent), hit.MAX_AGENT),
        network_names,
        hit.cut_text(sent_headers.get(b"referer"), hit.MAX_URL),
        hit.purpose(sent_headers),
        is_soon(delay, settings.soon_seconds),
        is_in_networks(address, settings.own_networks),
        is_at_delivery(delay, settings.delivery_seconds),
    )
    verdict = rules.judge(evidence)
    return {
        "verdict": verdict.verdict,
        "rule": verdict.rule,
        "source": "no rule matches" if verdict.rule == NO_RULE else rules.by_id[verdict.rule].source,
        "ruleset": ruleset_name(rules.ruleset, networks),
        "networks": list(network_names),
        "soon_seconds": settings.soon_seconds,
        "delivery_seconds": settings.delivery_seconds,
    }


def _as_sent(text: str) -> bytes:
    """Returns a header's text as the bytes that a client would send."""
    return text.encode("utf-8", "surrogateescape")

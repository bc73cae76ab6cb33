"""Why a hit would be judged as it is, by the same rules as the roll-up's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from pixel_server import hit
from pixel_server.addresses import is_in_networks, unmapped
from pixel_server.classify import rules as classify
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.classify.rules import NONE, Evidence, Rules, is_soon
from pixel_server.settings import Settings

log = logging.getLogger("pixel_server.api")

_loaded: dict[Settings, tuple[Rules, Networks]] = {}


def _load(settings: Settings) -> tuple[Rules, Networks]:
    """As workers have them: refreshed lists are taken; if they cannot be used, those from before stay."""
    found = _loaded.get(settings)
    if found is None:
        found = _loaded[settings] = classify.load(settings.rules), Networks.load(settings.networks)
    rules, networks = found
    try:
        if networks.changed():
            found = _loaded[settings] = rules, Networks.load(settings.networks)
    except NetworksError as error:
        log.error("explain: going by the lists from before: %s", error)
    return found


def explain(
    settings: Settings, user_agent: str, ip: str, headers: Mapping[str, str], delay: float | None
) -> dict[str, Any]:
    """What a hit with this agent, address and these headers is, so many seconds after its mail was sent.

    delay None: it is not known. ValueError: ip is no address. RulesError, NetworksError: see there.
    """
    rules, networks = _load(settings)
    address = unmapped(ip_address(ip).packed)
    named = {_sent(name.lower()): _sent(value) for name, value in headers.items()}
    names = networks.names(address)
    evidence = Evidence(
        hit.cut_text(_sent(user_agent), hit.MAX_AGENT),
        names,
        hit.cut_text(named.get(b"referer"), hit.MAX_URL),
        hit.purpose(named),
        is_soon(delay, settings.soon_seconds),
        is_in_networks(address, settings.own_networks),
    )
    judged = rules.judge(evidence)
    verdict, rule = judged.verdict, judged.rule
    return {
        "verdict": verdict,
        "rule": rule,
        "source": "no rule holds" if rule == NONE else rules.by_id[rule].source,
        "ruleset": rules.ruleset,
        "networks": list(names),
        "soon_seconds": settings.soon_seconds,
    }


def _sent(text: str) -> bytes:
    """The bytes that a client would send."""
    return text.encode("utf-8", "surrogateescape")

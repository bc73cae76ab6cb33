"""Why a hit would be judged as it is, by the same rules as the roll-up's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from pixel_server import classify
from pixel_server.classify import NONE, Evidence, Rules, in_networks
from pixel_server.networks import Networks
from pixel_server.settings import Settings

PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")


@lru_cache(1)
def _loaded(settings: Settings) -> tuple[Rules, Networks]:
    return classify.load(settings.rules), Networks.load(settings.networks)


def explain(
    settings: Settings, user_agent: str, ip: str, headers: Mapping[str, str], delay: float | None
) -> dict[str, Any]:
    """What a hit with this agent, address and these headers is, so many seconds after its mail was sent.

    delay None: it is not known. ValueError: ip is no address. RulesError, NetworksError: see there.
    """
    rules, networks = _loaded(settings)
    address = ip_address(ip).packed
    named = {name.lower(): value for name, value in headers.items()}
    names = networks.names(address)
    evidence = Evidence(
        user_agent,
        names,
        named.get("referer", ""),
        "".join(f"{name}={named[name]};" for name in PURPOSES if name in named),
        delay is not None and 0 <= delay < settings.soon_seconds,
        in_networks(address, settings.own_networks),
    )
    found = rules.judge(evidence)
    verdict, rule = found.verdict, found.rule
    return {
        "verdict": verdict,
        "rule": rule,
        "source": "no rule holds" if rule == NONE else rules.by_id[rule].source,
        "ruleset": rules.ruleset,
        "networks": list(names),
        "soon_seconds": settings.soon_seconds,
    }

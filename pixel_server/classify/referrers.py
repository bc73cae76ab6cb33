"""Tells the kind of site that a visitor comes from, by the referrer's host: search, social, mail or other.

There are two lists: `data/referrers.txt`, made from a public list by `data/make_referrers.py`, and
`data/referrers-added.txt`, which overrides the first. A line is a host and its kind: `bing.com search`. The
line also holds for all subdomains that have no line of their own. The lists are read at the first call.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["search", "social", "mail", "other", "none"]

LISTS = tuple(Path(__file__).parent / "data" / f"{name}.txt" for name in ("referrers", "referrers-added"))
MAX_CACHED = 4096
"""Largest number of hosts in the cache. As hosts have a maximum length, the cache stays under 2 MB."""
_MAX_HOST_LENGTH = 253
_MAX_LABELS = 6
_APP = "android-app://"


def kind(host: str) -> Kind:
    """Returns the kind of a host, "none" if the host is empty, and "other" if no list has it.

    host: any text. Upper case, `www.`, a port and a final dot do not matter. An Android app is written
    `android-app://PACKAGE` or `PACKAGE`.
    """
    if not host:
        return "none"
    host = host.removeprefix(_APP)
    return _kind(host) if len(host) <= _MAX_HOST_LENGTH else "other"


@lru_cache(MAX_CACHED)
def _kind(host: str) -> Kind:
    kinds = _read_lists()
    labels = host.partition("/")[0].partition(":")[0].rstrip(".").lower().split(".")[-_MAX_LABELS:]
    for start in range(len(labels) - 1):
        listed_kind = kinds.get(".".join(labels[start:]))
        if listed_kind is not None:
            return listed_kind
    return "other"


@cache
def _read_lists() -> dict[str, Kind]:
    """Returns the kinds of all listed hosts, by host."""
    kinds: dict[str, Kind] = {}
    for path in LISTS:
        for line in path.read_text("utf-8").splitlines():
            host, _, name = line.partition(" ")
            for kind_name in get_args(Kind):
                if name == kind_name:
                    kinds[host] = kind_name
    return kinds

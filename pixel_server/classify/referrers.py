"""Kinds of sites that visitors come from, by the host of the referrer: search, social, mail.

There are two files: `data/referrers.txt`, made from a public list (`data/make_referrers.py`), and
`data/referrers-added.txt`, which overrides it. A line is a host and its kind: `bing.com search`. It
also applies to all subdomains that have no line of their own. The files are read at the first call.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["search", "social", "mail", "other", "none"]

LISTS = tuple(Path(__file__).parent / "data" / f"{name}.txt" for name in ("referrers", "referrers-added"))
MAX_REMEMBERED = 4096
"""Maximum number of hosts in the cache. Hosts have a maximum length, so the cache stays under 2 MB."""
_MAX_HOST_LENGTH = 253
_MAX_LABELS = 6
_APP = "android-app://"


def kind(host: str) -> Kind:
    """Returns the kind of a host, and "none" for "".

    host: any text. `www.`, upper case, a port, and a dot at the end do not matter. An Android app is
    `android-app://PACKAGE` or `PACKAGE`.
    """
    if not host:
        return "none"
    host = host.removeprefix(_APP)
    return _kind(host) if len(host) <= _MAX_HOST_LENGTH else "other"


@lru_cache(MAX_REMEMBERED)
def _kind(host: str) -> Kind:
    kinds = _read_lists()
    labels = host.partition("/")[0].partition(":")[0].rstrip(".").lower().split(".")[-_MAX_LABELS:]
    for start in range(len(labels) - 1):
        listed = kinds.get(".".join(labels[start:]))
        if listed is not None:
            return listed
    return "other"


@cache
def _read_lists() -> dict[str, Kind]:
    """Returns the kinds of all listed hosts."""
    kinds: dict[str, Kind] = {}
    for path in LISTS:
        for line in path.read_text("utf-8").splitlines():
            host, _, name = line.partition(" ")
            for known in get_args(Kind):
                if name == known:
                    kinds[host] = known
    return kinds

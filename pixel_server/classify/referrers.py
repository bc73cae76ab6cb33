"""What kind of site a visitor came from, by the host of the referrer.

Two files say it: `data/referrers.txt`, made of a list that others keep (`data/make_referrers.py`), and
`data/referrers-added.txt`, which goes before it. A line is `host kind`; it holds for the host, and for all
under it that have no line of their own. Read at the first question.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["search", "social", "mail", "other", "none"]

LISTS = tuple(Path(__file__).parent / "data" / f"{name}.txt" for name in ("referrers", "referrers-added"))
REMEMBERED = 4096
"""Hosts: under 2 MB, as longer ones than _LONGEST are not looked up."""
_LONGEST = 253
_MOST_LABELS = 6
_APP = "android-app://"


def kind(host: str) -> Kind:
    """What it is; "none" of "". host: any text; of an Android app `android-app://PACKAGE`, or its package.

    `www.`, upper case, a port, and a dot at the end do not matter.
    """
    if not host:
        return "none"
    host = host.removeprefix(_APP)
    return _kind(host) if len(host) <= _LONGEST else "other"


@lru_cache(REMEMBERED)
def _kind(host: str) -> Kind:
    listed = _listed()
    labels = host.partition("/")[0].partition(":")[0].rstrip(".").lower().split(".")[-_MOST_LABELS:]
    for start in range(len(labels) - 1):
        found = listed.get(".".join(labels[start:]))
        if found is not None:
            return found
    return "other"


@cache
def _listed() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for path in LISTS:
        for line in path.read_text("utf-8").splitlines():
            host, _, name = line.partition(" ")
            for known in get_args(Kind):
                if name == known:
                    found[host] = known
    return found

"""Tells the kind of site that a visitor comes from, by the host of the referrer.

There are two lists: `data/referrers.txt`, made from a public list by `data/make_referrers.py`, and
`data/referrers-added.txt`, which overrides the first. A line is a host and its kind: `bing.com search`. The
line also holds for all subdomains that have no line of their own, except sign-in pages, consoles and manuals
(`SERVICE_LABELS`). `*.yahoo.com website` holds for the subdomains only. A final `.*` stands for every ending
with which an earlier line lists the domain: after a line for `google.de`, the line `*.google.* website` holds
for the subdomains of `google.de` too. The lists are read at the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["search", "social", "mail", "ai", "website", "none"]
"""`website` is a site of no other kind, `none` a missing referrer."""

_KINDS: dict[str, Kind] = {name: name for name in get_args(Kind)}
LISTS = tuple(Path(__file__).parent / "data" / f"{name}.txt" for name in ("referrers", "referrers-added"))
SERVICE_LABELS = frozenset(
    (
        *("account", "accounts", "admin", "ads", "adsmanager", "analytics", "api", "auth", "console"),
        *(
            "dashboard",
            "dev",
            "developer",
            "developers",
            "login",
            "myaccount",
            "oauth",
            "passport",
            "platform",
            "signin",
            "sso",
        ),
        *(
            "about",
            "blog",
            "business",
            "careers",
            "docs",
            "engineering",
            "faq",
            "help",
            "investor",
            "investors",
            "jobs",
            "learn",
        ),
        *("learning", "legal", "newsroom", "partner", "partners", "press", "privacy", "seller", "shop"),
        *("status", "store", "support"),
    )
)
"""Labels of hosts where people sign in, manage or look up things: `ads.tiktok.com` is not a social site."""
MAX_CACHED = 4096
"""Largest number of hosts in the cache. As hosts have a maximum length, the cache stays under 2 MB."""
_MAX_HOST_LENGTH = 253
_MAX_LABELS = 6
_APP = "android-app://"


def kind(host: str) -> Kind:
    """Returns the kind of a host, "none" if the host is empty, and "website" if no list has it.

    host: any text. Upper case, `www.`, a port and a final dot do not matter. An Android app is written
    `android-app://PACKAGE` or `PACKAGE`.
    """
    if not host:
        return "none"
    host = host.removeprefix(_APP)
    return _kind(host) if len(host) <= _MAX_HOST_LENGTH else "website"


@lru_cache(MAX_CACHED)
def _kind(host: str) -> Kind:
    kinds = _read_lists()
    domain_name = host.partition("/")[0].partition(":")[0].rstrip(".").lower().removeprefix("www.")
    labels = domain_name.split(".")[-_MAX_LABELS:]
    for start in range(len(labels) - 1):
        domain = ".".join(labels[start:])
        kind_of_domain = (kinds.get(f"*.{domain}") if start else None) or kinds.get(domain)
        if kind_of_domain is not None:
            return kind_of_domain
        if labels[start] in SERVICE_LABELS:
            break
    return "website"


@cache
def _read_lists() -> dict[str, Kind]:
    """Returns the kinds of all hosts. A host `*.yahoo.com` stands for the subdomains of `yahoo.com`."""
    kinds: dict[str, Kind] = {}
    for path in LISTS:
        for line in path.read_text("utf-8").splitlines():
            host, _, kind_name = line.partition(" ")
            if kind_name in _KINDS:
                kinds.update(dict.fromkeys(_in_countries(host, kinds), _KINDS[kind_name]))
    return kinds


def _in_countries(host: str, listed: Iterable[str]) -> list[str]:
    """Returns `["images.google.com", "images.google.de"]` for `images.google.*`, and any other host alone.

    listed: the hosts of earlier lines, such as `google.com` and `google.de`.
    """
    if not host.endswith(".*"):
        return [host]
    subdomain, _, brand = host.removesuffix(".*").rpartition(".")
    return [f"{subdomain}.{domain}" for domain in listed if domain.startswith(f"{brand}.")]

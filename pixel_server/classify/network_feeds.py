"""The lists of networks that the networks' owners publish: their addresses, formats and plausible sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

WrittenNetworks = Iterator[tuple[str, str]]
"""Networks as text, each with its place in the response or file: `("row 7: ", "192.0.2.0/24")`."""


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list that the owner of its networks publishes.

    source: text that tells people where the list comes from. parts: the parts that together make the list;
    a part is the addresses of which any one gives its content, the best first. parse: yields the networks of
    a response. min_rows, max_rows: bounds of a plausible number of rows. other_hosts: hosts to which the
    addresses may redirect, besides their own hosts.
    """

    source: str
    parts: tuple[tuple[str, ...], ...]
    parse: Callable[[bytes], WrittenNetworks]
    min_rows: int
    max_rows: int
    licence: str
    other_hosts: tuple[str, ...] = ()


def _parse_csv(data: bytes) -> WrittenNetworks:
    """Yields the networks in the first column of a geofeed (RFC 8805)."""
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"row {number}: ", text.partition(",")[0].strip()


class _Prefix(msgspec.Struct, rename="camel"):
    ipv4_prefix: str = ""
    ipv6_prefix: str = ""


class _Prefixes(msgspec.Struct):
    prefixes: list[_Prefix]


def _parse_prefixes(data: bytes) -> WrittenNetworks:
    """Yields the networks of `{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"ipv6Prefix": ...}]}`."""
    try:
        prefixes = msgspec.json.decode(data, type=_Prefixes).prefixes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not a list of prefixes: {error}") from None
    for number, prefix in enumerate(prefixes):
        texts = prefix.ipv4_prefix, prefix.ipv6_prefix
        for text in [text for text in texts if text] or [""]:
            yield f"prefixes[{number}]: ", text


class _EndpointSet(msgspec.Struct):
    urls: list[str] = []
    ips: list[str] = []


_MAIL_GATEWAYS = (".protection.outlook.com", ".mx.microsoft")
"""Ends of the host names of Exchange Online Protection."""


def _parse_endpoints(data: bytes) -> WrittenNetworks:
    """Yields the networks of Exchange Online Protection in Microsoft's list of endpoint sets.

    The list is `[{"urls": ["*.protection.outlook.com"], "ips": ["192.0.2.0/24", ...]}, ...]`. A set with any
    other host is left out: people's webmail comes from there.
    """
    try:
        sets = msgspec.json.decode(data, type=list[_EndpointSet])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not a list of endpoints: {error}") from None
    for number, endpoints in enumerate(sets):
        if endpoints.urls and all(url.endswith(_MAIL_GATEWAYS) for url in endpoints.urls):
            for text in endpoints.ips:
                yield f"[{number}].ips: ", text


RANDOM_ID = "RANDOM-ID"
"""Placeholder in an address for a random UUID. Microsoft's web service asks for the id of a client; an id
that is used once tells nothing of this server."""

_APPLE = "https://mask-api.icloud.com/egress-ip-ranges.csv"
_GOOGLE = "https://developers.google.com/static/crawling/ipranges/"
_GOOGLE_OLD = "https://developers.google.com/static/search/apis/ipranges/"
"""Google moved its lists on 2026-03-31, and will redirect the old address:
https://developers.google.com/search/blog/2026/03/crawler-ip-ranges"""
_MICROSOFT = "https://endpoints.office.com/endpoints/worldwide"
_OPENAI = "https://openai.com/"

PUBLISHED: Mapping[str, PublishedList] = {
    "apple": PublishedList(
        _APPLE,
        ((_APPLE,),),
        _parse_csv,
        min_rows=50_000,  # some 285,000 in 2026
        max_rows=1_000_000,
        licence="as published by Apple",
    ),
    "google": PublishedList(
        _GOOGLE,
        (
            (f"{_GOOGLE}common-crawlers.json", f"{_GOOGLE_OLD}googlebot.json"),
            *(
                (f"{_GOOGLE}{name}.json", f"{_GOOGLE_OLD}{name}.json")
                for name in (
                    "special-crawlers",
                    "user-triggered-fetchers",
                    "user-triggered-fetchers-google",
                    "user-triggered-agents",
                )
            ),
        ),
        _parse_prefixes,
        min_rows=100,  # some 1,600 in 2026
        max_rows=100_000,
        licence="as published by Google",
        other_hosts=("www.gstatic.com",),
    ),
    "microsoft-eop": PublishedList(
        _MICROSOFT,
        ((f"{_MICROSOFT}?ServiceAreas=Exchange&clientrequestid={RANDOM_ID}",),),
        _parse_endpoints,
        min_rows=4,
        max_rows=1_000,
        licence="as published by Microsoft",
    ),
    "openai": PublishedList(
        f"{_OPENAI}gptbot.json, searchbot.json, chatgpt-user.json",
        tuple((f"{_OPENAI}{name}.json",) for name in ("gptbot", "searchbot", "chatgpt-user")),
        _parse_prefixes,
        min_rows=20,  # some 280 in 2026
        max_rows=10_000,
        licence="as published by OpenAI",
        other_hosts=("www.openai.com",),
    ),
}
"""Published lists by their names."""

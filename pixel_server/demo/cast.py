"""The made-up people and machines of the demo: their countries, IP addresses and programs.

Addresses are random. They lie in networks that the registries assigned to a country, and in networks of
Gmail, Yahoo, Apple and mail gateways, so that the server classifies them. Like any address, they are not kept
after their hits are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")

PLACES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "DE": (30, "de-DE,de;q=0.9,en;q=0.7", ("91.64", "79.192", "84.128")),
    "US": (17, "en-US,en;q=0.9", ("73.10", "98.110", "24.5")),
    "GB": (14, "en-GB,en;q=0.9", ("86.128",)),
    "FR": (9, "fr-FR,fr;q=0.9,en;q=0.6", ("90.0", "83.200")),
    "AT": (7, "de-AT,de;q=0.9", ("84.112",)),
    "NL": (6, "nl-NL,nl;q=0.9,en;q=0.8", ("80.56",)),
    "CH": (5, "de-CH,de;q=0.9,fr;q=0.5", ("178.82", "85.1")),
    "ES": (4, "es-ES,es;q=0.9", ("79.144", "83.32")),
    "SE": (3, "sv-SE,sv;q=0.9,en;q=0.8", ("81.224", "78.64")),
    "PL": (2, "pl-PL,pl;q=0.9", ("79.184", "83.0")),
    "IT": (2, "it-IT,it;q=0.9", ("80.180", "79.0")),
    "CA": (1, "en-CA,en;q=0.9,fr;q=0.5", ("70.24", "99.224")),
}
"""Weight, `Accept-Language` header and address prefixes of each country. A weight is a relative frequency."""

_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_{{minor}} like Mac OS X) {_WEBKIT}"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0"

BROWSERS: tuple[tuple[int, str], ...] = (
    (24, f"{_WINDOWS} {_CHROME} Safari/537.36"),
    (12, f"{_MAC} {_CHROME} Safari/537.36"),
    (9, f"{_WINDOWS} {_CHROME} Safari/537.36 Edg/{{major}}.0.0.0"),
    (7, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{major}.0) Gecko/20100101 Firefox/{major}.0"),
    (4, "Mozilla/5.0 (X11; Linux x86_64; rv:{major}.0) Gecko/20100101 Firefox/{major}.0"),
    (7, f"{_MAC} {_WEBKIT} Version/18.{{minor}} Safari/605.1.15"),
    (21, f"{_IPHONE} Version/18.{{minor}} Mobile/15E148 Safari/604.1"),
    (3, "Mozilla/5.0 (iPad; CPU OS 18_{minor} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.{minor} Mobile/15E148 Safari/604.1"),
    (13, f"Mozilla/5.0 (Linux; Android 10; K) {_CHROME} Mobile Safari/537.36"),
)  # fmt: skip
"""Weight and user agent of each browser. `user_agent` fills in the versions."""

OUTLOOK: tuple[tuple[int, str], ...] = (
    (7, "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.{build}; Pro)"),
    (2, "Outlook-iOS/723.{build}.prod.iphone (4.2{minor}.0)"),
    (2, "Outlook-Android/2.0"),
)
THUNDERBIRD: tuple[tuple[int, str], ...] = (
    (3, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Thunderbird/140.{minor}.0"),
    (2, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.{minor}.0"),
)
PHONE_APPS: tuple[tuple[int, str], ...] = (
    (4, f"Mozilla/5.0 (Linux; Android 14; SM-S911B) {_CHROME} SamsungEmail/6.1.9{{minor}}"),
    (2, "Mozilla/5.0 (Linux; Android 14) K-9 Mail/10.{minor}"),
    (1, "Spark/3.{minor} (iPhone; iOS 18.{minor})"),
)

GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
APPLE = "Mozilla/5.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

GMAIL_PREFIX, YAHOO_PREFIX, APPLE_PREFIX, GOOGLEBOT_PREFIX = "66.249.84", "98.137.1", "17.58.63", "66.249.66"
GATEWAYS = ("209.222.82", "148.163.133", "41.74.203", "40.92.10")
"""Address prefixes of Barracuda, Proofpoint, Mimecast and Exchange Online Protection."""


class Person(NamedTuple):
    """A person who uses one program. address: packed bytes. language: an `Accept-Language` header."""

    country: str
    address: bytes
    agent: str
    language: str


def person(rng: Random, agents: Sequence[tuple[int, str]]) -> Person:
    """Returns a person from a random country who uses one of these programs.

    agents: weights and user agents.
    """
    country = weighted(rng, [(place[0], name) for name, place in PLACES.items()])
    _, language, prefixes = PLACES[country]
    return Person(country, address(rng, rng.choice(prefixes)), user_agent(rng, agents), language)


def user_agent(rng: Random, agents: Sequence[tuple[int, str]]) -> str:
    """Returns a random user agent with a random version. agents: weights and user agents."""
    template = weighted(rng, agents)
    major, minor, build = 138 + rng.randrange(5), rng.randrange(7), 17_000 + rng.randrange(900)
    return template.format(major=major, minor=minor, build=build)


def address(rng: Random, prefix: str) -> bytes:
    """Returns a random IPv4 address, as 4 bytes. prefix: its first numbers, such as `"91.64"`."""
    numbers = [int(number) for number in prefix.split(".")]
    return bytes([*numbers, *(1 + rng.randrange(254) for _ in range(4 - len(numbers)))])


def weighted(rng: Random, choices: Sequence[tuple[int, T]]) -> T:
    """Returns a random choice. choices: each with its weight, such as `(30, "DE")`."""
    return rng.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]

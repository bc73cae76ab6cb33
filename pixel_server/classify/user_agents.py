"""Recognises user agents: mail programs, bots and browsers.

The order of the tests matters. Mail programs come first, because lists of bots contain some of them. Next
comes the agent that WebKit sends when a program shows a mail without naming itself (Apple Mail, Outlook for
Mac). Then come bots, by isbot's patterns from the package `is-bot`, and last browsers, by ua-parser.
Classifying an agent takes some 0.1 ms, so the results for the latest agents are cached.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

from pixel_server.counters.labels import OTHER, UNKNOWN
from pixel_server.verdicts import ClientClass

MAX_CACHED = 20_000
"""Largest number of agents in a cache: some 10 MB, because a hit's agent has at most 512 bytes."""

_mail_program = re.compile(
    r"\b(Thunderbird|Icedove|Betterbird|SeaMonkey|Iceape|Postbox|Spicebird|Eudora|Evolution/\d|KMail|kmail2"
    r"|Kontact|Claws Mail|Sylpheed|Geary|Balsa|Mutt|Trojita|Airmail|Mailspring|Mailbird|MailMate|eM ?Client"
    r"|The Bat!|Foxmail|Becky!|Barca|PocoMail|Pegasus Mail|IncrediMail|Lotus-Notes|HCL ?Notes|GroupWise"
    r"|Zimbra|Superhuman|Canary ?Mail|Spark(?:Desktop|/\d)|Newton|Polymail|Mimestream|Unibox|Inky"
    r"|K-9 Mail|FairEmail|AquaMail|BlueMail|TypeApp|Nine/\d|Edison ?Mail|myMail|Samsung ?Email|MailDroid"
    r"|YahooMobileMail|YahooMail(?!Proxy)|Yahoo%20Mail|GmailApp|ProtonMail|Tutanota|MailBar|NaverMailApp"
    r"|MailMaster(?:PC|_Android_Mobile)?|(?:Mail|Outlook|Gmail)/(?=[\d.]+ CFNetwork)|OneOutlook"
    r"|Windows-?Live-?Mail|WindowsMail|Windows Mail|Outlook-Express|Outlook Express|MacOutlook"
    r"|Microsoft ?Outlook|Microsoft Office (?:Outlook|Mail)|Microsoft Office/\d|MSOffice|ms-office"
    r"|Outlook-(?:iOS|Android|Mac|Windows)|(?:Android|iOS)-(?:Gmail|Mail|Email)|com\.microsoft\.office\.outlook|ExchangeWebServices|Entourage)"
    r"(?:Pro)?(?![A-Za-z])",
    re.I,
).search
_bare_webkit = re.compile(
    r"Mozilla/5\.0 \([^()]*\) AppleWebKit/[\d.]+ \(KHTML, like Gecko\)(?: Mobile/\w+)?"
).fullmatch
_MISTAKEN_BROWSERS = re.compile(r"\bWebAppManager\b|\bSogou(?:MSE|MobileBrowser|Search/(?:Android|iOS))")
"""Names of browsers that isbot's patterns take for bots: the browsers of LG televisions and of Sogou."""


class _Lists(NamedTuple):
    """The lists of the packages. family: returns the family of a browser, None if it is not known."""

    is_bot: Callable[[str], bool]
    family: Callable[[str], str | None]


@cache
def load_lists() -> _Lists:
    """Returns the lists of bots and browsers. Loads them at the first call, which takes 0.2 s and 36 MB.

    Workers load them when they start. Other processes rarely need them.
    """
    from is_bot import Bots  # noqa: PLC0415
    from ua_parser import parse_user_agent  # noqa: PLC0415

    def family(agent: str) -> str | None:
        parsed = parse_user_agent(agent)
        return None if parsed is None else parsed.family

    family("")  # compiles the patterns
    return _Lists(Bots().is_bot, family)


def client_class(agent: str) -> ClientClass:
    """Returns the class of a user agent. agent: any text."""
    return _classify(agent)[0]


@lru_cache(MAX_CACHED)
def _classify(agent: str) -> tuple[ClientClass, str]:
    """Returns the class of a user agent, and a browser's family, such as "Mobile Safari", or ""."""
    if not agent:
        return "", ""
    if _mail_program(agent):
        return "mail", ""
    if _bare_webkit(agent):
        return "webkit", ""
    lists = load_lists()
    if lists.is_bot(_MISTAKEN_BROWSERS.sub("", agent)):
        return "bot", ""
    if agent.startswith(("Mozilla/", "Opera/")) and (family := lists.family(agent)) is not None:
        return "browser", family
    return "", ""


# fmt: off
_PROGRAM_NAMES = (
    "Thunderbird", "Betterbird", "SeaMonkey", "Postbox", "Evolution", "KMail", "Claws Mail", "Sylpheed",
    "Geary", "Airmail", "Mailspring", "Mailbird", "MailMate", "eM Client", "The Bat!", "Foxmail", "Spark",
    "Lotus Notes", "GroupWise", "Zimbra", "Superhuman", "Canary Mail", "Newton", "Mimestream", "K-9 Mail",
    "FairEmail", "AquaMail", "BlueMail", "Nine", "Edison Mail", "myMail", "Samsung Email", "MailDroid",
    "Proton Mail", "Windows Mail", "Apple Mail", "Mail Master",
)
# fmt: on
_PROGRAMS = {re.sub("[^a-z0-9]", "", name.lower()): name for name in _PROGRAM_NAMES} | {
    "icedove": "Thunderbird",
    "iceape": "SeaMonkey",
    "mail": "Apple Mail",
    "mailmasterpc": "Mail Master",
    "mailmasterandroidmobile": "Mail Master",
    "kmail2": "KMail",
    "kontact": "KMail",
    "typeapp": "BlueMail",
    "sparkdesktop": "Spark",
    "hclnotes": "Lotus Notes",
    "windowslivemail": "Windows Mail",
    "outlookexpress": "Windows Mail",
    "yahoomobilemail": "Yahoo Mail",
    "yahoomail": "Yahoo Mail",
    "yahoo20mail": "Yahoo Mail",
    "gmailapp": "Gmail",
    "gmail": "Gmail",
    "androidgmail": "Gmail",
    "iosgmail": "Gmail",
}
"""Shown names of mail programs. A key is the name in an agent, in lower case and without any character other
than a-z and 0-9: `"clawsmail"` for Claws Mail."""
_is_outlook = re.compile("outlook(?!express)|office|entourage").search
_BROWSERS = (
    *("Chrome", "Firefox", "Safari", "Edge", "Opera", "Samsung Internet", "Yandex Browser", "Vivaldi"),
    *("Brave", "UC Browser", "IE", "Chromium"),
)


class Facets(NamedTuple):
    """The client and the device under which an open is counted.

    client: the name of a mail program, the name of the browser that shows webmail, UNKNOWN or OTHER: some
    60 values. device: "desktop", "phone", "tablet" or UNKNOWN.
    """

    client: str
    device: str


@lru_cache(MAX_CACHED)
def visitor_facets(agent: str) -> tuple[str, str, str]:
    """Returns (browser, operating system, device) of a visitor.

    Each is one of a few names, UNKNOWN or OTHER.
    """
    browser, device = facets(agent)
    return browser, next((name for word, name in _SYSTEMS if word in agent), UNKNOWN), device


_SYSTEMS = (
    *(("iPhone", "iOS"), ("iPad", "iOS"), ("iPod", "iOS"), ("Android", "Android"), ("Windows", "Windows")),
    *(
        ("Macintosh", "macOS"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
        ("X11", "Linux"),
    ),
)
"""Texts in agents, and the operating systems that they stand for. If an agent contains several of these
texts, the first in this table decides."""


def facets(agent: str) -> Facets:
    """Returns the client and the device of an agent. The names come from fixed lists."""
    agent_class, family = _classify(agent)
    if agent_class == "mail":
        return Facets(_program(agent), _device(agent))
    return Facets(_browser(family) if agent_class == "browser" else UNKNOWN, _device(agent))


def _program(agent: str) -> str:
    match = _mail_program(agent)
    name = re.sub("[^a-z0-9]", "", match[1].lower()) if match else ""
    if _is_outlook(name):
        return "Outlook"
    return _PROGRAMS.get(name) or _PROGRAMS.get(name.rstrip("0123456789"), OTHER)


def _browser(family: str) -> str:
    family = family.removeprefix("Mobile ")
    return next((name for name in _BROWSERS if family.startswith(name)), OTHER)


def _device(agent: str) -> str:
    """Returns "desktop", "phone", "tablet" or UNKNOWN. `Tablet PC` in an agent only means Windows."""
    if re.search(r"iPad|Tablet(?! PC)|Kindle|Silk/|Android(?!.*\bMobile\b).*AppleWebKit", agent):
        return "tablet"
    if re.search(r"iPhone|iPod|Android|Windows Phone|\biOS\b|\bMobile\b", agent):
        return "phone"
    return (
        "desktop" if re.search(r"Windows|Macintosh|Mac OS X|Outlook-Mac|X11|Linux|CrOS", agent) else UNKNOWN
    )

"""What a user agent says it is: a mail program, a bot, a browser.

Mail programs first: lists of bots take some of them for bots. Then what WebKit sends when a program shows a
mail and does not name itself (Apple Mail, Outlook for Mac). Then isbot's patterns, by the package `is-bot`;
then browsers, by ua-parser. One new agent takes some 0.1 ms, so the last ones are remembered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from is_bot import Bots
from ua_parser import parse_user_agent

Client = Literal["mail", "webkit", "bot", "browser", ""]

REMEMBERED = 20_000
"""Agents: some 10 MB at most, as a hit's agent has up to 512 bytes."""

MAIL = re.compile(
    r"\b(Thunderbird|Icedove|Betterbird|SeaMonkey|Postbox|Spicebird|Eudora|Evolution/\d|KMail|kmail2|Kontact"
    r"|Claws Mail|Sylpheed|Geary|Balsa|Mutt|Trojita|Airmail|Mailspring|Mailbird|MailMate|eM ?Client|The Bat!"
    r"|Foxmail|Becky!|Barca|PocoMail|Pegasus Mail|IncrediMail|Lotus-Notes|HCL ?Notes|GroupWise|Zimbra"
    r"|Superhuman|Canary ?Mail|Spark(?:Desktop|/\d)|Newton|Polymail|Mimestream|Unibox|Inky"
    r"|K-9 Mail|FairEmail|AquaMail|BlueMail|TypeApp|Nine/\d|Edison ?Mail|myMail|Samsung ?Email|MailDroid"
    r"|YahooMobileMail|YahooMail(?!Proxy)|GmailApp|ProtonMail|Tutanota|MailBar|NaverMailApp"
    r"|Windows-?Live-?Mail|WindowsMail|Windows Mail|Outlook-Express|Outlook Express|MacOutlook"
    r"|Microsoft ?Outlook|Microsoft Office (?:Outlook|Mail)|Microsoft Office/\d|MSOffice|ms-office"
    r"|Outlook-(?:iOS|Android)|com\.microsoft\.office\.outlook|ExchangeWebServices|Entourage)",
    re.I,
).search
_WEBKIT = re.compile(
    r"Mozilla/5\.0 \([^()]*\) AppleWebKit/[\d.]+ \(KHTML, like Gecko\)(?: Mobile/\w+)?"
).fullmatch
_is_bot = Bots().is_bot


@lru_cache(REMEMBERED)
def client(agent: str) -> Client:
    """What it is; "" if nothing is known of it. agent: as sent, any text."""
    if not agent:
        return ""
    if MAIL(agent):
        return "mail"
    if _WEBKIT(agent):
        return "webkit"
    if _is_bot(agent):
        return "bot"
    if agent.startswith(("Mozilla/", "Opera/")) and parse_user_agent(agent) is not None:
        return "browser"
    return ""

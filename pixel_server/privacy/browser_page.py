"""The page on which a browser says no. Like that for a token: plain HTML, no script, nothing to load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import NamedTuple

from pixel_server import opt_out_cookie
from pixel_server.campaigns.campaign import Identity
from pixel_server.privacy import browser_words, recipient_words
from pixel_server.privacy.browser_words import Words
from pixel_server.privacy.recipient_page import document, how_long, whose


class Browser(NamedTuple):
    """What to show. out: it says no. said: what its last form asked for, if it comes from one.

    framed: it stands in a frame of a site's. campaign, identity: of the site that shows it, or "" and None.
    keep: days, by kind of data: "buckets", "days", "dead_letters".
    """

    out: bool
    said: bool | None
    framed: bool
    campaign: str
    identity: Identity | None
    operator: str | None
    keep: Mapping[str, int]


def render(browser: Browser, language: str) -> bytes:
    """The page, as UTF-8, in one of the languages of `privacy_words`."""
    words, common = browser_words.WORDS[language], recipient_words.WORDS[language]
    title, lead = (words.title_out, words.lead_out) if browser.out else (words.title, words.lead)
    heading = common.what_if_allowed if browser.out else common.what
    parts = [
        f"<p>{escape(lead)}</p>",
        *_note(browser, words),
        *_form(browser, words),
        f"<h2>{escape(words.where)}</h2>\n<p>{escape(words.framed if browser.framed else words.alone)}</p>",
        f"<h2>{escape(heading)}</h2>\n<ul>",
        *(f"<li>{escape(item)}</li>" for item in _recorded(browser.identity, words)),
        "</ul>",
        *whose(common.whom, browser.operator, words.site),
        *how_long(browser.keep, common),
    ]
    return document(language, title, parts)


def _note(browser: Browser, words: Words) -> Iterator[str]:
    if browser.said not in (None, browser.out):
        note = words.unkept if browser.said else words.unmoved
        yield f'<p role="status"><strong>{escape(note)}</strong></p>'


def _form(browser: Browser, words: Words) -> Iterator[str]:
    yield '<form method="post" action="privacy">'
    if browser.campaign:
        yield f'<input type="hidden" name="c" value="{escape(browser.campaign)}">'
    value, label, hint = ("no", words.no, words.no_hint.format(opt_out_cookie.LIFETIME_DAYS))
    if browser.out:
        value, label, hint = ("yes", words.yes, words.yes_hint)
    yield (
        f'<button type="submit" name="do" value="{value}" aria-describedby="{value}-hint">'
        f'{escape(label)}</button>\n<p id="{value}-hint">{escape(hint)}</p>\n</form>'
    )


def _recorded(identity: Identity | None, words: Words) -> Iterator[str]:
    yield from (words.page, words.came, words.about, words.same[identity or "any"])
    if identity == "cookie":
        yield words.same["cookieless"]
    yield from (words.totals, words.brief)

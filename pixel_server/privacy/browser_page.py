"""Renders the privacy page of a browser. The page opts the browser out of recording, or allows recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import NamedTuple

from pixel_server import opt_out_cookie
from pixel_server.campaigns.campaign import Identity
from pixel_server.privacy.document import button, controller, document, retention_times
from pixel_server.privacy.texts import TEXTS, BrowserTexts


class BrowserView(NamedTuple):
    """The data of one page.

    has_opted_out: whether the browser's cookie opts out. form_opted_out: whether the form that led to this
    page opted out, or None if no form led to this page. is_framed: whether the page stands in a frame.
    campaign: id of the web campaign whose site links to the page, or "". identity: the way in which that
    campaign recognises visitors, or None. keep: number of days for which each kind of data is kept, such as
    `{"buckets": 35, "days": 1100, "visits": 90, "dead_letters": 7}`: 15-minute series, daily series, sampled
    visits and dead letters.
    """

    has_opted_out: bool
    form_opted_out: bool | None
    is_framed: bool
    campaign: str
    identity: Identity | None
    operator: str | None
    keep: Mapping[str, int]


def render(view: BrowserView, language: str) -> bytes:
    """Returns the page as UTF-8, in a language of TEXTS."""
    texts, shared = TEXTS[language].browser, TEXTS[language].shared
    title, lead = (
        (texts.title_opted_out, texts.lead_opted_out) if view.has_opted_out else (texts.title, texts.lead)
    )
    heading = shared.recorded_if_allowed_heading if view.has_opted_out else shared.recorded_heading
    scope = texts.scope_framed if view.is_framed else texts.scope_alone
    parts = [
        f"<p>{escape(lead)}</p>",
        *_cookie_failure(view, texts),
        *_form(view, texts),
        f"<h2>{escape(texts.scope_heading)}</h2>\n<p>{escape(scope)}</p>",
        f"<h2>{escape(heading)}</h2>\n<ul>",
        *(f"<li>{escape(item)}</li>" for item in _recorded_items(view.identity, texts)),
        "</ul>",
        *controller(shared.controller_heading, view.operator, texts.site),
        *retention_times(view.keep, shared),
    ]
    return document(language, title, view.operator, parts)


def _cookie_failure(view: BrowserView, texts: BrowserTexts) -> Iterator[str]:
    """Yields a note if the browser did not set or delete the cookie as the last form asked."""
    if view.form_opted_out not in (None, view.has_opted_out):
        note = texts.cookie_refused if view.form_opted_out else texts.still_opted_out
        yield f'<p role="status"><strong>{escape(note)}</strong></p>'


def _form(view: BrowserView, texts: BrowserTexts) -> Iterator[str]:
    yield '<form method="post" action="privacy">'
    if view.campaign:
        yield f'<input type="hidden" name="c" value="{escape(view.campaign)}">'
    if view.has_opted_out:
        yield button("yes", texts.allow_button, texts.allow_hint)
    else:
        hint = texts.opt_out_hint.format(days=opt_out_cookie.LIFETIME_DAYS)
        yield button("no", texts.opt_out_button, hint)
    yield "</form>"


def _recorded_items(identity: Identity | None, texts: BrowserTexts) -> Iterator[str]:
    recorded, visitor = texts.recorded, texts.visitor
    yield from (recorded.page, recorded.came_from, recorded.device)
    yield getattr(visitor, identity or "any")
    if identity == "cookie":
        yield visitor.cookieless
    yield from (recorded.totals, recorded.until_judged)

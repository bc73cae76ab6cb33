"""The privacy page: where a recipient sees what a mail records, stops it and erases what is kept.

One file of HTML without script or anything to load, small enough for any mail program's browser.
Send it with `headers`; the style is allowed by its hash. As the page sends no referrer, browsers post its
form with `Origin: null`: the token is what entitles, not the origin.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from hashlib import sha256
from html import escape
from typing import NamedTuple
from urllib.parse import urlsplit

from pixel_server.privacy.recipient_words import WORDS, Words
from pixel_server.tokens import Mode

STYLE = """
:root{color-scheme:light dark}
body{font:1.05rem/1.55 system-ui,sans-serif;max-width:38rem;margin:0 auto;padding:1.5rem 1rem 3rem;
overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
form p{margin:.4rem 0 1.5rem}
ul{padding-left:1.2rem}
dt{margin-top:.6rem}
dd{margin:0;font-weight:600}
button{font:inherit;font-weight:600;width:100%;min-height:3rem;padding:.6rem 1rem;border:2px solid;
border-radius:.4rem;color:CanvasText;background:Canvas;cursor:pointer}
button:first-of-type{color:Canvas;background:CanvasText;border-color:CanvasText}
a:focus-visible,button:focus-visible{outline:3px solid #1a73e8;outline-offset:3px}
"""

_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()

_DEFAULT = "en"
_LONGEST = 1000
_RANGE = re.compile(
    r"([a-z]{1,8}|\*)(?:-[a-z0-9-]*)?(?:\s*;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.I | re.A
)
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\\@]+", re.I)


class State(Enum):
    """What is known of the recipient that a link names."""

    FOREIGN = auto()
    """The token is not of this server."""
    ANONYMOUS = auto()
    """The token names nobody: it is of mode count."""
    RECORDED = auto()
    STOPPED = auto()
    ERASED = auto()
    """Stopped, and what was kept is erased."""
    ERASING = auto()
    """Stopped, and what was kept will be erased soon."""
    LATER = auto()
    """The recipient changed their mind too often within a minute; nothing was changed."""
    AWAY = auto()
    """The store does not answer; nothing was changed."""


class View(NamedTuple):
    """What to show. action: where the form posts. operator: a name or an http(s) URL.

    keep: days, by kind of data: "buckets", "days", "recipients", "names", "dead_letters". What is
    missing is not mentioned.
    """

    state: State
    action: str
    token: str
    operator: str | None
    mode: Mode
    keep: Mapping[str, int]


def csp(origins: Iterable[str] = ()) -> str:
    """The policy of the page. origins: whose pages may show it in a frame."""
    ancestors = " ".join(origins) or "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; "
        f"form-action 'self'; frame-ancestors {ancestors}; base-uri 'none'"
    )


def headers(origins: Iterable[str] = ()) -> dict[str, str]:
    """What to send the page with. origins: see `csp`."""
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": csp(origins),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
    }


def language(accept: str) -> str:
    """The language to speak, by Accept-Language (RFC 9110, 12.5.4). What cannot be read is skipped."""
    best, weight = _DEFAULT, 0.0
    for part in accept[:_LONGEST].split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            continue
        name, quality = found[1].lower(), float(found[2] or 1)
        if name == "*":
            name = _DEFAULT
        if name in WORDS and quality > weight:
            best, weight = name, quality
    return best


def render(view: View, language: str) -> bytes:
    """The page, as UTF-8. An unknown language is English."""
    language = language if language in WORDS else _DEFAULT
    words = WORDS[language]
    parts = [
        f"<p>{escape(words.leads[view.state.name])}</p>",
        *_form(view, words),
        *_what(view, words),
        *_whom(view, words),
        *how_long({kind: view.keep[kind] for kind in view.keep if _concerns(kind, view)}, words),
    ]
    return document(language, words.titles[view.state.name], parts)


def document(language: str, title: str, parts: Iterable[str]) -> bytes:
    """A page of this title, as UTF-8. parts: markup, a block each."""
    title = escape(title)
    page = [
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="robots" content="noindex">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
        f"<h1>{title}</h1>",
        *parts,
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(page).encode("utf-8", "replace")


def _form(view: View, words: Words) -> Iterator[str]:
    stop = ("stop", words.stop, words.stop_hint)
    erase = ("erase", words.erase, words.erase_hint)
    allow = ("allow", words.allow, words.allow_hint)
    choices = {
        State.RECORDED: (stop, erase),
        State.STOPPED: (allow, (*erase[:2], words.erase_stopped_hint)),
        State.ERASED: (allow,),
        State.ERASING: (allow,),
    }.get(view.state)
    if choices is None:
        return
    yield f'<form method="post" action="{escape(view.action)}">'
    yield f'<input type="hidden" name="t" value="{escape(view.token)}">'
    for value, label, hint in choices:
        yield (
            f'<button type="submit" name="do" value="{value}" aria-describedby="{value}-hint">'
            f'{escape(label)}</button>\n<p id="{value}-hint">{escape(hint)}</p>'
        )
    yield "</form>"


def _what(view: View, words: Words) -> Iterator[str]:
    if view.state == State.FOREIGN:
        return
    heading = {State.STOPPED: words.what_before, State.ERASED: words.what_if_allowed}
    heading[State.ERASING] = words.what_if_allowed
    yield f"<h2>{escape(heading.get(view.state, words.what))}</h2>\n<ul>"
    for item in _recorded(view.mode, words):
        yield f"<li>{escape(item)}</li>"
    yield "</ul>"


def _recorded(mode: Mode, words: Words) -> Iterator[str]:
    if mode == Mode.OFF:
        yield words.nothing
        return
    yield words.totals
    if mode == Mode.LAST:
        yield words.last
    if mode >= Mode.LAST:
        yield words.code
    if mode >= Mode.PSEUDONYMOUS:
        yield words.opens
        yield words.traces
    if mode == Mode.IDENTIFIED:
        yield words.name
    yield words.brief


def _whom(view: View, words: Words) -> Iterator[str]:
    if view.state == State.FOREIGN and not (view.operator or "").strip():
        return
    yield from whose(words.runs if view.state == State.FOREIGN else words.whom, view.operator, words.sender)


def whose(heading: str, operator: str | None, otherwise: str) -> Iterator[str]:
    """Who records. operator: a name or an http(s) URL. otherwise: who it is without one."""
    operator = (operator or "").strip()
    shown = f"<bdi>{escape(operator)}</bdi>" if operator else escape(otherwise)
    if _is_link(operator):
        shown = f'<a href="{escape(operator)}" rel="noopener noreferrer">{shown}</a>'
    yield f"<h2>{escape(heading)}</h2>\n<p>{shown}</p>"


def _is_link(operator: str) -> bool:
    try:
        return bool(_URL.fullmatch(operator) and urlsplit(operator).hostname)
    except ValueError:
        return False


def how_long(keep: Mapping[str, int], words: Words) -> Iterator[str]:
    """keep: days, by kind of data. Kinds that have no words are not mentioned."""
    kinds = [kind for kind in words.keep if kind in keep]
    if not kinds:
        return
    yield f"<h2>{escape(words.long)}</h2>\n<dl>"
    for kind in kinds:
        days = keep[kind]
        shown = (words.day if days == 1 else words.days).format(days)
        yield f"<dt>{escape(words.keep[kind])}</dt>\n<dd>{escape(shown)}</dd>"
    yield "</dl>"


def _concerns(kind: str, view: View) -> bool:
    """Whether data of this kind may be there. Some of the recipient may be, from before, in any mode."""
    if view.state == State.FOREIGN:
        return False
    if kind == "recipients":
        return view.state != State.ANONYMOUS
    return view.mode >= (Mode.IDENTIFIED if kind == "names" else Mode.COUNT)

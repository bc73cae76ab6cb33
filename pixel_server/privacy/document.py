"""The HTML document of the privacy pages: outer markup, style, headers, and the parts that both pages have.

A page is one HTML file. It has no script, loads nothing, and is small enough for the browser of any mail
program. Send it with `headers`, whose content security policy allows the style by its hash.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape
from urllib.parse import urlsplit

from pixel_server.privacy.texts import SharedTexts

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

_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\\@]+", re.I)


def csp(origins: Iterable[str] = ()) -> str:
    """Returns the content security policy of a page. origins: origins whose pages may frame this page."""
    ancestors = " ".join(origins) or "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        f"form-action 'self'; frame-ancestors {ancestors}; base-uri 'none'"
    )


def headers(origins: Iterable[str] = ()) -> dict[str, str]:
    """Returns the headers of the page's response. origins: see `csp`."""
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": csp(origins),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
    }


def document(language: str, title: str, parts: Iterable[str]) -> bytes:
    """Returns a page with this title, as UTF-8. parts: blocks of markup."""
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


def button(action: str, label: str, hint: str) -> str:
    """Returns a button that posts `do=action`, and a paragraph that describes the button."""
    return (
        f'<button type="submit" name="do" value="{action}" aria-describedby="{action}-hint">'
        f'{escape(label)}</button>\n<p id="{action}-hint">{escape(hint)}</p>'
    )


def controller(heading: str, operator: str | None, fallback: str) -> Iterator[str]:
    """Yields the part that says who records: the operator, or `fallback` without an operator.

    operator: a name or an http(s) URL.
    """
    operator = (operator or "").strip()
    shown = f"<bdi>{escape(operator)}</bdi>" if operator else escape(fallback)
    if _is_link(operator):
        shown = f'<a href="{escape(operator)}" rel="noopener noreferrer">{shown}</a>'
    yield f"<h2>{escape(heading)}</h2>\n<p>{shown}</p>"


def _is_link(operator: str) -> bool:
    try:
        return bool(_URL.fullmatch(operator) and urlsplit(operator).hostname)
    except ValueError:
        return False


def retention_times(days_by_kind: Mapping[str, int], texts: SharedTexts) -> Iterator[str]:
    """Yields the part that says for how many days each kind of data is kept.

    Leaves out kinds that are not in `RetentionTexts`.
    """
    kinds = [kind for kind in texts.retention.__struct_fields__ if kind in days_by_kind]
    if not kinds:
        return
    yield f"<h2>{escape(texts.retention_heading)}</h2>\n<dl>"
    for kind in kinds:
        days = days_by_kind[kind]
        text = (texts.one_day if days == 1 else texts.several_days).format(days=days)
        yield f"<dt>{escape(getattr(texts.retention, kind))}</dt>\n<dd>{escape(text)}</dd>"
    yield "</dl>"

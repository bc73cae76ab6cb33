"""The HTML document of the privacy pages: outer markup, style, headers, and the parts that both pages have.

A page is one HTML file. It has no script, loads nothing, and is small enough for the browser of any mail
program. Send it with `headers`, whose content security policy allows the style by its hash.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape

from pixel_server import operator_name
from pixel_server.privacy.texts import SharedTexts

STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1c2127;--dim:#5b6570;--line:#dde2e7;--soft:#f3f5f7;
--accent:#2563a8;--on:#fff}
@media(prefers-color-scheme:dark){:root{--back:#14181c;--text:#e3e7eb;--dim:#98a3ad;--line:#2b323a;
--soft:#1c2228;--accent:#7fb2e8;--on:#10151a}}
*{box-sizing:border-box}
body{font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;max-width:40rem;
margin:0 auto;padding:0 1rem 3rem;overflow-wrap:anywhere;background:var(--back);color:var(--text)}
header{padding:.75rem 0;border-bottom:1px solid var(--line);font-weight:600}
h1{font-size:1.375rem;line-height:1.25;font-weight:600;margin:1.5rem 0 .75rem}
h2{font-size:1rem;font-weight:600;margin:2rem 0 .5rem}
p{margin:0 0 .75rem}
form p{color:var(--dim);margin:.4rem 0 1.25rem}
ul{margin:0;padding-left:1.2rem}
li{margin-bottom:.25rem}
dl{margin:0}
dl div{display:flex;justify-content:space-between;gap:1.5rem;padding:.4rem 0;
border-bottom:1px solid var(--line)}
dd{margin:0;white-space:nowrap;font-variant-numeric:tabular-nums}
a{color:var(--accent)}
strong{font-weight:600}
button{font:inherit;font-weight:600;min-width:min(18rem,100%);min-height:2.75rem;padding:.5rem 1.25rem;
border:1px solid var(--line);border-radius:4px;color:inherit;background:var(--soft);cursor:pointer}
button:first-of-type{color:var(--on);background:var(--accent);border-color:var(--accent)}
a:focus-visible,button:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
"""
"""The style of the privacy pages: colours and sizes of the dashboard's `app.css`."""

_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()


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


def document(language: str, title: str, operator: str | None, parts: Iterable[str]) -> bytes:
    """Returns a page with this title, as UTF-8, below the operator's name if there is one.

    parts: blocks of markup.
    """
    title = escape(title)
    name = operator_name.parse(operator).text
    head = [f"<header><bdi>{escape(name)}</bdi></header>"] if name else []
    page = [
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="robots" content="noindex">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        *head,
        "<main>",
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
    name = operator_name.parse(operator)
    shown = f"<bdi>{escape(name.text)}</bdi>" if name.text else escape(fallback)
    if name.is_link:
        shown = f'<a href="{escape(name.text)}" rel="noopener noreferrer">{shown}</a>'
    yield f"<h2>{escape(heading)}</h2>\n<p>{shown}</p>"


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
        number = f"{days:,}".replace(",", texts.thousands)
        text = (texts.one_day if days == 1 else texts.several_days).format(days=number)
        yield f"<div><dt>{escape(getattr(texts.retention, kind))}</dt>\n<dd>{escape(text)}</dd></div>"
    yield "</dl>"

"""Names under which a view counts, made from text that strangers send: page URLs, referrers, languages.

The functions cache their last results. `forget` empties the caches, because queries of URLs must not stay in
memory for long.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote, unquote_plus

from pixel_server.counters.labels import OTHER, UNKNOWN
from pixel_server.counters.web_breakdown import NONE, Source

MAX_NAME_BYTES = 160
"""Largest number of bytes of a name. A longer name is cut."""

_DIRECT = Source()
_REF = "utm_source", 5
_PARAMETERS = {
    **{
        name.replace("utm_", prefix): (field, rank)
        for field, names in {
            "utm_source": ("utm_source",),
            "utm_medium": ("utm_medium",),
            "utm_campaign": ("utm_campaign",),
            "utm_term": ("utm_term", "utm_keyword", "utm_kwd"),
            "utm_content": ("utm_content",),
        }.items()
        for rank, prefix in enumerate(("utm_", "mtm_", "matomo_", "pk_", "piwik_"))
        for name in names
    },
    "ref": _REF,
}
"""Field and rank of each query parameter that names a source. If several parameters of a query name the same
field, the parameter of the lowest rank wins. The names `mtm_` and so on are Matomo's
(https://matomo.org/faq/reports/campaign-tracking, 2026-11-30)."""
_RESERVED = (OTHER, NONE, UNKNOWN)
"""Names that have a special meaning on this server. A stranger must not be able to send them."""
_replace_unprintable = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
).sub
"""Replaces control characters, line ends, surrogates and characters that change the direction of text."""
_match_language = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])").match
_INDEX_NAMES = ("index.html", "index.htm", "index.php")
_split_query = re.compile(r"[&?]").split
_is_off_the_web = re.compile(r"[\x00-\x20]*(?!https?:)[a-z][a-z0-9+.-]*:", re.I).match
"""Matches URLs of other schemes: `file:`, `blob:`, `data:`, `about:`, schemes of apps and extensions."""
_BLANKS = "".join(map(chr, range(0x21)))
"""Characters that browsers remove around an address (https://url.spec.whatwg.org/#concept-basic-url-parser)."""
_is_host = re.compile(r"[a-z0-9._~-]{1,253}|\[[0-9a-f:.]{2,45}\]").fullmatch


@lru_cache(4096)
def page(url: str, *, is_folded: bool = False) -> str:
    """Returns the path of a page: `"/a"` for `"https://site.example/a?q=1#top"`.

    Returns UNKNOWN for a page that is not on the web, such as a saved file. is_folded: whether
    `/a/` and `/a/index.html` become `/a`.
    """
    _, path, _ = _page_parts(url)
    if path and is_folded:
        path = _fold(path)
    return clean(path) if path else UNKNOWN


def _fold(path: str) -> str:
    path = path.rstrip("/")
    folder, _, name = path.rpartition("/")
    if name.lower() in _INDEX_NAMES:
        path = folder.rstrip("/")
    return path or "/"


@lru_cache(4096)
def source(url: str, referrer: str) -> Source:
    """Returns the source of a view: the host of its referrer, and the UTM fields of its own URL."""
    own_host, _, query = _page_parts(url)
    is_app = referrer.startswith("android-app:")
    host, _, _ = _parts(referrer) if is_app else _page_parts(referrer)
    is_internal = bool(host) and host == own_host
    shown = NONE if not host or is_internal else host if host == OTHER else clean(host)
    fields = _utm_fields(query, is_internal) if "=" in query else {}
    return Source(shown, **fields) if fields or shown != NONE else _DIRECT


def _utm_fields(query: str, is_internal: bool) -> dict[str, str]:
    """Returns the UTM fields that a query has a value for: `{"utm_source": "news"}` for `"utm_source=news"`.

    is_internal: whether the referrer is a page of the same site. If so, `ref` is left out, because it then
    names a place on that page.
    """
    fields: dict[str, tuple[int, str]] = {}
    for pair in _split_query(query):  # a second `?` is a common mistake for `&`
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        field_and_rank = _PARAMETERS.get(name.strip().lower().rpartition("amp;")[2])
        if field_and_rank is None or not value or (is_internal and field_and_rank == _REF):
            continue
        field, rank = field_and_rank
        text = clean(unquote_plus(value).strip())
        if text and (field not in fields or rank < fields[field][0]):
            fields[field] = rank, text
    return {field: text for field, (_, text) in fields.items()}


@lru_cache(1024)
def language(accept: str) -> str:
    """Returns the first language of `Accept-Language`, without its region: `"de"` for `"de-AT,en;q=0.5"`."""
    match = _match_language(accept)
    return match[1].lower() if match else UNKNOWN


def clean(text: str) -> str:
    """Returns a stranger's text as a name: printable, at most MAX_NAME_BYTES long, and not a reserved name.

    A reserved name loses its brackets: `"(other)"` becomes `"other"`.
    """
    if not text.isprintable():
        text = _replace_unprintable("\ufffd", text)
    cut = text.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return cut.strip("()") if cut in _RESERVED else cut


def forget() -> None:
    """Empties the caches of all functions."""
    for function in (page, source, language, _parts):
        function.cache_clear()


def _page_parts(url: str) -> tuple[str, str, str]:
    return ("", "", "") if _is_off_the_web(url) else _parts(url)


@lru_cache(4096)
def _parts(url: str) -> tuple[str, str, str]:
    """Returns host, path and query of a URL, "" for a missing part. Accepts any text.

    The host is in lower case, without `www.`, and OTHER if it cannot be a host.
    """
    url = url.strip(_BLANKS)
    if url.startswith("//"):
        url = f"https:{url}"
    host, path = "", url
    scheme, mark, rest = url.partition("://")
    if mark and scheme.isascii() and scheme.replace("-", "").isalnum():
        end = len(rest)
        for stop in "/?#":
            if (at := rest.find(stop)) >= 0:
                end = min(end, at)
        host, path = rest[:end], rest[end:] or "/"
        host = host.rpartition("@")[2].lower()
        host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if host and not _is_host(host):
            host = OTHER
        path = path if path.startswith("/") else "/" + path
    path, _, _ = path.partition("#")
    path, _, query = path.partition("?")
    if path and not path.startswith("/"):
        path = ""
    return host.removesuffix(".").removeprefix("www."), unquote(path) if "%" in path else path, query

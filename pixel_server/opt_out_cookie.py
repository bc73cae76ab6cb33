"""The opt-out cookie: nothing is recorded of a browser that has it, whatever page or mail it shows."""

from __future__ import annotations

import re

from pixel_server.times import DAY

LIFETIME_DAYS = 400
"""Days for which the cookie is set. Browsers keep no cookie longer (RFC 6265bis, 5.5)."""

NAME = "px-no"
"""Name of the cookie. No campaign's cookie has it: theirs begin with `px_` (`collect.visitor_cookie`)."""

_search = re.compile(rb"(?:^|[;,]\s*)%b=1\s*(?:[;,]|$)" % NAME.encode()).search


def is_set(cookies: bytes | None) -> bool:
    """Returns whether a `Cookie` header has the opt-out cookie. cookies: the header, joined if sent twice."""
    return cookies is not None and _search(cookies) is not None


def set_cookie(path: str, *, out: bool, framed: bool) -> str:
    """Returns the `Set-Cookie` header that sets the cookie, or removes it if `out` is False.

    path: "/", or the prefix of all paths of this server. framed: the page is in a frame of another site. Such
    a cookie is kept for that site alone (CHIPS, `Partitioned`). Any other holds for this site, and for every
    site on which the browser sends cookies of third parties.
    """
    max_age = LIFETIME_DAYS * DAY if out else 0
    partitioned = "; Partitioned" if framed else ""
    return f"{NAME}=1; Path={path}; Max-Age={max_age}; HttpOnly; Secure; SameSite=None{partitioned}"

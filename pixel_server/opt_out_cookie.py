"""The opt-out cookie. The server records nothing of a browser that sends it, neither pages nor mails."""

from __future__ import annotations

import re

from pixel_server.times import DAY

LIFETIME_DAYS = 400
"""Lifetime of the cookie in days, the longest that browsers allow (RFC 6265bis, 5.5)."""

NAME = "px-no"
"""Name of the cookie. The cookies of campaigns begin with `px_` instead (`collect.visitor_cookie`)."""

_search = re.compile(rb"(?:^|[;,]\s*)%b=1\s*(?:[;,]|$)" % NAME.encode()).search


def is_set(cookies: bytes | None) -> bool:
    """Returns whether a request sent the opt-out cookie.

    cookies: value of the request's `Cookie` header, the joined values of several such headers, or None.
    """
    return cookies is not None and _search(cookies) is not None


def set_cookie(path: str, *, opts_out: bool, is_framed: bool) -> str:
    """Returns the value of `Set-Cookie` that sets the cookie, or removes the cookie if `opts_out` is False.

    path: "/", or the prefix of all paths of this server. is_framed: whether the page is in a frame of another
    site. A cookie set in a frame holds for that site alone (CHIPS, `Partitioned`). A cookie set outside a
    frame holds for this server, and on all sites if the browser sends third-party cookies.
    """
    max_age = LIFETIME_DAYS * DAY if opts_out else 0
    partitioned = "; Partitioned" if is_framed else ""
    return f"{NAME}=1; Path={path}; Max-Age={max_age}; HttpOnly; Secure; SameSite=None{partitioned}"

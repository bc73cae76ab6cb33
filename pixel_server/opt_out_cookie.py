"""The cookie by which a browser says that nothing of it is to be recorded, whatever page or mail it shows."""

from __future__ import annotations

import re

from pixel_server.times import DAY

DAYS = 400
"""As long as browsers keep a cookie (RFC 6265bis, 5.5)."""

NAME = "px-no"
"""No campaign's: those begin with `px_`, see `collect.cookie`."""

_says_no = re.compile(rb"(?:^|[;,]\s*)%b=1\s*(?:[;,]|$)" % NAME.encode()).search


def says_no(cookies: bytes | None) -> bool:
    """cookies: the header `Cookie`, as sent; those sent twice joined."""
    return cookies is not None and _says_no(cookies) is not None


def header(path: str, *, out: bool, framed: bool) -> str:
    """`Set-Cookie` that sets it, or takes it away. path: of all that this server answers, "/" or a prefix.

    framed: the page stands in a frame of another site's. Browsers then keep what it sets for that site alone
    (CHIPS, `Partitioned`). Else it holds for this site, and for all others where the browser sends cookies of
    third parties.
    """
    age = DAYS * DAY if out else 0
    part = "; Partitioned" if framed else ""
    return f"{NAME}=1; Path={path}; Max-Age={age}; HttpOnly; Secure; SameSite=None{part}"

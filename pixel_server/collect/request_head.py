"""What the headers of a pixel request say, whatever was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_server import consent, hit, opt_out_cookie
from pixel_server.hit import cut_text


class RequestHead:
    """headers: by lower-case name. evidence: what of them a hit keeps. asks: not to be followed.
    has_opted_out: by cookie, not to be recorded at all. is_ahead: the browser asks before anybody looks.
    is_last: nothing follows on this connection (HTTP/1.1).

    Evidence is agent, referrer, language, gpc, dnt and purpose: as sent, each cut to its bound.
    """

    __slots__ = ("evidence", "has_opted_out", "headers", "is_ahead", "is_last", "requests_no_tracking")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """headers: (lower-case name, value), as they came; those sent twice are joined (RFC 9110, 5.3)."""
        named = dict(headers)
        if len(named) != len(headers):
            values: dict[bytes, list[bytes]] = {}
            for name, value in headers:
                values.setdefault(name, []).append(value)
            named = {name: b",".join(sent) for name, sent in values.items()}
        self.headers = named
        self.evidence = _evidence(named)
        self.requests_no_tracking = consent.requests_no_tracking(self.evidence[3], self.evidence[4])
        self.is_ahead = self.evidence[5] != ""
        self.is_last = named.get(b"connection", b"").lower() == b"close"
        self.has_opted_out = opt_out_cookie.is_set(named.get(b"cookie"))


def _evidence(headers: dict[bytes, bytes]) -> tuple[str, str, str, str, str, str]:
    get = headers.get
    return (
        cut_text(get(b"user-agent"), hit.MAX_AGENT),
        cut_text(get(b"referer"), hit.MAX_URL),
        cut_text(get(b"accept-language"), hit.MAX_LANGUAGE),
        cut_text(get(b"sec-gpc"), hit.MAX_SIGNAL),
        cut_text(get(b"dnt"), hit.MAX_SIGNAL),
        hit.purpose(headers),
    )

"""The headers of a pixel request, and what they say about recording it."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_server import consent, hit, opt_out_cookie
from pixel_server.hit import cut_text


class RequestHead:
    """The headers of one request.

    headers: values by lower-case name.
    evidence: the values that a hit stores: agent, referrer, language, gpc, dnt and purpose, each cut to its
    bound.
    requests_no_tracking: whether GPC or DNT asks not to be tracked.
    has_opted_out: whether the opt-out cookie forbids any recording.
    is_prefetch: whether the browser requests the page before anybody looks at it.
    is_last: whether the client closes the connection after this request (HTTP/1.1).
    """

    __slots__ = ("evidence", "has_opted_out", "headers", "is_last", "is_prefetch", "requests_no_tracking")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Reads pairs of lower-case name and value. Joins the values of repeated names (RFC 9110, 5.3)."""
        named = dict(headers)
        if len(named) != len(headers):
            values: dict[bytes, list[bytes]] = {}
            for name, value in headers:
                values.setdefault(name, []).append(value)
            named = {name: b",".join(repeated) for name, repeated in values.items()}
        self.headers = named
        self.evidence = _evidence(named)
        self.requests_no_tracking = consent.requests_no_tracking(self.evidence[3], self.evidence[4])
        self.is_prefetch = self.evidence[5] != ""
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

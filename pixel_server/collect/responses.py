"""The answers to pixel requests: always the image, and the outcome of the hit in the header X-Pixel."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_server.collect.image import GIF

ALLOW = b"GET, HEAD, OPTIONS"
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"image/gif"),
    (b"content-length", str(len(GIF)).encode()),
    (b"cache-control", b"no-store, no-cache, must-revalidate, max-age=0, private"),
    (b"pragma", b"no-cache"),
    (b"expires", b"0"),
    _ANY_ORIGIN,
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex"),
)
"""No ETag and no Last-Modified: a 304 would hide that a mail was opened again."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A whole response. The body is GIF, or empty for a HEAD.

    is_single_use: whether the response was made for one request and must not be cached.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    is_single_use: bool = False


def _answer(status: int, pixel: bytes, *more: tuple[bytes, bytes]) -> Answer:
    return Answer(status, [*_HEADERS, (b"x-pixel", pixel), *more])


RECORDED = _answer(200, b"recorded")
EXPIRED = _answer(200, b"ignored; reason=expired")
OFF = _answer(200, b"ignored; reason=off")
WITHDRAWN = _answer(200, b"ignored; reason=withdrawn")
TRACKING_REFUSED = _answer(200, b"ignored; reason=gpc")
GONE = _answer(200, b"ignored; reason=gone")
WRONG_KIND = _answer(200, b"ignored; reason=kind")
"""Answer to a mail's link whose campaign counts web pages."""
OPTED_OUT = _answer(200, b"ignored; reason=opted-out")
OPTIONS = _answer(
    200,
    b"ignored; reason=options",
    (b"allow", ALLOW),
    (b"access-control-allow-methods", ALLOW),
    (b"access-control-max-age", b"86400"),
)
PREFLIGHT = _answer(
    200,
    b"ignored; reason=options",
    (b"allow", b"POST, OPTIONS"),
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-max-age", b"86400"),
)
BAD_BODY = _answer(400, b"refused; reason=body")
BAD_ORIGIN = _answer(403, b"refused; reason=origin")
SLOW_BODY = _answer(408, b"refused; reason=body", (b"connection", b"close"))
LONG_BODY = _answer(413, b"refused; reason=body", (b"connection", b"close"))
NOT_FOUND = _answer(404, b"refused; reason=not-found")
BAD_TOKEN = _answer(404, b"refused; reason=token")
NO_CAMPAIGN = _answer(404, b"refused; reason=campaign")
BAD_METHOD = _answer(405, b"refused; reason=method", (b"allow", ALLOW))
NOT_STORED = _answer(503, b"failed; reason=not-stored")
"""The hit may still be stored if Redis was only slow. Only a 2xx promises that a hit is stored."""
FULL = _answer(503, b"failed; reason=full")


def outcome(answer: Answer) -> str:
    """Returns the outcome in the header X-Pixel of an answer: `"ignored; reason=gpc"`."""
    return next(value for name, value in answer.headers if name == b"x-pixel").decode()


def with_cookie(cookie: tuple[bytes, bytes]) -> Answer:
    """Returns RECORDED with a header that sets a cookie."""
    return Answer(200, [*RECORDED.headers, cookie], is_single_use=True)


def to_origin(answer: Answer, origin: bytes | None) -> Answer:
    """Returns an answer that allows a page of `origin` to read it, and to send cookies.

    If `origin` is None, pages of every origin may read the answer, and none may send cookies.
    """
    if origin is None:
        allowed = [_ANY_ORIGIN]
    else:
        allowed = [(_ANY_ORIGIN[0], origin), (b"access-control-allow-credentials", b"true")]
    place = answer.headers.index(_ANY_ORIGIN)
    before, after = answer.headers[:place], answer.headers[place + 1 :]
    return Answer(answer.status, [*before, *allowed, (b"vary", b"Origin"), *after], is_single_use=True)

"""What a pixel request is answered with: always the image, and in X-Pixel what became of the hit."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_server.image import GIF

ALLOW = b"GET, HEAD, OPTIONS"

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"image/gif"),
    (b"content-length", str(len(GIF)).encode()),
    (b"cache-control", b"no-store, no-cache, must-revalidate, max-age=0, private"),
    (b"pragma", b"no-cache"),
    (b"expires", b"0"),
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex"),
)
"""No ETag and no Last-Modified: a 304 would hide that a mail was opened again. No cookie."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A whole response, built once. The body is GIF (none to a HEAD)."""

    status: int
    headers: list[tuple[bytes, bytes]]


def _answer(status: int, pixel: bytes, *more: tuple[bytes, bytes]) -> Answer:
    return Answer(status, [*_HEADERS, (b"x-pixel", pixel), *more])


RECORDED = _answer(200, b"recorded")
EXPIRED = _answer(200, b"ignored; reason=expired")
OFF = _answer(200, b"ignored; reason=off")
WITHDRAWN = _answer(200, b"ignored; reason=withdrawn")
ASKED = _answer(200, b"ignored; reason=gpc")
GONE = _answer(200, b"ignored; reason=gone")
OPTIONS = _answer(
    200,
    b"ignored; reason=options",
    (b"allow", ALLOW),
    (b"access-control-allow-methods", ALLOW),
    (b"access-control-max-age", b"86400"),
)
NOT_FOUND = _answer(404, b"refused; reason=not-found")
BAD_TOKEN = _answer(404, b"refused; reason=token")
NO_CAMPAIGN = _answer(404, b"refused; reason=campaign")
BAD_METHOD = _answer(405, b"refused; reason=method", (b"allow", ALLOW))
NOT_STORED = _answer(503, b"failed; reason=not-stored")
"""It may yet be stored, if Redis was only slow; the promise is in the 2xx alone."""
FULL = _answer(503, b"failed; reason=full")

"""`/p.js`, the script of web pages.

The script sends a view once the page is visible. Each time that the page is hidden, the script sends the
milliseconds for which the page was visible in this view so far. A new path in the browser's history, set by
the page's own script, is a new view. The script sends nothing if the page forbids it, stores nothing in the
browser, and raises no error in the page. Each body fits into `beacon.MAX_BODY_BYTES`.
"""

from __future__ import annotations

import gzip
import re
from hashlib import blake2b
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response


def minify(source: bytes) -> bytes:
    """Returns a script without comments, and without blanks that do not separate two words.

    Each statement of the script must end with `;` or `}`. No string and no regular expression may hold `//`.
    No regular expression may hold a blank.
    """
    lines = (line.partition(b"//")[0].strip() for line in source.splitlines())
    return re.sub(rb"(\"[^\"]*\")| ?([^\w\s\"/$]) ?", lambda match: match[1] or match[2], b"".join(lines))


SOURCE = minify(Path(__file__).with_name("p.js").read_bytes())
GZIPPED = gzip.compress(SOURCE, 9, mtime=0)
HEADERS = {
    "Content-Type": "text/javascript; charset=utf-8",
    "Cache-Control": "public, max-age=86400",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding, Origin",
}
_TAG = blake2b(SOURCE, digest_size=8).hexdigest()
_accepts_gzip = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:$|,|;\s*q=(?!0(?:\.0*)?\s*(?:$|,)))", re.I).search


def _cors_headers(request: Request) -> dict[str, str]:
    """Returns the headers that let pages of every origin read the script, and send cookies and headers."""
    origin = request.headers.get("origin")
    if origin is None:
        return {"Access-Control-Allow-Origin": "*"}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}


def _preflight(request: Request) -> Response:
    headers = {**_cors_headers(request), "Allow": "GET, HEAD, OPTIONS", "Vary": "Origin"}
    requested_headers = request.headers.get("access-control-request-headers")
    if requested_headers is not None:
        headers["Access-Control-Allow-Headers"] = requested_headers
        headers["Vary"] += ", Access-Control-Request-Headers"
    return Response(status_code=204, headers=headers)


async def script(request: Request) -> Response:
    """Answers with the script, 304 if the client has it, or the answer to a CORS preflight."""
    if request.method == "OPTIONS":
        return _preflight(request)
    is_gzipped = _accepts_gzip(request.headers.get("accept-encoding", "")) is not None
    tag = f'"{_TAG}-gzip"' if is_gzipped else f'"{_TAG}"'
    headers = {**HEADERS, **_cors_headers(request), "ETag": tag}
    sent_tags = request.headers.get("if-none-match", "").split(",")
    known_tags = [sent.strip().removeprefix("W/") for sent in sent_tags]
    if tag in known_tags or known_tags == ["*"]:
        del headers["Content-Type"]
        return Response(status_code=304, headers=headers)
    if is_gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(GZIPPED if is_gzipped else SOURCE, headers=headers)

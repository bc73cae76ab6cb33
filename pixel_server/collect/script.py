"""`/p.js`, the script of web pages.

It sends a view once the page is seen, and, when it is hidden, for how long it was visible, which adds up over
a view. Another path within one page (history) is a view of its own. It says nothing where the page said no,
keeps nothing in the browser, and throws nothing into the page. All that it sends fits into `beacon.MOST`.
"""

from __future__ import annotations

import gzip
import re
from hashlib import blake2b
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response


def squeeze(source: bytes) -> bytes:
    """Without comments, and without blanks but those between two words. Each statement ends with `;` or `}`,
    and no string holds a blank or `//`."""
    lines = (line.partition(b"//")[0].strip() for line in source.splitlines())
    return re.sub(rb" ?([^\w\s\"/$]) ?", rb"\1", b"".join(lines))


SOURCE = squeeze(Path(__file__).with_name("p.js").read_bytes())
PACKED = gzip.compress(SOURCE, 9, mtime=0)
HEADERS = {
    "Content-Type": "text/javascript; charset=utf-8",
    "Cache-Control": "public, max-age=86400",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}
_TAG = blake2b(SOURCE, digest_size=8).hexdigest()
_takes_gzip = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:$|,|;\s*q=(?!0(?:\.0*)?\s*(?:$|,)))", re.I).search


async def script(request: Request) -> Response:
    packed = _takes_gzip(request.headers.get("accept-encoding", "")) is not None
    tag = f'"{_TAG}-gzip"' if packed else f'"{_TAG}"'
    headers = {**HEADERS, "ETag": tag}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        del headers["Content-Type"]
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(PACKED if packed else SOURCE, headers=headers)

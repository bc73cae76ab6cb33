"""Serves the styles and scripts of the pages from memory. Each address contains a hash of the content."""

from __future__ import annotations

import gzip
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.problems import Problem

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class _File(NamedTuple):
    """A file. gzipped: its content, compressed. content_hash: 12 hexadecimal digits."""

    media_type: str
    content: bytes
    gzipped: bytes
    content_hash: str


def _read(path: Path) -> _File:
    content = path.read_bytes()
    content_hash = blake2b(content, digest_size=6).hexdigest()
    return _File(MEDIA_TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0), content_hash)


_FILES = {
    path.relative_to(FOLDER).as_posix(): _read(path)
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in MEDIA_TYPES
}


def address(name: str) -> str:
    """Returns the path below the base URL: `static/app.css?v=...`. Raises KeyError if the file is missing."""
    return f"static/{name}?v={_FILES[name].content_hash}"


async def answer(request: Request) -> Response:
    """Returns a file. Browsers keep it for a year if the address has the current hash, else for a minute."""
    file = _FILES.get(request.path_params["name"])
    if file is None:
        return Problem(404, "there is nothing at this address").response()
    has_current_hash = request.query_params.get("v") == file.content_hash
    headers = {
        "Content-Type": file.media_type,
        "Cache-Control": "public, max-age=31536000, immutable" if has_current_hash else "public, max-age=60",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.gzipped, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, headers=headers)

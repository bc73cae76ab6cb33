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
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class _File(NamedTuple):
    """A file. packed: compressed with gzip. tag: the hash of its content."""

    kind: str
    content: bytes
    packed: bytes
    tag: str


def _read(path: Path) -> _File:
    content = path.read_bytes()
    tag = blake2b(content, digest_size=6).hexdigest()
    return _File(TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0), tag)


_FILES = {
    path.relative_to(FOLDER).as_posix(): _read(path)
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in TYPES
}


def address(name: str) -> str:
    """Returns the address below the base: `static/app.css?v=...`. Raises KeyError if the file is missing."""
    return f"static/{name}?v={_FILES[name].tag}"


async def answer(request: Request) -> Response:
    """Returns a file. Browsers cache a file for a year if the address has its hash, else for a minute."""
    file = _FILES.get(request.path_params["name"])
    if file is None:
        return Problem(404, "there is nothing at this address").response()
    is_exact = request.query_params.get("v") == file.tag
    headers = {
        "Content-Type": file.kind,
        "Cache-Control": "public, max-age=31536000, immutable" if is_exact else "public, max-age=60",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, headers=headers)

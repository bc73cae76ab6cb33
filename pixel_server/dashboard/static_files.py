"""Style and scripts of the pages, in memory: their addresses carry a hash of what is in them."""

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
    """Below the base: `static/app.css?v=...`. KeyError: there is no such file."""
    return f"static/{name}?v={_FILES[name].tag}"


async def answer(request: Request) -> Response:
    """One of them. Kept by browsers for a year if asked for by its hash, else for a minute."""
    found = _FILES.get(request.path_params["name"])
    if found is None:
        return Problem(404, "there is nothing at this address").response()
    is_exact = request.query_params.get("v") == found.tag
    headers = {
        "Content-Type": found.kind,
        "Cache-Control": "public, max-age=31536000, immutable" if is_exact else "public, max-age=60",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.content, headers=headers)

"""Forms of our own pages: who sent them, and what is in them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request

from pixel_server.api import request_stream
from pixel_server.problems import Problem

MOST_FIELDS = 200


async def read(request: Request, most: int) -> dict[str, str]:
    """The fields of a form, the first of each name; those left empty too. incoming.Unfit: it has more than
    `most` bytes, or more fields than a form of ours, or is late.

    Bytes that are no UTF-8 stand as U+FFFD.
    """
    body = await request_stream.whole(request, most)
    try:
        found = parse_qs(
            body.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace"
        )
    except ValueError:
        raise request_stream.Unfit(413, f"has more than {MOST_FIELDS} fields") from None
    return {name: values[0] for name, values in found.items()}


def check_query(request: Request) -> None:
    """Raises Problem 400 if a request has more parameters than any call or page takes."""
    if request.scope["query_string"].count(b"&") >= MOST_FIELDS:
        raise Problem(400, f"this address has more than {MOST_FIELDS} parameters")


def from_elsewhere(request: Request, base_url: str | None) -> bool:
    """Whether a form was sent by another site, as browsers tell; a page without referrer sends no origin."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin", "null")
    if origin == "null":
        return False
    try:
        named = urlsplit(origin).netloc
    except ValueError:  # no address at all, as "https://["
        return True
    return named not in {request.headers.get("host"), urlsplit(base_url or "").netloc}

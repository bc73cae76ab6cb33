"""Forms of this server's pages: reads their fields, and tells whether another site sent them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request

from pixel_server.api.request_stream import BodyError, read_body
from pixel_server.problems import Problem

MAX_FIELDS = 200
"""Largest number of fields of a form, and of parameters of a query."""


async def read_form(request: Request, max_bytes: int) -> dict[str, str]:
    """Returns the first value of each field, even if it is empty. Bytes that are not UTF-8 become U+FFFD.

    Raises BodyError if the form is larger than `max_bytes`, has more than MAX_FIELDS fields, comes too late,
    or is cut off.
    """
    body = await read_body(request, max_bytes)
    try:
        fields = parse_qs(
            body.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace"
        )
    except ValueError:
        raise BodyError(413, f"has more than {MAX_FIELDS} fields") from None
    return {name: values[0] for name, values in fields.items()}


def check_query(request: Request) -> None:
    """Raises Problem 400 if a request has more parameters than any call or page takes."""
    if request.scope["query_string"].count(b"&") >= MAX_FIELDS:
        raise Problem(400, f"this address has more than {MAX_FIELDS} parameters")


def is_cross_site(request: Request, base_url: str | None) -> bool:
    """Returns whether another site sent a form, judged by headers that browsers set.

    A missing origin is accepted, because pages with the policy `no-referrer` send none.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin", "null")
    if origin == "null":
        return False
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # not an address, as "https://["
        return True
    return host not in {request.headers.get("host"), urlsplit(base_url or "").netloc}

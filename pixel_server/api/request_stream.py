"""Reads request bodies within limits of size and time, so that a silent client holds no connection."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

BODY_TIMEOUT_SECONDS = 30.0


class BodyError(Exception):
    """A body that is too long, comes too late, or is cut off.

    The text is the end of a sentence that begins with "the body": `"has more than 100 bytes"`.
    status: 413, 408 or 400. headers: response headers.
    """

    headers = {"Connection": "close"}  # noqa: RUF012 - nobody changes it

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body. Raises BodyError if it has more than `max_bytes`, comes too late, or is cut off."""
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise BodyError(413, f"has more than {max_bytes} bytes")
    except TimeoutError:
        raise BodyError(408, f"did not come within {BODY_TIMEOUT_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise BodyError(400, "was cut off") from None  # the client is gone and reads no answer
    return body

"""Reads request bodies within limits of size and time, so that a silent client holds no connection."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import ClientDisconnect, Request

BODY_TIMEOUT_SECONDS = 30.0
MAX_REST_BYTES = 64 << 20
"""Largest number of bytes that `read_rest` reads."""


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


async def read_rest(request: Request) -> None:
    """Reads what an answer left unread of the body, and forgets it.

    Call it before the answer is sent: a browser or a proxy that still sends its request when the connection
    closes shows an error instead of the answer. Stops after MAX_REST_BYTES or BODY_TIMEOUT_SECONDS. Reads
    nothing if the client waits for `100 Continue` before it sends the body.
    """
    if request.method in ("GET", "HEAD") or "expect" in request.headers:
        return
    count = 0
    # RuntimeError: the whole body was read before.
    with contextlib.suppress(RuntimeError, ClientDisconnect, TimeoutError):
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                count += len(chunk)
                if count > MAX_REST_BYTES:
                    return

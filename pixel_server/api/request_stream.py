"""The body of a request, whole, within bounds of size and of time: who is silent holds no connection."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

WITHIN = 30.0
"""Seconds that it may take to come."""


class Unfit(Exception):
    """It is too long, does not come, or is cut off; says what it "has", "did" or "was". status: 413, 408 or
    400. headers: of the answer."""

    headers = {"Connection": "close"}  # noqa: RUF012 - nobody changes it

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def whole(request: Request, most: int) -> bytes:
    """Returns the body. Raises Unfit if it has more than `most` bytes, is late, or ends too early."""
    body = b""
    try:
        async with asyncio.timeout(WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Unfit(413, f"has more than {most} bytes")
    except TimeoutError:
        raise Unfit(408, f"did not come within {WITHIN:.0f} seconds") from None
    except ClientDisconnect:
        raise Unfit(400, "was cut off") from None  # nobody reads the answer
    return body

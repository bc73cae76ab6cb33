"""The body of a request, whole, within bounds of size and of time: who is silent holds no connection."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

WITHIN = 30.0
"""Seconds that it may take to come."""


class Unfit(Exception):
    """It is too long, or does not come; says what it "has" or "did". status: 413 or 408. headers: of the
    answer."""

    headers = {"Connection": "close"}  # noqa: RUF012 - nobody changes it

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def whole(request: Request, most: int) -> bytes:
    """Unfit: it has more than `most` bytes, or is late."""
    body = b""
    try:
        async with asyncio.timeout(WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Unfit(413, f"has more than {most} bytes")
    except TimeoutError:
        raise Unfit(408, f"did not come within {WITHIN:.0f} seconds") from None
    return body

"""A process with hostile clients, which request the most expensive pages that they can, without end.

python -m tests.chaos.hostile PORT KEY COOKIE SHARE READERS MUTES SECONDS

KEY has the scope `read`, COOKIE is the cookie of a session with that key, and SHARE is the token of a share
link. READERS clients read their answers; MUTES clients send requests and never read. Prints the numbers of
answers by status as JSON: `{"200": 51}`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections import Counter

YEARS = "from=2016-12-01&to=2026-11-01"
THREE_YEARS = "from=2023-12-01&to=2026-11-01"
SIGN_IN = b"key=px_wrong_key_of_a_stranger"


def requests(key: str, cookie: str, share: str) -> list[bytes]:
    """Returns expensive requests of a stranger, with a share link, with a `read` key, and in its session."""
    bearer, session = f"Authorization: Bearer {key}\r\n", f"Cookie: px_session={cookie}\r\n"
    compared = ",".join(f"c{i}" for i in range(20))
    requests = [
        ("/api/openapi.json", ""),
        ("/sign-in", ""),
        (f"/s/{share}", ""),
        (f"/s/{share}/stats.json?{YEARS}", ""),
        (f"/s/{share}/stats.json?{THREE_YEARS}", ""),
        ("/static/app.css", ""),
        (f"/api/campaigns/site/stats?{YEARS}", bearer),
        ("/api/campaigns/site/stats?interval=15m", bearer),
        (f"/api/campaigns/site/breakdowns?{YEARS}", bearer),
        (f"/api/compare?ids={compared}", bearer),
        ("/api/campaigns?limit=1000", bearer),
        ("/api/overview", bearer),
        ("/", session),
        (f"/campaigns/site?{YEARS}", session),
        (f"/campaigns/site/series.csv?{YEARS}", session),
        ("/campaigns/chaos", session),
        (f"/campaigns/site/stats.json?{YEARS}", session),
        ("/kept", session),
        ("/nothing/here", "Accept: text/html\r\n"),
    ]
    encoded = [f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() for path, more in requests]
    head = "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return [*encoded, f"{head}Content-Length: {len(SIGN_IN)}\r\n\r\n".encode() + SIGN_IN]


async def read_answers(
    port: int, requests: itertools.cycle[bytes], end: float, answers: Counter[str]
) -> None:
    """Sends one request after the other, and reads each answer."""
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        except OSError:
            answers["refused"] += 1
            await asyncio.sleep(0.1)
            continue
        try:
            while time.monotonic() < end:
                writer.write(next(requests))
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
                answers[head[9:12].decode()] += 1
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if not length:
                    break
                bytes_left = int(length)
                while bytes_left:
                    bytes_left -= (
                        len(await asyncio.wait_for(reader.read(min(bytes_left, 1 << 16)), 60)) or bytes_left
                    )
                if b"connection: close" in head:
                    break
        except (OSError, EOFError, TimeoutError):
            answers["cut"] += 1
            await asyncio.sleep(0.01)
        finally:
            writer.close()


async def listen(port: int, cookie: str, end: float, answers: Counter[str]) -> None:
    """Reads live figures of one campaign, and connects again if they end."""
    ask = f"GET /campaigns/site/live HTTP/1.1\r\nHost: x\r\nCookie: px_session={cookie}\r\n\r\n".encode()
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask)
            answers[f"live {(await reader.readline())[9:12].decode()}"] += 1
            async with asyncio.timeout(5):
                while await reader.read(1 << 16):
                    pass
            writer.close()
        except (OSError, TimeoutError):
            await asyncio.sleep(0.1)


async def stay_mute(port: int, requests: itertools.cycle[bytes], end: float, answers: Counter[str]) -> None:
    """Sends requests as long as they are accepted, and reads nothing. Connects again if cut off."""
    while time.monotonic() < end:
        try:
            async with asyncio.timeout(max(0.1, end - time.monotonic())):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                while True:
                    for _ in range(8):
                        writer.write(next(requests))
                    await asyncio.sleep(0.05)
                    await writer.drain()
        except (OSError, TimeoutError):
            answers["mute, ended"] += 1
            writer.close()
            await asyncio.sleep(0.05)


async def run(port: int, key: str, cookie: str, share: str, readers: int, mutes: int, seconds: float) -> None:
    answers: Counter[str] = Counter()
    end = time.monotonic() + seconds
    expensive = requests(key, cookie, share)
    clients = [
        read_answers(
            port,
            itertools.cycle(expensive[i % len(expensive) :] + expensive[: i % len(expensive)]),
            end,
            answers,
        )
        for i in range(readers - readers // 10)
    ]
    clients += [listen(port, cookie, end, answers) for _ in range(readers // 10)]
    clients += [stay_mute(port, itertools.cycle(expensive), end, answers) for _ in range(mutes)]
    tasks = [asyncio.ensure_future(client) for client in clients]
    await asyncio.wait(tasks, timeout=seconds + 1)
    for task in tasks:
        task.cancel()
    print(json.dumps(answers))


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # asyncio warns of each connection that was cut
    os.nice(19)  # real hostile clients would not use the server's processor
    port, key, cookie, share, readers, mutes, seconds = sys.argv[1:]
    asyncio.run(run(int(port), key, cookie, share, int(readers), int(mutes), float(seconds)))

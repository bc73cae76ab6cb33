"""A body that is too long, or does not come, is refused, and says so."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.report import incoming
from tests.conftest import API_KEY

KEYED = [(b"authorization", f"Bearer {API_KEY}".encode()), (b"content-type", b"application/json")]


async def half(app, path, headers):
    """(status, body) of the answer to a POST whose body begins, and does not end."""
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent = []

    async def receive():
        if not parts:
            await asyncio.sleep(3600)
        return parts.pop()

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
    }
    scope |= {"raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b""}
    scope |= {"headers": [(b"host", b"pixel.test"), *headers], "client": ("198.51.100.9", 4000)}
    await app({**scope, "server": ("pixel.test", 80), "state": {}}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/privacy", []), ("/sign-in", []), ("/api/campaigns", KEYED), ("/api/explain", KEYED)],
)
def test_one_that_does_not_come(site, monkeypatch, path, headers):
    monkeypatch.setattr(incoming, "WITHIN", 0.2)
    status, text = site.portal.call(half, site.app, path, headers)
    assert (status, b"did not come" in text) == (408, True)

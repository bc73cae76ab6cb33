"""Bodies that are too long, late or cut off are refused, and the answer says why."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.api import request_stream
from tests.conftest import API_KEY

KEYED = [(b"authorization", f"Bearer {API_KEY}".encode()), (b"content-type", b"application/json")]


async def half(app, path, headers, *more):
    """Returns (status, body) of the answer to a POST whose body begins and does not end."""
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, *more][::-1]
    sent = []

    async def receive():
        if not parts:
            await asyncio.sleep(3600)
        is_last = parts[-1]["type"] == "http.disconnect"  # a server repeats it
        return parts[-1] if is_last else parts.pop()

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


PATHS = [("/privacy", []), ("/sign-in", []), ("/api/campaigns", KEYED), ("/api/explain", KEYED)]


@pytest.mark.parametrize(("path", "headers"), PATHS)
def test_request_stream_body_does_not_come_is_408(site, monkeypatch, path, headers):
    monkeypatch.setattr(request_stream, "BODY_TIMEOUT_SECONDS", 0.2)
    status, text = site.portal.call(half, site.app, path, headers)
    assert (status, b"did not come" in text) == (408, True)


@pytest.mark.parametrize(("path", "headers"), PATHS)
def test_request_stream_body_cut_off_logs_no_traceback(site, path, headers, caplog):
    status, text = site.portal.call(half, site.app, path, headers, {"type": "http.disconnect"})
    assert (status, b"was cut off" in text) == (400, True)
    assert caplog.text == ""


def test_request_stream_refused_body_is_read_within_bounds(site, monkeypatch):
    def refused(*headers):
        """Sends 9000 bytes of a body without end, and no key."""
        parts = [{"type": "http.request", "body": b"x" * 1000, "more_body": True} for _ in range(9)]
        assert site.portal.call(half, site.app, "/api/campaigns", [*headers], *parts)[0] == 401

    monkeypatch.setattr(request_stream, "BODY_TIMEOUT_SECONDS", 3600)
    monkeypatch.setattr(request_stream, "MAX_REST_BYTES", 5000)
    refused()
    monkeypatch.setattr(request_stream, "MAX_REST_BYTES", 1 << 20)
    refused((b"expect", b"100-continue"))
    monkeypatch.setattr(request_stream, "BODY_TIMEOUT_SECONDS", 0.2)
    refused()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/api/campaigns", {f"{n:x}": 0 for n in range(150_000)}),
        ("/api/campaigns/mail/links", {"recipients": [{f"{n:x}": 0 for n in range(150_000)}]}),
        ("/api/campaigns/mail/links", {"recipients": [{"recipient": "", "x": n} for n in range(10_000)]}),
        ("/api/withdrawals", {"recipients": [""] * 10_000}),
        ("/api/explain", {"headers": {f"{n:x}": "" for n in range(150_000)}}),
        ("/api/campaigns", {"keep": {f"{n:x}": 1 for n in range(150_000)}}),
    ],
)
def test_request_body_many_errors_get_a_short_answer(site, mail, path, content):
    mail()
    answer = site.post(path, json=content)
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


def test_request_form_many_parameters_get_a_short_answer(site):
    query = "&".join(f"f{n}" for n in range(10_000))
    for path in ("/api/campaigns", "/api/openapi.json", "/sign-in", "/privacy", "/s/token/stats.json"):
        answer = site.get(f"{path}?{query}")
        assert (answer.status_code, len(answer.content) < 5000) == (400, True), path
    few = "&".join(f"f{n}" for n in range(150))
    answer = site.get(f"/api/campaigns?{few}")
    assert (answer.status_code, answer.json()["errors_left_out"]) == (422, 50)


def test_request_form_many_fields_get_a_short_answer(site):
    content = "&".join(f"f{n}" for n in range(500))
    for path in ("/privacy", "/sign-in"):
        answer = site.post(path, content=content)
        assert (answer.status_code, len(answer.content) < 5000) == (413, True)

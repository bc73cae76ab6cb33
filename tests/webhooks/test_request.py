"""A request to an endpoint: where it may go, and what comes of each bad answer."""

from __future__ import annotations

import asyncio
import ssl
import subprocess

import pytest

from pixel_server.webhooks import request, target
from pixel_server.webhooks.request import Answer, NoAnswerError
from pixel_server.webhooks.target import RefusedAddressError

LOCAL = "127.0.0.1"


async def resolve_local(host, port):
    return [LOCAL]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Returns a file with a key and a certificate for good.example that it signs itself."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:good.example"),
            *("-keyout", str(path), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


def post(url, **arguments):
    return request.post(url, {"webhook-id": "evt_1"}, '{"a": 1}', **arguments)


def post_to(handle, url="http://good.example:{port}/hook?a=1", certificate=None, send=post, **options):
    """Posts to a server on this machine whose connections `handle` handles. Returns the answer."""

    async def run():
        server_tls = client_tls = None
        if certificate is not None:
            server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            server_tls.load_cert_chain(certificate)
            client_tls = ssl.create_default_context(cafile=certificate)

        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            await handle(head, reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, LOCAL, 0, ssl=server_tls)
        port = server.sockets[0].getsockname()[1]
        arguments = {"is_private_allowed": True, "resolve": resolve_local, "tls": client_tls, **options}
        try:
            return await send(url.format(port=port), **arguments)
        finally:
            server.close()

    return asyncio.run(run())


def answering(*parts):
    async def handle(head, reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handle


def test_post_sends_a_whole_request_and_returns_the_answer():
    heads = []

    async def handle(head, reader, writer):
        heads.append(head.decode())
        assert await reader.readexactly(8) == b'{"a": 1}'
        writer.write(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwait")

    assert post_to(handle) == Answer(429, "wait", "7")
    lines = heads[0].split("\r\n")
    assert lines[0] == "POST /hook?a=1 HTTP/1.1"
    assert lines[1].startswith("Host: good.example:")
    assert {"webhook-id: evt_1", "Content-Length: 8", "Content-Type: application/json"} <= set(lines)


def test_get_sends_no_body_and_is_bound_as_post_is():
    heads = []

    async def handle(head, reader, writer):
        heads.append(head)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 2\r\n\r\nok")

    assert post_to(handle, send=request.get) == Answer(302, "ok")
    (head,) = heads
    assert head.startswith(b"GET /hook?a=1 HTTP/1.1\r\nHost: good.example:")
    assert b"content-" not in head.lower()
    with pytest.raises(NoAnswerError, match="not public"):
        post_to(handle, "https://good.example:{port}/", send=request.get, is_private_allowed=False)


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([b"HTTP/1.1 204 No\r\n\r\n"], Answer(204, "")),
        ([b"HTTP/1.0 200 OK\r\n\r\n"], Answer(200, "")),
        (
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
            Answer(200, "ok"),
        ),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
            Answer(200, "ok"),
        ),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", b"x" * 20_000], Answer(200, "x" * 4096)),
    ],
)
def test_post_reads_no_more_of_an_answer_than_it_needs(parts, answer):
    assert post_to(answering(*parts)) == answer


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "closed before the answer was complete"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], ""),
        ([b"SMTP 220\r\n\r\n"], "did not answer in HTTP"),
        ([b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 10_000], "its headers are too long"),
        ([b"HTTP/1.1 200 OK\r\nContent-Len"], "closed before the answer was complete"),
    ],
)
def test_post_answer_that_is_none_is_named(parts, reason):
    if not reason:
        assert post_to(answering(*parts)).status == 100
        return
    with pytest.raises(NoAnswerError, match=reason):
        post_to(answering(*parts))


def test_post_endpoint_that_answers_too_late_has_not_answered():
    async def handle(head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(0.5)
        writer.write(b"ok")

    with pytest.raises(NoAnswerError, match="no answer within"):
        post_to(handle, timeout_seconds=0.1)


def test_post_redirect_is_an_answer_and_is_not_followed():
    answer = answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    assert post_to(answer).status == 302


def test_post_certificate_of_the_host_is_accepted_and_that_of_another_is_not(certificate):
    ok = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert post_to(ok, "https://good.example:{port}/", certificate).status == 200
    with pytest.raises(NoAnswerError, match="its certificate is not valid"):
        post_to(ok, "https://other.example:{port}/", certificate)
    with pytest.raises(NoAnswerError, match="its certificate is not valid"):
        post_to(ok, "https://good.example:{port}/", certificate, tls=ssl.create_default_context())


def test_post_name_that_changes_its_address_is_looked_up_once():
    """DNS answers a public address first, and a private one to all who ask again."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else [LOCAL]

    async def run():
        found = await target.addresses("rebind.example", 443, False, resolve)
        assert found == ["8.8.8.8"]
        with pytest.raises(RefusedAddressError):
            await target.addresses("rebind.example", 443, False, resolve)

    asyncio.run(run())
    connected = []

    async def connect(host, *arguments, **options):
        connected.append(host)
        raise ConnectionRefusedError(111, "Connection refused")

    asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "open_connection", connect)
        with pytest.raises(NoAnswerError, match="cannot be reached"):
            asyncio.run(
                request.post("https://rebind.example/", {}, "{}", is_private_allowed=False, resolve=resolve)
            )
    assert connected == ["8.8.8.8"]
    assert asked == ["rebind.example"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"),
        *("64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::", "2001::1", "fec0::1", "2001:db8::1", "::8.8.8.8"),
    ],
)
def test_addresses_not_public_is_refused_even_among_others(address):
    async def resolve(host, port):
        return ["8.8.8.8", address]

    with pytest.raises(RefusedAddressError, match="not public"):
        asyncio.run(target.addresses("a.example", 443, False, resolve))
    assert asyncio.run(target.addresses("a.example", 443, True, resolve))[1] == address


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "93.184.215.14"])
def test_addresses_public_is_allowed(address):
    async def resolve(host, port):
        return [address]

    assert asyncio.run(target.addresses("a.example", 443, False, resolve)) == [address]


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f.1/", "https://localhost/"],
)
def test_post_url_of_this_machine_in_any_spelling_is_refused(url):
    with pytest.raises(NoAnswerError, match=r"not public|cannot be reached"):
        asyncio.run(request.post(url, {}, "{}", is_private_allowed=False))


def test_post_http_is_refused_unless_private_addresses_are_allowed():
    with pytest.raises(NoAnswerError, match="only https"):
        post_to(answering(b"HTTP/1.1 200 OK\r\n\r\n"), is_private_allowed=False)


def test_post_environment_of_proxies_is_ignored(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post_to(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).status == 200

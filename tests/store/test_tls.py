"""TLS with a CA file, on the connections to one Redis, to sentinels and to the primary that they name."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pixel_server.collect.batch import Batch
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.store.client import connect, connect_async
from tests.sentinels import Fakes, Program, names

BATCH = Batch(0, "0" * 28, 1, b"\x90")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a file with a key and a certificate for 127.0.0.1 that it signs itself."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path.with_suffix(".crt"))),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


class TlsProxy:
    """Passes what it receives over TLS to a port. Runs in a thread of its own."""

    def __init__(self, certificate: Path, target: int) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        self._target = target
        self._started = threading.Event()
        self.port = 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._started.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await server.serve_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_target, to_target = await asyncio.open_connection("127.0.0.1", self._target)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, to_target), copy(from_target, writer), return_exceptions=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Program]:
    server = Program(tmp_path)
    yield server
    server.kill()


@pytest.mark.parametrize("kind", ["single", "sentinel"])
def test_connect_rediss_with_a_ca_file_works_and_without_it_fails(
    server: Program, fakes: Fakes, certificate: Path, kind: str
):
    proxy = TlsProxy(certificate, server.port)
    url = f"rediss://127.0.0.1:{proxy.port}"
    if kind == "sentinel":
        fakes(names(proxy.port))
        sentinel = TlsProxy(certificate, fakes.servers[0].server_address[1])
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main"
    good_url = f"{url}?ssl_ca_certs={certificate.with_suffix('.crt')}"

    async def story() -> None:
        sink = RedisSink(good_url, timeout_seconds=10.0)
        assert await sink.append([BATCH]) == [0]
        sink.close()
        client = connect_async(good_url)
        assert await client.time()
        await client.aclose()
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await RedisSink(url, timeout_seconds=10.0).append([BATCH])

    asyncio.run(story())
    with connect(good_url) as client:
        assert client.ping()
    with connect(url) as client, pytest.raises(redis.ConnectionError, match=r"(?i)certificate") as raised:
        client.ping()
    assert "\n" not in str(raised.value)

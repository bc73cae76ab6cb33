"""Sends one request, within bounds, and returns its answer.

The library httptools reads the answer. The rest is a few lines, because no client of HTTP at hand connects to
an address that was checked before: they look the name up themselves, follow proxies of the environment, and
read bodies of any length.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from pixel_server import __version__
from pixel_server.webhooks import target
from pixel_server.webhooks.target import RefusedAddressError, Resolve

TIMEOUT_SECONDS = 15.0
"""Seconds within which the whole request must be answered, from the look-up of the host to the answer."""
MAX_BODY_BYTES = 4096
"""Bytes of an answer's body that are read."""
MAX_HEAD_BYTES = 32 << 10
"""Bytes of an answer's headers, and of its body with their framing, that are read."""
_CHUNK_BYTES = 4096


class Answer(NamedTuple):
    """An answer. body: its beginning. retry_after: value of the header, "" without one."""

    status: int
    body: str
    retry_after: str = ""


class NoAnswerError(Exception):
    """A request got no answer. The text is a sentence for the operator, and quotes nothing that was sent."""

    is_loggable = True


class NotSentError(NoAnswerError):
    """A request was not sent, because this server refuses its address. The text is a sentence too."""


class _Reader:
    """Reads the answer, as httptools parses it."""

    def __init__(self) -> None:
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.retry_after, self.body = "", b""
        self.has_headers = self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.retry_after = value.decode("latin-1")[:100]

    def on_body(self, body: bytes) -> None:
        self.body += body[: MAX_BODY_BYTES - len(self.body)]

    def on_headers_complete(self) -> None:
        self.has_headers = True

    def on_message_complete(self) -> None:
        self.is_complete = True


@cache
def tls_context() -> ssl.SSLContext:
    """Returns the context that verifies certificates and names by the system's authorities."""
    return ssl.create_default_context()


async def post(
    url: str,
    headers: Mapping[str, str],
    body: str,
    *,
    is_private_allowed: bool,
    resolve: Resolve = target.look_up,
    tls: ssl.SSLContext | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Sends a POST request with a JSON body, and returns the answer, whatever its status.

    Follows no redirect and no proxy. is_private_allowed: PIXEL_WEBHOOK_PRIVATE. tls: for tests. Raises
    NotSentError if this server refuses the address, and NoAnswerError if the answer does not come in time or
    is not HTTP.
    """
    more = {"Content-Type": "application/json", "Content-Length": str(len(body.encode())), **headers}
    sent = _Sent("POST", url, more, body.encode())
    return await _send(sent, is_private_allowed, resolve, tls, timeout_seconds)


async def get(
    url: str,
    *,
    is_private_allowed: bool,
    resolve: Resolve = target.look_up,
    tls: ssl.SSLContext | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Sends a GET request, and returns the answer. As `post` otherwise."""
    return await _send(_Sent("GET", url, {}, b""), is_private_allowed, resolve, tls, timeout_seconds)


class _Sent(NamedTuple):
    """A request to send."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


async def _send(
    sent: _Sent,
    is_private_allowed: bool,
    resolve: Resolve,
    tls: ssl.SSLContext | None,
    timeout_seconds: float,
) -> Answer:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _exchange(sent, is_private_allowed, resolve, tls)
    except TimeoutError:
        raise NoAnswerError(f"no answer within {timeout_seconds:.0f} s") from None
    except RefusedAddressError as error:
        raise NotSentError(str(error)) from None
    except ssl.SSLCertVerificationError as error:
        raise NoAnswerError(f"its certificate is not valid: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise NoAnswerError(f"TLS failed: {error.reason or 'it was broken off'}") from None
    except (OSError, EOFError) as error:
        raise NoAnswerError(f"cannot be reached: {_reason(error)}") from None
    except (httptools.HttpParserError, UnicodeError) as error:
        raise NoAnswerError(f"did not answer in HTTP: {type(error).__name__}") from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


async def _exchange(
    sent: _Sent, is_private_allowed: bool, resolve: Resolve, tls: ssl.SSLContext | None
) -> Answer:
    parts = urlsplit(sent.url)
    host, is_https = parts.hostname or "", parts.scheme == "https"
    if not is_https and not is_private_allowed:
        raise RefusedAddressError("http is not allowed, only https; PIXEL_WEBHOOK_PRIVATE=1 allows it")
    port = parts.port or (443 if is_https else 80)
    addresses = await target.addresses(host, port, is_private_allowed, resolve)
    context = (tls or tls_context()) if is_https else None
    reader, writer = await _connect(addresses, port, context, host if is_https else None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(_head(sent, path, parts.netloc) + sent.body)
        await writer.drain()
        return await _read(reader)
    finally:
        writer.close()


async def _connect(
    addresses: Sequence[str], port: int, context: ssl.SSLContext | None, server_name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to the first of the addresses that answers. Raises the last error if no address answers."""
    failure: OSError | None = None
    for address in addresses[:3]:
        try:
            return await asyncio.open_connection(address, port, ssl=context, server_hostname=server_name)
        except ssl.SSLError:
            raise
        except OSError as error:
            failure = error
    raise failure or OSError("no address")


def _head(sent: _Sent, path: str, host: str) -> bytes:
    lines = {
        "Host": host,
        "User-Agent": f"pixel-server/{__version__}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **sent.headers,
    }
    return "\r\n".join(
        [f"{sent.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    ).encode("ascii")


async def _read(reader: asyncio.StreamReader) -> Answer:
    """Returns the answer. Stops reading after MAX_BODY_BYTES of its body.

    Raises EOFError if its headers are cut off or too long.
    """
    answer, read = _Reader(), 0
    parser = httptools.HttpResponseParser(answer)
    while True:
        chunk = await reader.read(_CHUNK_BYTES)
        if chunk:
            parser.feed_data(chunk)
        read += len(chunk)
        status = parser.get_status_code()
        is_enough = len(answer.body) >= MAX_BODY_BYTES or read >= MAX_HEAD_BYTES
        if chunk and answer.is_complete and 100 <= status < 200:
            continue  # 100 Continue and the like come before the answer
        if answer.is_complete or (answer.has_headers and (is_enough or not chunk)):
            return Answer(status, answer.body.decode("utf-8", "replace"), answer.retry_after)
        if not chunk:
            raise EOFError("the connection was closed before the answer was complete")
        if is_enough:
            raise EOFError("its headers are too long")

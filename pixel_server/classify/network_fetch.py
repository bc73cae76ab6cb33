"""Fetches a published list over https. Apart from webhooks and reports of Amazon SES, this
server sends out no other requests."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Collection
from contextlib import closing
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import URLError
from urllib.parse import urlsplit

from pixel_server.classify.networks import NetworksError

MAX_BYTES = 64 << 20
"""Largest number of bytes of a response or file."""
SILENCE_TIMEOUT_SECONDS = 30.0
"""Seconds of silence after which a download fails."""
ANSWER_TIMEOUT_SECONDS = 120.0
"""Seconds after which a download fails, even if the server still sends."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to hosts that the request allows."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        if redirected is not None and isinstance(req, _ListRequest):
            host = urlsplit(newurl).hostname or ""
            if host not in req.hosts:
                raise ValueError(f"redirects to another host, {host[:100]!r}")
            redirected = _ListRequest(newurl, req.hosts)
        return redirected


class _ListRequest(urllib.request.Request):
    """A request that says nothing of this server but its kind. hosts: hosts that may answer."""

    def __init__(self, url: str, hosts: Collection[str]) -> None:
        super().__init__(url, headers={"User-Agent": "pixel-server"})
        self.hosts = hosts


def fetch(url: str, other_hosts: Collection[str] = ()) -> bytes:
    """Returns the body at an https URL. Does not use a proxy.

    other_hosts: hosts to which the URL may redirect, besides its own host. Raises NetworksError if there is
    no response, or if the response is an error, compressed, too large, too late or incomplete.
    """
    request = _ListRequest(url, {urlsplit(url).hostname or "", *other_hosts})
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    body = bytearray()
    try:
        with closing(_opener.open(request, timeout=SILENCE_TIMEOUT_SECONDS)) as response:
            if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
                raise ValueError(f"is compressed ({encoding[:20]}), although this was not asked for")
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES >> 20} MB")
                if time.monotonic() > deadline:
                    raise ValueError(f"took longer than {ANSWER_TIMEOUT_SECONDS:.0f} s")
            if response.length:  # read1 raises nothing if the connection ends early
                raise ValueError("ended early")
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if type(error) is URLError else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise NetworksError(f"{url}: {reason[:200]}") from None
    return bytes(body)


def opener(handler: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Returns an opener that knows only this handler's scheme, also after a redirect, and uses no proxy."""
    director = urllib.request.OpenerDirector()
    for part in (
        handler,
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        director.add_handler(part)
    return director


_opener = opener(urllib.request.HTTPSHandler())

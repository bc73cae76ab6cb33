"""A receiver of webhooks in this process: it notes what it gets, and answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook


class Received(NamedTuple):
    """A request. headers: by lower-case name."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> Any:
        """Returns the payload. Raises WebhookVerificationError if the signature is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


Answer = tuple[int, dict[str, str], str]
OK: Answer = (200, {}, "thanks")


class Receiver:
    """requests: in the order of arrival. answer: returns the answer to a request, or None for no answer."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.answer: Callable[[Received], Answer | None] = lambda request: OK
        self.url = ""

    def ids(self) -> list[str]:
        """Returns the ids of the events received, those of lists one by one."""
        ids = []
        for request in list(self.requests):
            content = request.content
            ids += (
                [item["id"] for item in content["data"]]
                if content["type"] == "list"
                else [request.headers["webhook-id"]]
            )
        return ids

    def of_type(self, event_type: str) -> list[Received]:
        return [request for request in list(self.requests) if request.content["type"] == event_type]


@contextmanager
def running(port: int = 0) -> Iterator[Receiver]:
    """Yields a receiver that listens on this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.path, headers, body, time.time())
            receiver.requests.append(request)
            answer = receiver.answer(request)
            if answer is None:
                self.close_connection = True
                return
            status, extra, text = answer
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()

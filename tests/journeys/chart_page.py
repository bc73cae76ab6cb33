"""A test page with one chart and live figures, with the Content-Security-Policy of all pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pixel_server

STATIC = Path(pixel_server.__file__).parent / "dashboard" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {".js": "text/javascript", ".css": "text/css"}
WATCH = """
window.refused = [];
window.shifted = [];
const own = (node) => node?.parentElement?.closest("figure, #below") && !node.closest?.(".words");
const moved = (entry) => entry.sources.map(({ node }) => node).filter(own).map((node) => node.nodeName);
new PerformanceObserver((list) => shifted.push(...list.getEntries().flatMap(moved)))
  .observe({ type: "layout-shift", buffered: true });
document.addEventListener("securitypolicyviolation", (event) => {
  refused.push(`${event.violatedDirective} ${event.sourceFile}:${event.lineNumber} ${event.sample}`);
});
"""
BODY = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>A page</title>
<link rel="stylesheet" href="/uplot.css"><link rel="stylesheet" href="/chart.css">
<link rel="stylesheet" href="/page.css">
<script src="/uplot.js" defer></script><script src="/steer.js" defer></script>
<script src="/chart.js" defer></script><script src="/live.js" defer></script>
<main data-counted="totals.opens" data-live="/live" data-figures="/figures.json">
<p class="fresh">Every hit before <time data-figure="as_of">long ago</time> is counted.</p>
<p>Opens <b data-figure="totals.opens">0</b>, unique <b data-figure="totals.unique_opens">0</b></p>
<figure class="chart" data-chart="/stats.json" data-unit="opens"
 data-series='[["opens", "Opens"], ["unique_opens", "Unique opens"]]'>
<figcaption><h2>Opens per day <span class="days">31 days</span></h2></figcaption>
<noscript>Without script</noscript>
<details><summary>Numbers</summary><table><tr><td>1</td></tr></table></details>
</figure>
<p id="below">Below</p>
</main>
</html>"""
STYLE = """
:root {
  color-scheme: light dark;
  --back: #fff; --text: #1c2127; --dim: #5b6570; --line: #dde2e7; --accent: #2563a8; --tint: #d9e6f4;
  --v-proxy: #7fa8d3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14181c; --text: #e3e7eb; --dim: #98a3ad; --line: #2b323a; --accent: #7fb2e8; --tint: #22374d;
    --v-proxy: #47739f;
  }
}
body {
  margin: 0 auto; max-width: 66rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 0.9375rem/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
h2 { font-size: 0.9375rem; margin: 0; }
figure { margin: 0; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""


def stats(days: int = 30, zone: str = "Europe/Berlin", **more: Any) -> dict[str, Any]:
    """Returns made-up stats for 28 October to 26 November 2026. No two days are equal."""
    first = datetime(2026, 11, 27, tzinfo=ZoneInfo(zone)) - timedelta(days=days)
    series = []
    for i in range(days):
        opens = 900 // (i + 1) + i * 7 % 23
        start = (first + timedelta(days=i)).isoformat()
        series.append({"start": start, "opens": opens, "unique_opens": opens * 5 // 8})
    return {
        "interval": "day",
        "time_zone": zone,
        "as_of": "2026-11-26T10:54:21.120Z",
        "series": series,
        "notes": [],
        **more,
    }


class Site(ThreadingHTTPServer):
    """stats, figures: what is answered, or the status that is. tabs: of each who listens, what to send.
    heard: how many ever listened."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stats: Any = stats()
        self.figures: Any = {"totals.opens": "1", "totals.unique_opens": "1", "as_of": "now"}
        self.streams: int = 200
        self.tabs: list[Queue[str]] = []
        self.heard = 0
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, path: str) -> int:
        return self.asked.count(path)

    def tell(self, event: str, data: Any) -> None:
        for tab in self.tabs:
            tab.put(f"event: {event}\ndata: {json.dumps(data)}\n\n")

    def told(self) -> dict[str, Any]:
        return {"figures": self.figures, "as_of": "2026-11-26T10:54:21.120Z"}


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        found = STATIC / path[1:] if path != "/" else STATIC
        if not found.is_file():
            found = STATIC / "vendor" / path[1:]
        if path == "/":
            self._send(BODY, "text/html; charset=utf-8")
        elif path == "/page.css":
            self._send(STYLE, "text/css")
        elif path == "/stats.json":
            self._json(self.server.stats)
        elif path == "/figures.json":
            self._json(self.server.figures if isinstance(self.server.figures, int) else self.server.told())
        elif path == "/live":
            self._stream()
        elif found.is_file():
            self._send(found.read_text(), TYPES[found.suffix])
        else:
            self._send("", "image/x-icon", 404 if path != "/favicon.ico" else 200)

    def _json(self, content: Any) -> None:
        if isinstance(content, int):
            self._send("{}", "application/json", content)
        else:
            self._send(json.dumps(content), "application/json")

    def _send(self, content: str, kind: str, status: int = 200) -> None:
        body = content.encode()
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        if self.server.streams != 200:
            self._send("", "text/plain", self.server.streams)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        mine: Queue[str] = Queue()
        self.server.tabs.append(mine)
        self.server.heard += 1
        mine.put("retry: 100\n\n")
        mine.put(f"event: figures\ndata: {json.dumps(self.server.told())}\n\n")
        try:
            while True:
                try:
                    text = mine.get(timeout=0.5)
                except Empty:
                    text = ": ping\n\n"
                if not text:  # the connection is cut
                    return
                self.wfile.write(text.encode())
        except OSError:
            pass
        finally:
            self.server.tabs.remove(mine)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        pass


@contextmanager
def serve() -> Iterator[Site]:
    with Site() as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site
        for tab in list(site.tabs):
            tab.put("")
        site.shutdown()

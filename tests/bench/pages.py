"""The dashboard's pages: the list of 5,000 campaigns, and one campaign's page.

python -m tests.bench.pages [--campaigns 5000] [--requests 40]

The campaigns are those of tests.bench.overview. A normal server answers a signed-in client over HTTP, one
request after the other. `cold`: a campaign was changed just before, so that the figures of all campaigns are
read. The size of a page is what a browser without a cache receives: the page, the files that its head names
in `src` and `href`, and the JSON of a campaign's chart, each compressed if the server compresses it.
"""

from __future__ import annotations

import http.client
import itertools
import re
import time
from urllib.parse import urlencode

from pixel_server.store import keys
from tests.bench import overview
from tests.bench.program import Figure, alone, percentile
from tests.bench.sides import API_KEY, Bench, Side, server

PAGES = {
    "list": "/",
    "list by rate, page 3": "/?kind=email&sort=-rate&page=3",
    "list, searched": "/?q=99",
    "campaign of mail": "/campaigns/campaign-00001",
    "campaign of pages": "/campaigns/campaign-00000",
}
KB = 1000


class Reader:
    """A signed-in client on one connection."""

    def __init__(self, side: Side) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=10)
        body = urlencode({"key": API_KEY})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/sign-in", body, form)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 303, answer.status
        self._cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]

    def get(self, path: str) -> bytes:
        """Returns the body as the server sent it."""
        headers = {"Cookie": self._cookie, "Accept": "text/html", "Accept-Encoding": "gzip"}
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (path, answer.status)
        return content

    def weigh(self, path: str) -> int:
        """Returns the size of a page with all that it loads, in bytes."""
        page = self.get(path)
        text = page.decode()
        head = text.partition("</head>")[0]
        loaded = {
            *re.findall(r'(?:src|href)="(/static/[^"]+)"', head),
            *re.findall(r'data-chart="([^"]+)"', text),
        }
        assert any(".css" in name for name in loaded)
        return len(page) + sum(len(self.get(name)) for name in loaded)

    def close(self) -> None:
        self._connection.close()


def measure_on(side: Side, requests: int) -> list[Figure]:
    """Measures on a server that has the campaigns already."""
    assert side.store is not None
    reader = Reader(side)
    figures = []
    for (name, path), cold in itertools.product(PAGES.items(), (True, False)):
        took = []
        for _ in range(1 + requests):
            if cold:
                side.store.client.xadd(keys.CHANGES, {"id": "campaign-00000"})
            began = time.perf_counter()
            content = reader.get(path)
            took.append((time.perf_counter() - began) * 1000)
        assert b"Campaign number" in content
        title = f"{name}, {'cold' if cold else 'warm'}"
        figures += [
            Figure(f"{title}: p50", percentile(took[1:], 0.5), "ms", most=300.0),
            Figure(f"{title}: p99", percentile(took[1:], 0.99), "ms"),
        ]
    for name, path in (("list", PAGES["list"]), ("campaign of mail", PAGES["campaign of mail"])):
        figures.append(Figure(f"{name}, with all that it loads", reader.weigh(path) / KB, "KB", most=100.0))
    reader.close()
    return figures


def measure(bench: Bench, campaigns: int = 5000, requests: int = 40) -> list[Figure]:
    with server(bench) as side:
        overview.fill(bench, side, campaigns)
        return measure_on(side, requests)


if __name__ == "__main__":
    alone(__doc__, measure, campaigns=5000, requests=40)

"""Collects every answer that a server gives about its data: each GET of the API, each page, each download.

Uses only HTTP, so that the same requests can be sent to another version. RULES replace what differs from run
to run although the data is the same (current times, CSRF tokens, ports), so that a comparison shows
differences of the data only.
"""

from __future__ import annotations

import html
import http.client
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urljoin, urlsplit

MAX_PAGES, FEW_PAGES = 300, 30
"""Largest number of pages that are found by links, in full and with `few`."""
MAX_PEOPLE = 6
"""Largest number of recipients of each campaign and state whose own data is requested."""
KEY, SESSION, NOBODY = "key", "session", "nobody"
"""Clients: a program with the API key, a browser that is signed in, and a browser that is not."""
FIRST = (("/api/audit", KEY), ("/api/kept", KEY), ("/audit", SESSION), ("/kept", SESSION))
"""(path, client) of the first requests.

They come first because requests for recipients add to the audit log.
"""
LATER = "later"
"""Id of the campaign whose hits wait in the stream and in the spool.

Answers that count them are not steady.
"""
BREAKDOWNS = (
    *("client", "device", "country", "page", "entry_page", "exit_page", "referrer"),
    *("utm_source", "utm_medium", "utm_campaign", "browser", "system", "language"),
)


class Answer(NamedTuple):
    """An answer. who: the client: KEY, SESSION or NOBODY. type: content type.

    body: normalised text. JSON has sorted keys and a value on each line.
    """

    path: str
    who: str
    status: int
    type: str
    body: str


class Client:
    """Sends requests to one server. address: `http://127.0.0.1:PORT`. key: an API key. data: data directory.

    started: time at which the server was started, in s since 1970.
    """

    def __init__(self, address: str, key: str, data: str, started: int) -> None:
        self._address = urlsplit(address)
        self._key, self._data = key, data
        self._cookie = ""
        self.text = ""
        """Body of the last answer, as received."""
        self._connection = http.client.HTTPConnection(
            str(self._address.hostname), self._address.port, timeout=30
        )
        self._started = datetime.fromtimestamp(started, UTC)

    def sign_in(self) -> None:
        """Signs in to the pages with the API key."""
        answer, _ = self._request("POST", "/sign-in", urlencode({"key": self._key}), {"Content-Type": FORM})
        self._cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        assert self._cookie, f"sign-in was answered {answer.status}"

    def ask(self, path: str, who: str = KEY) -> Answer:
        """Requests a path. Returns the normalised answer."""
        status, kind, text = self.raw(path, who)
        self.text = text
        if kind.endswith(("/json", "+json")) and text:
            text = json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False)
        return Answer(path, who, status, kind, self._normalise(text))

    def raw(self, path: str, who: str = KEY) -> tuple[int, str, str]:
        """Requests a path. Returns (status, content type, body); of a redirect the body is `to ADDRESS`."""
        headers = {
            KEY: {"Authorization": f"Bearer {self._key}"},
            SESSION: {"Cookie": self._cookie},
            NOBODY: {},
        }
        accept = "application/json" if who == KEY else "text/html"
        answer, body = self._request("GET", path, None, {**headers.get(who, {}), "Accept": accept})
        kind = (answer.getheader("Content-Type") or "").partition(";")[0]
        location = answer.getheader("Location")
        return answer.status, kind, f"to {location}" if location else body

    def _request(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, str]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer, answer.read().decode()

    def _normalise(self, text: str) -> str:
        text = text.replace(self._address.geturl(), "<address>").replace(self._data, "<data>")
        for _, pattern, replacement in RULES:
            text = pattern.sub(replacement, text)
        text = _INSTANT.sub(self._if_now, _STREAM_ID.sub(self._if_now_id, text))
        return re.sub(r'(<time datetime="<now>"[^>]*>)[^<]*', r"\1<now>", text)

    def _if_now(self, match: re.Match[str]) -> str:
        """Returns `<now>` for a time after the start of the server, and any other time as it is."""
        at = datetime.fromisoformat(match[0].replace("Z", "+00:00"))
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return "<now>" if at >= self._started else match[0]

    def _if_now_id(self, match: re.Match[str]) -> str:
        """Returns `<now>` for an audit log id after the start, and any other id as it is."""
        return "<now>" if int(match[1]) >= int(self._started.timestamp() * 1000) else match[0]


FORM = "application/x-www-form-urlencoded"
_INSTANT = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?")
_STREAM_ID = re.compile(r"\b(1[5-9]\d{11}|2\d{12})-\d+\b")
RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("csrf token", re.compile(r'name="csrf" value="[^"]*"'), 'name="csrf" value="<csrf>"'),
    ("nonce", re.compile(r'nonce="[^"]*"'), 'nonce="<nonce>"'),
    ("version of a static file", re.compile(r"(/static/[\w./-]+)\?[\w=.-]+"), r"\1"),
    ("time since", re.compile(r"\b(?:just now|\d+ (?:d|h|min|s) ago)\b"), "<ago>"),
    ("last use", re.compile(r'("last_used": )"[^"]*"'), r'\1"<last use>"'),
    (
        "last use on a page",
        re.compile(r'(data-label="Last used">\s*)<time .*?</time>', re.S),
        r"\1<last use>",
    ),
    ("fresh as of", re.compile(r'("(?:ordered_)?as_of": )"[^"]*"'), r'\1"<as of>"'),
    (
        "count of these processes",
        re.compile(r'("(?:stored|spooled|late|pending_bytes|workers)": )\d+'),
        r'\1"<count>"',
    ),
    ("beat of a host", re.compile(r'("seen_seconds_ago": )[0-9.]+'), r'\1"<ago>"'),
    ("spool at the last beat of a host", re.compile(r'("spool_hits": )\d+'), r'\1"<count>"'),
    ("memory of Redis", re.compile(r'("used_memory": )\d+'), r'\1"<bytes>"'),
    ("update of a page", re.compile(r"(Updated )<time .*?</time>", re.S), r"\1<now>"),
    ("end of a curve", re.compile(r"\[[\d.]+((?:, (?:[\d.]+|null)){1,2}\]\])"), r"[<now>\1"),
    ("live stamp", re.compile(r'(data-(?:as-of|now|live)=")[^"]*"'), r'\1<stamp>"'),
)
"""(description, pattern, replacement). `Client._normalise` also replaces addresses, directories and times."""


def every(client: Client, unlinked: Iterable[str], made_at: float, few: bool = False) -> Iterator[Answer]:
    """Yields all answers. unlinked: paths of pages to which no link leads.

    made_at: time at which the data was made, in s since 1970. few: requests FEW_PAGES pages, and each call of
    the API with one or two queries.
    """
    client.sign_in()
    for path, who in FIRST:
        yield client.ask(path, who)
    for path in _api(client, made_at, few):
        if (path, KEY) not in FIRST:
            yield client.ask(path)
    for path in unlinked:
        yield client.ask(path, NOBODY)
    yield from _crawl(client, FEW_PAGES if few else MAX_PAGES)


def is_steady(path: str) -> bool:
    """Returns whether an answer depends on the data alone, and not on the day of the request.

    Records are steady, and figures whose range is named. So such answers of a directory that was made years
    ago can still be compared. Answers about LATER are not steady, because hits that lie in a spool for 30
    days are set aside instead of counted.
    """
    parts = urlsplit(path)
    if f"/{LATER}" in parts.path or LATER in parts.query:
        return False
    if parts.path.endswith(("/stats", "/breakdowns")):
        return "from=" in parts.query
    return bool(re.fullmatch(r"/api/campaigns/[\w-]+(/(notes|shares|recipients))?", parts.path))


def _api(client: Client, made_at: float, few: bool) -> Iterator[str]:
    """Yields all GETs of the OpenAPI document: each path with all ids and all choices of its query."""
    document = json.loads(client.raw("/api/openapi.json")[2])
    ids = _ids(client)
    today = datetime.fromtimestamp(made_at, UTC)
    # Ranges end with yesterday, because figures of today depend on the time of the request.
    days = {"from": f"{today - timedelta(days=9):%Y-%m-%d}", "to": f"{today:%Y-%m-%d}"}
    for path, operations in document["paths"].items():
        if "get" not in operations or path.startswith(("/o/", "/p/")):
            continue
        names = re.findall(r"\{(\w+)\}", path)
        values = [ids["key"] if name == "key" else ids["id"] for name in names]
        queries = _queries(operations["get"].get("parameters", ()), ids["id"], days)
        if few:
            queries = [queries[0], *(query for query in queries[1:] if {"to", "ids"} & query.keys())][:2]
        for chosen in itertools.product(*values):
            full_path = path.format(**dict(zip(names, chosen, strict=True)))
            for query in queries:
                yield from _pages_of(client, full_path, query)


def _queries(
    parameters: Iterable[dict[str, Any]], campaigns: list[str], days: dict[str, str]
) -> list[dict[str, str]]:
    """Returns the queries of a call: none, and each choice of each parameter."""
    schemas = {
        parameter["name"]: parameter.get("schema", {})
        for parameter in parameters
        if parameter.get("in") == "query"
    }
    queries: list[dict[str, str]] = [{}]
    queries += [{name: choice} for name, schema in schemas.items() for choice in schema.get("enum", ())]
    if "from" in schemas:  # without a range, the last short interval has just begun
        queries = [{}, *({**days, **query} for query in queries)]
        queries.append({**days, "tz": "Asia/Kathmandu"})
    if "by" in schemas:
        queries += [{**days, "by": name} for name in BREAKDOWNS]
    if "ids" in schemas:
        queries += [{"ids": ",".join(pair)} for pair in itertools.combinations(campaigns, 2)]
    if "quiet_since" in schemas:
        queries.append({"quiet_since": days["from"]})
    if "q" in schemas:
        queries.append({"q": "s"})
    if "limit" in schemas:
        queries.append({"limit": "2"})
    return queries


def _pages_of(client: Client, path: str, query: dict[str, str]) -> Iterator[str]:
    """Yields the paths of all pages of a list, or the path itself if it is not a list."""
    while True:
        yield f"{path}?{urlencode(query)}" if query else path
        status, kind, text = client.raw(f"{path}?{urlencode(query)}") if _is_list(path) else (0, "", "")
        next_page = json.loads(text).get("next") if status == 200 and kind == "application/json" else None
        if next_page is None or path.endswith("/audit"):
            return
        query = {**query, "after": str(next_page)}


def _is_list(path: str) -> bool:
    return path.endswith(("/campaigns", "/withdrawals"))


def _ids(client: Client) -> dict[str, list[str]]:
    """Returns the ids of campaigns and the keys of recipients. The last of each does not exist."""
    campaigns = [item["id"] for item in json.loads(client.raw("/api/campaigns")[2])["items"]]
    people: dict[str, None] = {}
    for campaign in campaigns:
        for state in ("opened", "unopened"):
            status, _, text = client.raw(f"/api/campaigns/{campaign}/recipients?state={state}")
            items = json.loads(text)["items"] if status == 200 else []
            people |= dict.fromkeys(sorted(item["key"] for item in items)[:MAX_PEOPLE])
    return {"id": [*sorted(campaigns), "no-such-campaign"], "key": [*people, "0" * 16]}


def _crawl(client: Client, max_pages: int) -> Iterator[Answer]:
    """Yields the pages that a signed-in browser finds by following links."""
    waiting = ["/", "/new", "/keys", "/withdrawals", "/recipients", "/compare"]
    seen = {path for path, _ in FIRST}
    while waiting and len(seen) < max_pages:
        path = waiting.pop(0)
        if path in seen or path.startswith("/audit?"):
            continue
        seen.add(path)
        answer = client.ask(path, SESSION)
        yield answer
        if answer.type == "text/html":
            waiting += [link for link in _links(path, client.text) if link not in seen]


def _links(path: str, text: str) -> list[str]:
    """Returns the paths of this server's pages to which a page links."""
    paths = []
    for address in re.findall(r'href="([^"]*)"', text):
        parts = urlsplit(urljoin(path, html.unescape(address)))
        skipped = parts.path.startswith(("/static/", "/api/", "/o/", "/p/", "/s/")) or parts.path.endswith(
            "/live"
        )
        if not parts.netloc and not parts.scheme and not skipped:
            paths.append(quote(parts.path, "/-_.~%") + (f"?{parts.query}" if parts.query else ""))
    return list(dict.fromkeys(paths))


def repeat(client: Client, earlier: Iterable[Answer]) -> Iterator[Answer]:
    """Sends the requests of earlier answers again, in the same order. Yields the new answers."""
    is_signed_in = False
    for answer in earlier:
        if answer.who == SESSION and not is_signed_in:
            client.sign_in()
            is_signed_in = True
        yield client.ask(answer.path, answer.who)

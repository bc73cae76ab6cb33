"""Every answer that a server gives about its data: each GET of the API, each page, each download.

Works over HTTP alone, so that the same questions can be put to another version. What differs from one run to
the next although the data is the same (times of now, CSRF tokens, ports, ...) is replaced by RULES, each with
a name, so that a comparison shows differences of the data only.
"""

from __future__ import annotations

import html
import http.client
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urljoin, urlsplit

MAX_PAGES, FEW_PAGES = 300, 30
"""Pages that are asked for by following links."""
MAX_PEOPLE = 6
"""Recipients of each campaign that are asked for one by one."""
KEY, SESSION, NOBODY = "key", "session", "nobody"
"""Who asks: a program with the API key, a browser that is signed in, a browser that is not."""
FIRST = (("/api/audit", KEY), ("/api/kept", KEY), ("/audit", SESSION), ("/kept", SESSION))
"""Asked before all others, since to ask for recipients adds to the audit log."""
LATER = "later"
"""The campaign of which hits wait in the stream and in the spool. Nothing that counts them is steady."""
BREAKDOWNS = (
    *("client", "device", "country", "page", "entry_page", "exit_page", "referrer"),
    *("utm_source", "utm_medium", "utm_campaign", "browser", "system", "language"),
)


class Answer(NamedTuple):
    """body: normalised text; JSON with its keys in order, one value a line."""

    path: str
    who: str
    status: int
    type: str
    body: str


class Client:
    """Asks one server. address: `http://127.0.0.1:PORT`. data: its data directory.

    started: when it was started (s); it had hits to count from a second later on.
    """

    def __init__(self, address: str, key: str, data: str, started: float) -> None:
        self._place = urlsplit(address)
        self._key, self._data = key, data
        self._cookie = ""
        self.text = ""
        """The body of the last answer, as it came."""
        self._wire = http.client.HTTPConnection(str(self._place.hostname), self._place.port, timeout=30)
        self._started = datetime.fromtimestamp(int(started) + 1, UTC)

    def sign_in(self) -> None:
        """Signs in to the pages with the API key."""
        answer, _ = self._request("POST", "/sign-in", urlencode({"key": self._key}), {"Content-Type": FORM})
        self._cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        assert self._cookie, f"signing in gave {answer.status}"

    def ask(self, path: str, who: str = KEY) -> Answer:
        """The answer, normalised."""
        status, kind, text = self.raw(path, who)
        self.text = text
        if kind.endswith(("/json", "+json")) and text:
            text = json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False)
        return Answer(path, who, status, kind, self._normalise(text))

    def raw(self, path: str, who: str = KEY) -> tuple[int, str, str]:
        """(status, content type, body) of a GET."""
        headers = {
            KEY: {"Authorization": f"Bearer {self._key}"},
            SESSION: {"Cookie": self._cookie},
            NOBODY: {},
        }
        accept = "application/json" if who == KEY else "text/html"
        answer, body = self._request("GET", path, None, {**headers.get(who, {}), "Accept": accept})
        kind = (answer.getheader("Content-Type") or "").partition(";")[0]
        place = answer.getheader("Location")
        return answer.status, kind, f"to {place}" if place else body

    def _request(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, str]:
        self._wire.request(method, path, body, headers)
        answer = self._wire.getresponse()
        return answer, answer.read().decode()

    def _normalise(self, text: str) -> str:
        text = text.replace(self._place.geturl(), "<address>").replace(self._data, "<data>")
        for _, pattern, put in RULES:
            text = pattern.sub(put, text)
        text = _INSTANT.sub(self._if_now, _STREAM_ID.sub(self._if_now_id, text))
        return re.sub(r'(<time datetime="<now>"[^>]*>)[^<]*', r"\1<now>", text)

    def _if_now(self, found: re.Match[str]) -> str:
        """Rule `now`: an instant after the server was started is `<now>`."""
        when = datetime.fromisoformat(found[0].replace("Z", "+00:00"))
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return "<now>" if when >= self._started else found[0]

    def _if_now_id(self, found: re.Match[str]) -> str:
        """Rule `now`, for ids of lines of the audit log that the questions themselves made."""
        return "<now>" if int(found[1]) >= int(self._started.timestamp() * 1000) else found[0]


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
    ("memory of Redis", re.compile(r'("used_memory": )\d+'), r'\1"<bytes>"'),
    ("live stamp", re.compile(r'(data-(?:as-of|now|live)=")[^"]*"'), r'\1<stamp>"'),
)
"""(name, what is found, what takes its place). Besides: the address, the data directory, and rule `now`."""


def every(client: Client, places: Iterable[str], made_at: float, few: bool = False) -> Iterator[Answer]:
    """All answers. places: of pages that no link leads to. made_at: when the data was made (s).

    few: each call with one query or two, and FEW_PAGES.
    """
    client.sign_in()
    for path, who in FIRST:
        yield client.ask(path, who)
    for path in _api(client, made_at, few):
        if (path, KEY) not in FIRST:
            yield client.ask(path)
    for path in places:
        yield client.ask(path, NOBODY)
    yield from _crawl(client, FEW_PAGES if few else MAX_PAGES)


def is_steady(path: str) -> bool:
    """Whether an answer depends on the data alone, and not on the day on which it is asked for.

    So may be asked of a directory that was made years ago: what names its range, and records. Nothing that
    has hits of LATER in it, since what lies in a spool for 30 days is set aside instead of counted.
    """
    parts = urlsplit(path)
    if f"/{LATER}" in parts.path or LATER in parts.query:
        return False
    if parts.path.endswith(("/stats", "/breakdowns")):
        return "from=" in parts.query
    return bool(re.fullmatch(r"/api/campaigns/[\w-]+(/(notes|shares|recipients))?", parts.path))


def _api(client: Client, made_at: float, few: bool) -> Iterator[str]:
    """The paths of all GETs of the OpenAPI document, each with all ids and all choices of its query."""
    document = json.loads(client.raw("/api/openapi.json")[2])
    ids = _ids(client)
    today = datetime.fromtimestamp(made_at, UTC)
    # To the beginning of today: what a range shows of later than now depends on when it is asked for.
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
            where = path.format(**dict(zip(names, chosen, strict=True)))
            for query in queries:
                yield from _pages_of(client, where, query)


def _queries(
    parameters: Iterable[dict[str, Any]], campaigns: list[str], days: dict[str, str]
) -> list[dict[str, str]]:
    """The queries with which a call is asked: none, and each choice of each parameter."""
    known = {one["name"]: one.get("schema", {}) for one in parameters if one.get("in") == "query"}
    found: list[dict[str, str]] = [{}]
    found += [{name: choice} for name, schema in known.items() for choice in schema.get("enum", ())]
    if "from" in known:  # without a range, short intervals end with the one that has just begun
        found = [{}, *({**days, **query} for query in found)]
        found.append({**days, "tz": "Asia/Kathmandu"})
    if "by" in known:
        found += [{**days, "by": name} for name in BREAKDOWNS]
    if "ids" in known:
        found += [{"ids": ",".join(pair)} for pair in itertools.combinations(campaigns, 2)]
    if "quiet_since" in known:
        found.append({"quiet_since": days["from"]})
    if "q" in known:
        found.append({"q": "s"})
    if "limit" in known:
        found.append({"limit": "2"})
    return found


def _pages_of(client: Client, path: str, query: dict[str, str]) -> Iterator[str]:
    """A list, from its first page to its last."""
    while True:
        yield f"{path}?{urlencode(query)}" if query else path
        status, kind, text = client.raw(f"{path}?{urlencode(query)}") if _is_list(path) else (0, "", "")
        following = json.loads(text).get("next") if status == 200 and kind == "application/json" else None
        if following is None or path.endswith("/audit"):
            return
        query = {**query, "after": str(following)}


def _is_list(path: str) -> bool:
    return path.endswith(("/campaigns", "/withdrawals"))


def _ids(client: Client) -> dict[str, list[str]]:
    """Campaigns, with one that there is not; and recipient keys."""
    campaigns = [one["id"] for one in json.loads(client.raw("/api/campaigns")[2])["items"]]
    people: dict[str, None] = {}
    for campaign in campaigns:
        for state in ("opened", "unopened"):
            status, _, text = client.raw(f"/api/campaigns/{campaign}/recipients?state={state}")
            items = json.loads(text)["items"] if status == 200 else []
            people |= dict.fromkeys(sorted(one["key"] for one in items)[:MAX_PEOPLE])
    return {"id": [*sorted(campaigns), "no-such-campaign"], "key": [*people, "0" * 16]}


def _crawl(client: Client, most: int) -> Iterator[Answer]:
    """Every page of who is signed in: from link to link."""
    waiting = ["/", "/new", "/keys", "/withdrawals", "/recipients", "/compare"]
    seen = {path for path, _ in FIRST}
    while waiting and len(seen) < most:
        path = waiting.pop(0)
        if path in seen or path.startswith("/audit?"):
            continue
        seen.add(path)
        answer = client.ask(path, SESSION)
        yield answer
        if answer.type == "text/html":
            waiting += [link for link in _links(path, client.text) if link not in seen]


def _links(path: str, text: str) -> list[str]:
    """Paths of this server that a page leads to."""
    found = []
    for written in re.findall(r'href="([^"]*)"', text):
        parts = urlsplit(urljoin(path, html.unescape(written)))
        skipped = parts.path.startswith(("/static/", "/api/", "/o/", "/p/", "/s/")) or parts.path.endswith(
            "/live"
        )
        if not parts.netloc and not parts.scheme and not skipped:
            found.append(quote(parts.path, "/-_.~%") + (f"?{parts.query}" if parts.query else ""))
    return list(dict.fromkeys(found))


def again(client: Client, asked: Iterable[Answer], wanted: Callable[[str], bool]) -> Iterator[Answer]:
    """The same questions in the same order, as far as they are wanted."""
    is_signed_in = False
    for one in asked:
        if wanted(one.path):
            if one.who == SESSION and not is_signed_in:
                client.sign_in()
                is_signed_in = True
            yield client.ask(one.path, one.who)

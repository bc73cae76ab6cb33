"""Makes a data directory with the current code, and stores all answers about the directory.

    python -m tests.old_data.make OUT [--demo] [--few] [--pack FILE.tar.gz]

OUT/data is the data directory of a server that was killed while hits waited in its stream and in its spool.
OUT/answers.json has the answers of the same code after a start on a copy of that directory, and
OUT/pixel.backup is a backup of that copy.
`tests.old_data.compare` sends the same requests to another version. To make a directory with an older commit,
copy this folder and `tests/stack.py` into that commit. They use only HTTP, the command line, the constants
that `formats` collects and, in `_store` and `_recipient`, the stored formats of a hit and of a token, which
never change.

--pack keeps a directory for years, in one file. Such a directory is read on a later day than it was made, so
only its answers that do not depend on the day are kept (`answers.is_steady`): records, and figures whose
range is named. All data is made with a retention of ten years, so it can be read for that long.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tarfile
import tempfile
import time
import urllib.request
from base64 import urlsafe_b64decode
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis

from tests.old_data import answers, formats
from tests.old_data.answers import LATER, Client
from tests.stack import Stack, until

ENVIRON = {
    "PIXEL_SECRET": "signing-key-of-the-old-data",
    "PIXEL_RECIPIENT_SECRET": "recipient-secret-of-the-old-data",
    "PIXEL_API_KEY": "api-key-of-the-old-data",
    "PIXEL_BASE_URL": "http://pixel.example",
    "PIXEL_OPERATOR": "Example Ltd",
    "PIXEL_TRUSTED_PROXIES": "127.0.0.1",
    "PIXEL_OWN_NETWORKS": "203.0.113.0/24",
    "PIXEL_TIME_ZONE": "Europe/Berlin",
    "PIXEL_TOKEN_DAYS": "36500",
    **{
        f"PIXEL_KEEP_DAYS_{name}": "3650"  # retention removes nothing for ten years
        for name in ("BUCKETS", "DAYS", "RECIPIENTS", "NAMES", "DEAD_LETTERS")
    },
}
ANSWERS, FORMATS, BACKUP = "answers.json", "formats.json", "pixel.backup"
"""Names of the files beside the data directory."""
MADE_AT_START = ("lock", "up.json", "valkey.log")
"""Files of a data directory that each start creates again."""
SHARDS = 4
DAY = 86_400
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
APPLE = "Mozilla/5.0"
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
WAITING, SPOOLED = 5, 7
"""Numbers of hits of LATER that wait in the stream and in the spool."""


class PastHit(NamedTuple):
    """A hit of an earlier day, to store in a shard. fields: those of a stored hit, at their positions."""

    shard: int
    fields: list[Any]


def _store(url: str, hits: list[PastHit], bad: list[bytes]) -> None:
    """Stores hits in the streams, as a web process does, and bytes that are not hits."""
    by_shard: dict[int, list[list[Any]]] = defaultdict(list)
    for past_hit in sorted(hits, key=lambda past_hit: past_hit.fields[0]):
        by_shard[past_hit.shard].append(past_hit.fields)
    with redis.Redis.from_url(url) as client:
        for shard, fields in by_shard.items():
            client.xadd(f"px:{{{shard}}}:hits", {"1": msgspec.msgpack.encode(fields)})
        for data in bad:
            client.xadd("px:{0}:hits", {"1": data})


def _recipient(url: str) -> tuple[int, int, bytes]:
    """Returns (flags, time, recipient key) of a link. `pixel_server/tokens.py` has the layout of a token."""
    token = url.rpartition("/")[2].removesuffix(".gif")
    body = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return body[1], int.from_bytes(body[2:6]), body[6:14] if body[1] & 7 > 1 else b""


def make(out: Path, with_demo: bool = False, few: bool = False) -> None:
    """Makes OUT/data, OUT/answers.json and OUT/pixel.backup. few: see `answers.every`.

    out: an empty or new directory.
    """
    out.mkdir(parents=True, exist_ok=True)
    data, made_at = Path(tempfile.mkdtemp(prefix="px-")), time.time()
    stack = Stack(data, **ENVIRON)
    stack.start()
    try:
        unlinked = Filling(stack, made_at).fill(with_demo)
        _kill(stack)
    finally:
        stack.stop(signal.SIGKILL)
        (data / "up.lock").unlink(missing_ok=True)
    shutil.copytree(data, out / "data", ignore=_no_sockets, symlinks=True)
    shutil.rmtree(data)
    stack.log.unlink()
    with started(out / "data") as (server, running):
        running.run("backup", str(out / BACKUP))
        found = [answer._asdict() for answer in answers.every(server, unlinked, made_at, few)]
    content = {"made_at": made_at, "answers": found}
    (out / ANSWERS).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def pack(out: Path, into: Path) -> None:
    """Packs a directory of `make` into one file, with the current formats and the answers that are steady."""
    content = json.loads((out / ANSWERS).read_text())
    content["answers"] = [answer for answer in content["answers"] if answers.is_steady(answer["path"])]
    with tempfile.TemporaryDirectory() as folder, tarfile.open(into, "w:gz", compresslevel=9) as file:
        for name, packed in ((ANSWERS, content), (FORMATS, formats.current())):
            path = Path(folder) / name
            path.write_text(json.dumps(packed, ensure_ascii=False) + "\n")
            file.add(path, name)
        file.add(out / BACKUP, BACKUP)
        for part in sorted((out / "data").rglob("*")):
            if part.is_file() and part.name not in MADE_AT_START:
                file.add(part, part.relative_to(out))


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_socket()]


class started:  # noqa: N801 - used as a function
    """A context manager that runs the current code on a copy of a data directory: gives (client, stack).

    Waits until the waiting hits are counted. is_old: the directory may be so old that the hits in its spool
    are set aside instead.
    """

    def __init__(self, data: Path, is_old: bool = False) -> None:
        self._from = data
        self._is_old = is_old

    def __enter__(self) -> tuple[Client, Stack]:
        self._data = Path(tempfile.mkdtemp(prefix="px-"))
        shutil.copytree(self._from, self._data, dirs_exist_ok=True, symlinks=True)
        self._stack = Stack(self._data, **ENVIRON)
        # Times are stored in whole seconds, so those of this server begin with a second of their own.
        now = int(time.time()) + 1
        time.sleep(now - time.time())
        self._stack.start()
        try:
            until(self._is_counted)
        except BaseException:
            self.__exit__()
            raise
        return Client(self._stack.address, self._stack.key, str(self._data), now), self._stack

    def _is_counted(self) -> bool:
        state = self._stack.call("GET", "/readyz")[1]
        is_whole = self._is_old or self._stack.totals(LATER)["hits"] == WAITING + SPOOLED
        return is_whole and state["stream_entries"] == 0 and state["spool"]["hits"] == 0

    def __exit__(self, *failure: object) -> None:
        self._stack.stop()
        shutil.rmtree(self._data)
        self._stack.log.unlink()


class Filling:
    """Fills a new server with data of every kind. now: seconds since 1970."""

    def __init__(self, stack: Stack, now: float) -> None:
        self._stack = stack
        self._now = now
        self._url: str = json.loads((stack.data / "up.json").read_text())["redis_url"]
        self._past_hits: list[PastHit] = []
        self._requests: list[tuple[str, dict[str, str]]] = []
        """(URL, headers) of requests for pixels that `_send_requests` sends."""

    def fill(self, with_demo: bool) -> list[str]:
        """Adds all data. Returns the paths of public pages."""
        public_pages = self._mail()
        self._modes()
        public_pages += self._web()
        # Hits of earlier days come first, because bursts and visits depend on a shard's newest hit.
        _store(
            self._url, self._past_hits, [b"\xc1 not a batch", msgspec.msgpack.encode([["late", "spring"]])]
        )
        self._wait_until_counted()
        if with_demo:
            self._stack.run("demo", "add")
        self._send_requests()
        self._people()
        self._records()
        self._wait_until_counted()
        self._call("DELETE", "/api/campaigns/doomed", expected=204)
        until(lambda: self._stack.call("GET", "/api/campaigns/doomed")[0] == 404)
        self._wait_in_stream_and_spool()
        return public_pages

    def _call(self, method: str, path: str, body: Any = None, expected: int = 201) -> Any:
        """Calls the API, and returns the JSON of the answer.

        Repeats a call while retention holds the campaign.
        """

        def ask() -> tuple[int, Any] | None:
            status, answer = self._stack.call(method, path, body)
            return None if status == 409 and "try again" in answer["detail"] else (status, answer)

        status, answer = until(ask)
        assert status == expected, (method, path, status, answer)
        return answer

    def _campaign(self, name: str, kind: str, **fields: Any) -> None:
        full_name = f"{name.capitalize()} & “friends”"
        self._call("POST", "/api/campaigns", {"id": name, "kind": kind, "name": full_name, **fields})

    def _links(self, campaign: str, rows: list[Any], **fields: Any) -> list[str]:
        """Makes links, and returns the pixels' URLs at the server's own address; "" in mode off."""
        body = {"recipients": rows, **fields}
        links = self._call("POST", f"/api/campaigns/{campaign}/links", body, 200)["links"]
        return [(link["url"] or "").replace("http://pixel.example", self._stack.address) for link in links]

    def _open(self, url: str, address: str, agent: str, **headers: str) -> None:
        """Adds a request for a pixel, which `_send_requests` sends."""
        renamed = {name.replace("_", "-"): value for name, value in headers.items()}
        self._requests.append((url, {"X-Forwarded-For": address, "User-Agent": agent, **renamed}))

    def _send_requests(self) -> None:
        for url, headers in self._requests:
            assert self._stack.get(url, **headers)[0] == 200
        self._requests.clear()

    def _opened(self, url: str, at: float, address: bytes, agent: str, **more: Any) -> None:
        """Adds a hit of an earlier day. at: seconds since 1970."""
        flags, time_of, key = _recipient(url)
        campaign = more.pop("campaign", "spring")
        fields = [int(at * 1000), campaign, "o", "GET", flags, time_of, key, b"", address, agent]
        self._past_hits.append(
            PastHit(int.from_bytes(key[:4]) % SHARDS if key else 0, [*fields, *more.values()])
        )

    def _mail(self) -> list[str]:
        """Adds mail campaigns with opens of all verdicts, on several days. Returns paths of public pages."""
        sent = int(self._now) - 6 * DAY
        self._campaign("spring", "email", sent=40, bounced=2, sent_at=_iso(sent))
        readers = [f"reader-{n:02}@example.org" for n in range(30)]
        rows = [{"recipient": reader, "sent_at": _iso(sent)} for reader in readers]
        urls = self._links("spring", rows, sent=True)
        for n, url in enumerate(urls[:12]):
            at = sent + 3600 * (n + 1) ** 2 * 0.6
            agents = (THUNDERBIRD, SAFARI, YAHOO, APPLE, BOT, "")
            self._opened(url, at, bytes([91, 64, 7, n]), agents[n % 6])
            self._opened(url, at + 600 + n * DAY / 8, bytes([79, 192, 3, n]), agents[(n + 1) % 6])
        for n in range(4):  # a burst: one mail opened from several addresses within 30 seconds
            self._opened(urls[20], sent + DAY + 5 * n, bytes([24, 5, n, n]), THUNDERBIRD)
        self._opened(urls[20], sent + 2 * DAY, bytes([24, 5, 9, 9]), THUNDERBIRD)
        self._opened(urls[21], sent + 2, b"\x49\x0a\x01\x01", FIREFOX)  # at once
        self._open(urls[22], "91.64.1.1", THUNDERBIRD, Sec_GPC="1")
        self._open(urls[23], "91.64.1.2", FIREFOX, Sec_Purpose="prefetch")
        self._open(urls[24], "203.0.113.9", THUNDERBIRD)
        self._open(urls[25], "2a02:8108::1", THUNDERBIRD)
        [trial] = self._links("spring", [{"recipient": "editor@example.org", "test": True}])
        self._open(trial, "91.64.1.3", THUNDERBIRD)
        self._campaign("twins", "email", sent=3, time_zone="America/New_York")
        for n, part in enumerate(("top", "top", "bottom", "single")):
            [url] = self._links("twins", [{"recipient": f"twin-{n % 3}@example.org", "part": part}])
            self._open(url, "84.128.0.1", THUNDERBIRD)
        shared = self._call("POST", "/api/campaigns/spring/shares", {"name": "A partner"})["url"]
        row = {"recipients": ["reader-00@example.org"]}
        privacy = self._call("POST", "/api/campaigns/spring/links", row, 200)["links"][0]["privacy_url"]
        return [_path(shared), _path(privacy), "/privacy", "/sign-in"]

    def _modes(self) -> None:
        """Adds a campaign of each mode. The campaign `doomed` is deleted later."""
        for mode in ("off", "count", "last", "pseudonymous", "identified"):
            name = "doomed" if mode == "pseudonymous" else f"mode-{mode}"
            self._campaign(name, "email", mode=mode, sent=4, gpc="drop" if mode == "last" else None)
            for n, url in enumerate(self._links(name, [f"{mode}-{n}@example.org" for n in range(4)])):
                if url and n < 3:
                    self._open(url, f"98.110.0.{n}", THUNDERBIRD, **({"DNT": "1"} if n == 2 else {}))
        rows = "".join(f"identified-{n}@example.org,Person {n}\n" for n in range(6))
        request = urllib.request.Request(
            f"{self._stack.address}/api/campaigns/mode-identified/recipients",
            method="PUT",
            data=f"recipient,name\n{rows}nameless@example.org,\n".encode(),
            headers={"Authorization": f"Bearer {self._stack.key}", "Content-Type": "text/csv"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

    def _web(self) -> list[str]:
        """Adds a web campaign of each identity, with visits over midnight, referrers and UTM fields.

        Returns paths of public pages.
        """
        midnight = int(self._now) // DAY * DAY
        for identity in ("cookieless", "cookie", "own"):
            self._campaign(f"site-{identity}", "web", identity=identity, time_zone="UTC", min_cell=1)
            for who in range(4):
                visitor = b"" if identity == "cookieless" else bytes([who]) * 8
                for step in range(1 + who * 2):
                    at = midnight - DAY * who - 1500 + step * 900 + who
                    self._viewed(f"site-{identity}", at, who, step, visitor)
            page = f"/p/site-{identity}.gif?u=https%3A%2F%2Fshop.example%2Fnow&v=me"
            self._open(page, "178.82.0.1", FIREFOX, Accept_Language="de-CH,de")
            self._open(page, "178.82.0.2", BOT)
            self._open(page, "178.82.0.3", SAFARI, Sec_GPC="1")
        body = {"name": "Site", "expires_at": _iso(4e9)}
        shared = self._call("POST", "/api/campaigns/site-cookie/shares", body)
        return [_path(shared["url"]), _path(shared["url"]) + "/stats.json"]

    def _viewed(self, campaign: str, at: float, who: int, step: int, visitor: bytes) -> None:
        """Adds a view of an earlier day and, if `step` is odd, the report of its visible time."""
        page = "https://shop.example/"
        if who:
            page += f"page-{step}?utm_source=news&utm_campaign=c{who}"
        referrer = ("", "https://www.google.com/", "https://blog.example/post", "https://shop.example/")[
            step % 4
        ]
        hit = [int(at * 1000), campaign, "p", "GET", 0, 0, b"", visitor, bytes([80, 56, 0, who])]
        hit += [FIREFOX if who % 2 else SAFARI, page, "nl-NL,nl", "", "", "", page, referrer]
        view = bytes([who, step]) * 4
        view_fields = [view, -1, 1 + who % 2 if campaign == "site-cookie" else 0, step == 0 and who == 0]
        shard = who % SHARDS
        self._past_hits.append(PastHit(shard, [*hit, *view_fields]))
        if step % 2:
            self._past_hits.append(
                PastHit(shard, [hit[0] + 40_000, *hit[1:], view, 30_000, *view_fields[2:]])
            )

    def _people(self) -> None:
        """Adds withdrawals, ends one of the withdrawals, and erases a recipient."""
        for n in (2, 3, 4):
            self._call("POST", "/api/withdrawals", {"recipients": [f"reader-{n:02}@example.org"]}, 200)
        self._call("DELETE", "/api/withdrawals", {"recipients": ["reader-03@example.org"]}, 200)
        key = self._call("POST", "/api/recipients/find", {"recipient": "reader-05@example.org"}, 200)["key"]
        self._call("DELETE", f"/api/recipients/{key}", expected=200)

    def _records(self) -> None:
        """Adds notes and API keys, changes a campaign, and removes a note, a key and a share link."""
        for n, campaign in enumerate(("spring", "spring", "site-cookie", "mode-count")):
            at = _iso(self._now - n * DAY)
            note = self._call("POST", f"/api/campaigns/{campaign}/notes", {"text": f"Note <{n}>", "at": at})
        self._call("DELETE", f"/api/campaigns/mode-count/notes/{note['id']}", expected=204)
        for name, scopes in (
            ("Reader", ["read"]),
            ("Partner", ["read:spring"]),
            ("Gone", ["read", "people"]),
        ):
            key = self._call("POST", "/api/keys", {"name": name, "scopes": scopes})
        self._call("DELETE", f"/api/keys/{key['id']}", expected=204)
        share = self._call("POST", "/api/campaigns/spring/shares", {"name": "Gone"})
        self._call("DELETE", f"/api/campaigns/spring/shares/{share['id']}", expected=204)
        self._call("PATCH", "/api/campaigns/twins", {"name": "Twins", "keep": {"names": 30}}, 200)

    def _wait_until_counted(self) -> None:
        def is_counted() -> bool:
            readyz = self._stack.call("GET", "/readyz")[1]
            return bool(readyz["stream_entries"] == 0 and readyz["dead_letters"] == 2)

        until(is_counted)

    def _wait_in_stream_and_spool(self) -> None:
        """Adds hits that are not counted.

        Stops the workers, so that hits wait in the stream, and then Redis, so that hits wait in the spool.
        """
        self._campaign(LATER, "email", sent=20)
        urls = self._links(LATER, [f"later-{n}@example.org" for n in range(WAITING + SPOOLED)])
        _signal(self._stack, "work", signal.SIGSTOP)
        for n, url in enumerate(urls[:WAITING]):
            self._open(url, f"81.224.0.{n}", THUNDERBIRD)
        self._send_requests()
        _signal(self._stack, "valkey-server", signal.SIGSTOP)
        for n, url in enumerate(urls[WAITING:]):
            self._open(url, f"78.64.0.{n}", FIREFOX)
        self._send_requests()


def _signal(stack: Stack, words: str, number: int) -> None:
    for pid in stack.pids(words):
        os.kill(pid, number)


def _kill(stack: Stack) -> None:
    """Kills all processes at once, `up` first, so that no process can stop in order."""
    assert stack.process is not None
    stack.process.kill()
    _signal(stack, "", signal.SIGKILL)
    stack.process.wait()
    until(lambda: not stack.pids(""))


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _path(url: str) -> str:
    return url.replace("http://pixel.example", "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", action="store_true", help="add the demo too, with some ten thousand hits")
    parser.add_argument("--few", action="store_true", help="send fewer requests")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="pack the directory into this file too")
    chosen = parser.parse_args()
    make(chosen.out, chosen.demo, chosen.few)
    if chosen.pack:
        pack(chosen.out, chosen.pack)
    print(f"made {chosen.out}/data and {chosen.out}/answers.json")

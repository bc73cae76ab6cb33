"""`pixel-server up`, as a newcomer meets it: started, stopped, killed, and refusing with one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pixel_server.run import valkey
from pixel_server.store.client import connect
from tests.stack import PROGRAM, Stack, free_port, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OWN_KEY = "sixteen-chars-ok"


@pytest.fixture
def data() -> Iterator[Path]:
    """An empty data directory with a short path."""
    made = Path(tempfile.mkdtemp(prefix="px-"))
    yield made
    shutil.rmtree(made)
    made.with_name(made.name + ".log").unlink(missing_ok=True)


def up(data: Path, port: int | None = None, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """An `up` that is expected to end by itself."""
    return subprocess.run(
        [PROGRAM, "up", "--port", str(port or free_port()), "--data", str(data), *more],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line on stderr, and an exit code that says so."""
    assert done.returncode not in (0, -signal.SIGKILL)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("pixel-server: ")
    for word in words:
        assert word in done.stderr


def children(stack: Stack) -> dict[str, int]:
    """The pid of each part of a stack that runs."""
    found = {}
    for name, words in {"web": "serve --handle", "workers": "pixel_server work", "worker": "--one"}.items():
        pids = stack.pids(words)
        found[name] = min(pids) if pids else 0
    found["valkey"] = (stack.pids("valkey-server") or [0])[0]
    return found


def hits(stack: Stack, url: str, number: int) -> None:
    """Sends that many, each one recorded."""
    for _ in range(number):
        assert stack.get(url) == (200, "recorded")


def mail(stack: Stack) -> str:
    """A link of a new campaign `mail`."""
    stack.run("campaign", "create", "mail")
    return stack.run("link", "mail", "ada@example.org").stdout.strip()


def paste(stack: Stack) -> str:
    """What the printed next step prints, pasted into another terminal somewhere else."""
    steps = re.findall(r"^ {11}(\S.*)$", stack.output(), re.M)
    assert steps
    pasted = "\n".join(steps)
    done = subprocess.run(
        ["sh", "-ec", pasted],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_first_start_prints_next_steps_and_stores_no_key(stack: Stack):
    printed = stack.output()
    assert f"up at {stack.address}\n" in printed
    assert f"data     {stack.data}\n" in printed
    assert f"API key  {stack.key} (shown this once)" in printed
    link = re.search(r"sign in  (http://\S+/sign-in/\S{20,}) ", printed)
    with urllib.request.urlopen(link[1]) as page:
        assert page.url == f"{stack.address}/sign-in"  # this client keeps no cookie
    made, tag = paste(stack).splitlines()
    assert "hello" in made
    assert stack.get(re.search(r'src="(\S+)"', tag)[1]) == (200, "recorded")
    until(lambda: stack.totals("hello")["unique_opens"] == 1)

    assert stack.stop() == 0
    kept = [path for path in stack.data.rglob("*") if path.is_file()]
    assert any(b"first key" in path.read_bytes() for path in kept), "the key's record is in none of them"
    assert [path for path in kept if stack.key.encode() in path.read_bytes()] == []

    stack.start()
    assert "API key  as shown at the first start" in stack.output()
    assert stack.key not in stack.output()
    assert "hello" in paste(stack)
    assert stack.totals("hello")["opens"] == 1


def test_up_behind_https_allows_local_sign_in(data: Path, browser: Browser):
    made = Stack(data, PIXEL_BASE_URL="https://www.example.org/px")
    made.start()
    try:
        first, second = re.findall(r"^  (?:sign in|or at  )  (\S+) \(", made.output(), re.M)
        assert first.startswith("https://www.example.org/px/sign-in/")
        path = first.removeprefix("https://www.example.org")
        assert second == made.address + path
        printed = made.run("sign-in")
        assert printed.stdout.startswith("https://www.example.org/px/sign-in/")
        assert printed.stdout.count("\n") == 1
        token = printed.stdout.strip().rpartition("/")[2]
        assert f"or at {made.address}/px/sign-in/{token} (" in printed.stderr
        shown = json.loads(made.run("sign-in", "--json").stdout)
        assert shown["local_url"].startswith(f"{made.address}/px/sign-in/")
        page = browser.new_page()
        page.goto(second)
        page.get_by_role("button", name="Sign out").wait_for()
        assert page.url == f"{made.address}/px/"
        [cookie] = page.context.cookies()
        assert cookie["secure"]
        page.get_by_role("link", name="Keys").click()
        page.get_by_label("Name", exact=True).fill("made here")
        page.get_by_role("button", name="Create key").click()
        page.get_by_text("Copy the key now").first.wait_for()
        page.context.close()
    finally:
        made.stop()


def test_up_second_start_on_same_directory_is_refused(stack: Stack):
    url = mail(stack)
    kept = {name: (stack.data / name).read_bytes() for name in ("up.json", "secrets.json")}
    before = children(stack)
    for port in (None, stack.port):
        done = up(stack.data, port)
        assert_refused(done, "already up", stack.address, "nothing was changed")
        assert "demo" not in done.stderr
    asked = up(stack.data, None, "--demo")
    assert_refused(asked, "already up", "nothing was changed")
    assert children(stack) == before
    assert {name: (stack.data / name).read_bytes() for name in kept} == kept
    hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 1)
    hint = re.search(r"; this adds the demo to it: (PIXEL_DATA_DIR=.* demo add)$", asked.stderr)
    added = subprocess.run(["sh", "-ec", hint[1]], cwd="/", env={}, capture_output=True, check=True)
    assert b"made-up hits in demo-newsletter" in added.stdout


def test_up_ctrl_c_ends_all_processes_and_keeps_hits(stack: Stack):
    url = mail(stack)
    hits(stack, url, 100)
    assert stack.stop(signal.SIGINT) == 0
    assert stack.pids("") == []
    assert [line for line in stack.output().splitlines() if "ERROR" in line or "Traceback" in line] == []
    stack.start()
    until(lambda: stack.totals("mail")["opens"] == 100)
    assert stack.stop(signal.SIGTERM) == 0
    assert stack.pids("") == []


def test_up_sighup_ends_all_processes_unless_nohup(data: Path):
    made = Stack(data)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may be run by nohup themselves
    try:
        made.start()
        assert made.stop(signal.SIGHUP) == 0
        assert made.pids("") == []
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        made.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    made.process.send_signal(signal.SIGHUP)
    hits(made, mail(made), 3)
    until(lambda: made.totals("mail")["opens"] == 3)
    assert made.stop() == 0


def test_up_lost_secrets_pause_counting(stack: Stack):
    url = mail(stack)
    (stack.data / "secrets.json").rename(stack.data / "kept")
    os.kill(children(stack)["worker"], signal.SIGKILL)
    until(lambda: "there are no secrets in" in stack.output())
    hits(stack, url, 1)
    (stack.data / "kept").rename(stack.data / "secrets.json")
    until(lambda: stack.totals("mail")["opens"] == 1)
    assert "Traceback" not in stack.output()


@pytest.mark.parametrize(
    "environ", [{"PIXEL_RULES": "/nowhere/rules.toml"}, {"PIXEL_DATA_DIR": "bad-list"}], ids=["rules", "list"]
)
def test_up_bad_rules_or_list_is_refused_at_once(data: Path, environ: dict[str, str]):
    if "PIXEL_DATA_DIR" in environ:
        (data / "networks").mkdir()
        (data / "networks" / "cisco.txt").write_text("nonsense\n")
    assert_refused(up(data, None, **environ), "rules.toml" if "PIXEL_RULES" in environ else "cisco.txt")
    assert not (data / "valkey").exists()


def test_up_mistyped_setting_is_reported_once(data: Path):
    made = Stack(data, PIXEL_TRUSTED_PROXY="10.0.0.1")
    made.start()
    assert made.output().count("PIXEL_TRUSTED_PROXIES is one") == 1
    assert made.stop() == 0


def test_up_killed_valkey_names_its_log(stack: Stack):
    os.kill(children(stack)["valkey"], signal.SIGKILL)
    until(lambda: f"killed by signal 9 (see {stack.data}/valkey/valkey.log); restarting" in stack.output())


@pytest.mark.parametrize(("host", "shown"), [("", "127.0.0.1"), ("::", "[::1]")])
def test_up_all_addresses_answers_ipv4_and_ipv6(data: Path, host: str, shown: str):
    made = Stack(data)
    made.start("--host", host)
    assert f"up at http://{shown}:{made.port}\n" in made.output()
    assert made.call("GET", "/api/campaigns")[0] == 200, "at 127.0.0.1"
    assert made.stop() == 0


@pytest.mark.parametrize("part", ["web", "workers", "worker", "valkey"])
def test_up_killed_part_is_restarted(stack: Stack, part: str):
    url = mail(stack)
    hits(stack, url, 20)
    before = children(stack)
    assert all(before.values()), before
    os.kill(before[part], signal.SIGKILL)
    until(lambda: children(stack)[part] not in (0, before[part]), within=5)
    until(lambda: stack.get(url) == (200, "recorded"), within=10)
    until(lambda: stack.call("GET", "/api/campaigns")[0] == 200, within=10)
    until(lambda: stack.totals("mail")["opens"] >= 21, within=15)
    line = next(line for line in stack.output().splitlines() if "killed by signal 9" in line)
    assert "restarting it in 0.3 s" in line
    untouched = [name for name in before if name != part and (part, name) != ("workers", "worker")]
    assert {name: children(stack)[name] for name in untouched} == {name: before[name] for name in untouched}
    assert "Traceback" not in stack.output()


def test_up_part_killed_repeatedly_is_restarted_with_longer_pauses(stack: Stack):
    for _ in range(3):
        pid = until(lambda: children(stack)["web"])
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: children(stack)["web"] not in (0, pid))
    assert re.findall(r"web was killed.*restarting it in (\S+) s", stack.output()) == ["0.3", "0.6", "1.2"]


@pytest.mark.parametrize("with_valkey", [False, True], ids=["up", "up-and-valkey"])
def test_up_killed_next_up_continues(stack: Stack, with_valkey: bool):
    url = mail(stack)
    hits(stack, url, 20)
    before = children(stack)
    assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
    if with_valkey:
        os.kill(before["valkey"], signal.SIGKILL)
    until(lambda: not stack.pids("pixel_server"), within=15)
    assert bool(stack.pids("valkey-server")) is not with_valkey

    stack.start()
    assert (children(stack)["valkey"] == before["valkey"]) is not with_valkey
    hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 21)
    assert stack.stop() == 0
    assert stack.pids("") == []


def test_up_right_after_kill_waits_for_old_children(stack: Stack):
    url = mail(stack)
    hits(stack, url, 20)
    stack.stop(signal.SIGKILL)
    stack.start()
    hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 21)


def test_up_adopted_valkey_is_restarted(stack: Stack):
    url = mail(stack)
    stack.stop(signal.SIGKILL)
    stack.start()
    adopted = children(stack)["valkey"]
    os.kill(adopted, signal.SIGKILL)
    until(lambda: children(stack)["valkey"] not in (0, adopted), within=5)
    until(lambda: stack.get(url) == (200, "recorded"), within=10)


def test_up_ctrl_c_while_valkey_hangs_ends(stack: Stack):
    url = mail(stack)
    hits(stack, url, 1)
    stack.stop(signal.SIGKILL)
    until(lambda: not stack.pids("pixel_server"), within=15)
    pid = children(stack)["valkey"]
    os.kill(pid, signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(
            [PROGRAM, "up", "--port", str(stack.port), "--data", str(stack.data)], stderr=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=15)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert waiting.returncode == 0
    assert b"left running" in said
    stack.start()
    assert children(stack)["valkey"] == pid
    assert stack.totals("mail")["opens"] == 1


def test_up_used_port_is_refused(data: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(up(data, port), f"cannot listen on 127.0.0.1 port {port}")


@pytest.mark.parametrize("host", ["nobody.invalid", "192.0.2.1", "x" * 70])
def test_up_foreign_address_is_refused(data: Path, host: str):
    done = subprocess.run(
        [PROGRAM, "up", "--host", host, "--data", str(data)], capture_output=True, text=True, check=False
    )
    assert_refused(done, f"cannot listen on {host} port 8000: ")


@pytest.mark.parametrize("where", ["/dev/null/x", "/proc/pixel-data", "file"])
def test_up_unwritable_data_directory_is_refused(data: Path, where: str):
    (data / "file").touch()
    assert_refused(up(data / where), "cannot write to", where)


def test_up_damaged_valkey_data_is_refused(data: Path):
    made = Stack(data)
    made.start()
    made.stop()
    manifest = next((data / "valkey").rglob("*.manifest"))
    manifest.write_text("nonsense\n")
    assert_refused(up(data), "valkey ended", "valkey.log")


class _OldRedis(socketserver.StreamRequestHandler):
    """Answers INFO as Redis 6.2 does, 0 to HEXISTS, and OK to the rest."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:size])
            info = b"redis_version:6.2.0\r\n"
            known = {b"INFO": b"$%d\r\n%s\r\n" % (len(info), info), b"HEXISTS": b":0\r\n"}
            self.wfile.write(known.get(words[0], b"+OK\r\n"))


def test_up_old_redis_is_refused(data: Path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis) as old:
        old.daemon_threads = True
        threading.Thread(target=old.serve_forever, daemon=True).start()
        port = old.server_address[1]
        done = up(data, REDIS_URL=f"redis://127.0.0.1:{port}/0")
        old.shutdown()
    assert_refused(done, f"127.0.0.1:{port}", "6.2.0", "7.0 or newer")


def test_up_evicting_redis_is_refused(data: Path):
    path = data / "evicting.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--maxmemory-policy", "allkeys-lru"]
    process = subprocess.Popen([str(valkey.binary()), *arguments], stdout=subprocess.DEVNULL, cwd=data)
    try:
        until(path.exists)
        assert_refused(up(data, REDIS_URL=f"unix://{path}"), "evicts", "allkeys-lru", "noeviction")
    finally:
        process.kill()
        process.wait()


def test_up_redis_absent_is_refused(data: Path):
    port = free_port()
    secret = f"redis://:a-password@127.0.0.1:{port}/0"
    done = up(data, REDIS_URL=secret)
    assert_refused(done, f"127.0.0.1:{port}", "does not answer")
    assert "a-password" not in done.stderr
    assert_refused(up(data, REDIS_URL="unix:///nowhere/at.sock"), "/nowhere/at.sock", "does not answer")


def test_up_store_with_other_shards_or_secrets_is_refused(data: Path):
    made = Stack(data)
    made.start()
    url = mail(made)
    hits(made, url, 1)
    made.stop()
    other = "another-secret-of-32-characters-"
    assert_refused(up(data, PIXEL_SHARDS="8"), "4 shards", "PIXEL_SHARDS=4")
    assert_refused(up(data, PIXEL_RECIPIENT_SECRET=other), "another recipient secret")
    assert_refused(up(data, PIXEL_SECRET=other), "none of these signing keys")
    assert made.pids("") == []
    made.start()
    hits(made, url, 1)
    until(lambda: made.totals("mail")["opens"] == 2)
    assert made.stop() == 0


def test_up_lost_secrets_are_refused_and_not_replaced(data: Path):
    made = Stack(data)
    made.start()
    url = mail(made)
    hits(made, url, 1)
    made.stop()
    kept = (data / "secrets.json").read_bytes()
    (data / "secrets.json").unlink()
    assert_refused(up(data), f"no secrets in {data.resolve()}", "restore")
    assert not (data / "secrets.json").exists()
    (data / "secrets.json").write_bytes(kept)
    made.start()
    hits(made, url, 1)
    until(lambda: made.totals("mail")["opens"] == 2)
    assert made.stop() == 0


def test_up_own_redis_is_used_and_left_running(data: Path, redis_url: str):
    made = Stack(data, REDIS_URL=redis_url)
    made.start()
    hits(made, mail(made), 3)
    until(lambda: made.totals("mail")["opens"] == 3)
    assert not made.pids("valkey-server")
    assert not (data / "valkey").exists()
    assert made.stop() == 0
    with connect(redis_url) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["long" * 30, "with a blank"])
def test_up_data_directory_with_odd_path_works(data: Path, name: str):
    made = Stack(data / name / "data")
    made.data.parent.mkdir()
    made.start()
    url = mail(made)
    hits(made, url, 1)
    assert made.stop(signal.SIGKILL) == -signal.SIGKILL
    made.start()
    hits(made, url, 1)
    until(lambda: made.totals("mail")["opens"] == 2)
    assert made.stop() == 0
    assert made.pids("") == []


def test_up_own_api_key_is_used(data: Path):
    short = "k" * 15
    done = up(data, PIXEL_API_KEY=short)
    assert_refused(done, "PIXEL_API_KEY", "16 characters")
    assert short not in done.stderr
    made = Stack(data, PIXEL_API_KEY=OWN_KEY)
    made.start()
    assert OWN_KEY not in made.output()
    assert made.call("GET", "/api/campaigns")[0] == 200
    made.key = OWN_KEY[:-1]
    assert made.call("GET", "/api/campaigns")[0] == 401
    assert made.stop() == 0


def test_up_ignores_proxy_settings(data: Path):
    nobody = f"http://127.0.0.1:{free_port()}"
    made = Stack(data, http_proxy=nobody, HTTP_PROXY=nobody, no_proxy="", NO_PROXY="")
    made.start()
    assert made.stop() == 0


def test_up_base_url_is_in_all_links(data: Path):
    made = Stack(data, PIXEL_BASE_URL="https://www.example.org/px")
    made.start()
    del made.environ["PIXEL_BASE_URL"]
    offline = mail(made)
    assert offline.startswith("https://www.example.org/px/o/")
    _, online = made.call("POST", "/api/campaigns/mail/links", {"recipients": ["bob"]})
    assert online["links"][0]["url"].startswith("https://www.example.org/px/o/")
    for path in (offline.removeprefix("https://www.example.org"), "/o/" + offline.rpartition("/")[2]):
        assert made.get(path) == (200, "recorded"), "a proxy may take the path off, or pass it on"
    until(lambda: made.totals("mail")["opens"] == 2)
    assert made.stop() == 0

"""`pixel-server up` as a newcomer meets it: start, next steps, stop, and its options."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pixel_server.store.client import connect
from tests.journeys.up_steps import assert_refused, children, create_link, run_up, send_hits
from tests.stack import PROGRAM, Stack, free_port, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OWN_KEY = "sixteen-chars-ok"


def paste(stack: Stack) -> str:
    """Runs the printed next steps in another terminal and directory, and returns their output."""
    steps = re.findall(r"^ {11}(\S.*)$", stack.output(), re.M)
    assert steps
    pasted = "\n".join(steps)
    result = subprocess.run(
        ["sh", "-ec", pasted],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_up_first_start_prints_next_steps_and_stores_no_key(stack: Stack):
    printed = stack.output()
    assert f"up at {stack.address}\n" in printed
    assert f"data     {stack.data}\n" in printed
    assert f"API key  {stack.key} (shown this once)" in printed
    link = re.search(r"sign in  (http://\S+/sign-in/\S{20,}) ", printed)
    with urllib.request.urlopen(link[1]) as page:
        assert page.url == f"{stack.address}/sign-in"  # this client keeps no cookie
    created, tag = paste(stack).splitlines()
    assert "hello" in created
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


@pytest.fixture(scope="module")
def public() -> Iterator[Stack]:
    """Returns a running stack that has a public address."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_BASE_URL="https://www.example.org/px")
    stack.start()
    yield stack
    assert stack.stop() == 0
    shutil.rmtree(stack.data)
    stack.log.unlink()


def test_up_behind_https_allows_local_sign_in(public: Stack, browser: Browser):
    first, second = re.findall(r"^  (?:sign in|or at  )  (\S+) \(", public.output(), re.M)
    assert first.startswith("https://www.example.org/px/sign-in/")
    path = first.removeprefix("https://www.example.org")
    assert second == public.address + path
    printed = public.run("sign-in")
    assert printed.stdout.startswith("https://www.example.org/px/sign-in/")
    assert printed.stdout.count("\n") == 1
    token = printed.stdout.strip().rpartition("/")[2]
    assert f"or at {public.address}/px/sign-in/{token} (" in printed.stderr
    shown = json.loads(public.run("sign-in", "--json").stdout)
    assert shown["local_url"].startswith(f"{public.address}/px/sign-in/")
    page = browser.new_page()
    page.goto(second)
    page.get_by_role("button", name="Sign out").wait_for()
    assert page.url == f"{public.address}/px/"
    [cookie] = page.context.cookies()
    assert cookie["secure"]
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Name", exact=True).fill("made here")
    page.get_by_role("radio", name="This whole server").check()
    page.get_by_role("button", name="Create key").click()
    page.get_by_text("Copy the key now").first.wait_for()
    page.context.close()


def test_up_ctrl_c_ends_all_processes_and_keeps_hits(stack: Stack):
    url = create_link(stack)
    send_hits(stack, url, 100)
    assert stack.stop(signal.SIGINT) == 0
    assert stack.pids("") == []
    assert [line for line in stack.output().splitlines() if " error " in line or "traceback=" in line] == []
    stack.start()
    until(lambda: stack.totals("mail")["opens"] == 100)
    assert stack.stop(signal.SIGTERM) == 0
    assert stack.pids("") == []


def test_up_sighup_ends_all_processes_unless_nohup(data: Path):
    stack = Stack(data)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may be run by nohup themselves
    try:
        stack.start()
        assert stack.stop(signal.SIGHUP) == 0
        assert stack.pids("") == []
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stack.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    stack.process.send_signal(signal.SIGHUP)
    send_hits(stack, create_link(stack), 3)
    until(lambda: stack.totals("mail")["opens"] == 3)
    assert stack.stop() == 0


def test_up_lost_secrets_pause_counting(stack: Stack):
    url = create_link(stack)
    worker = children(stack)["worker"]
    os.kill(worker, signal.SIGSTOP)  # it must not need the secrets before it is killed
    (stack.data / "secrets.json").rename(stack.data / "kept")
    os.kill(worker, signal.SIGKILL)
    until(lambda: "there are no secrets in" in stack.output())
    send_hits(stack, url, 1)
    (stack.data / "kept").rename(stack.data / "secrets.json")
    until(lambda: stack.totals("mail")["opens"] == 1)
    assert "traceback=" not in stack.output()


@pytest.mark.parametrize(("host", "shown"), [("", "127.0.0.1"), ("::", "[::1]")])
def test_up_all_addresses_answers_ipv4_and_ipv6(data: Path, host: str, shown: str):
    stack = Stack(data)
    stack.start("--host", host)
    assert f"up at http://{shown}:{stack.port}\n" in stack.output()
    assert stack.call("GET", "/api/campaigns")[0] == 200, "at 127.0.0.1"
    assert stack.stop() == 0


def test_up_own_redis_is_used_and_left_running(data: Path, redis_url: str):
    stack = Stack(data, REDIS_URL=redis_url)
    stack.start()
    send_hits(stack, create_link(stack), 3)
    until(lambda: stack.totals("mail")["opens"] == 3)
    assert not stack.pids("valkey-server")
    assert not (data / "valkey").exists()
    assert stack.stop() == 0
    with connect(redis_url) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["long" * 30, "with a blank"])
def test_up_data_directory_with_odd_path_works(data: Path, name: str):
    stack = Stack(data / name / "data")
    stack.data.parent.mkdir()
    stack.start()
    url = create_link(stack)
    send_hits(stack, url, 1)
    assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
    stack.start()
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 2)
    assert stack.stop() == 0
    assert stack.pids("") == []


def test_up_own_api_key_is_used_and_proxies_and_mistyped_settings_are_not(data: Path):
    nobody = f"http://127.0.0.1:{free_port()}"
    unusable = dict.fromkeys(("http_proxy", "HTTP_PROXY"), nobody) | {"no_proxy": "", "NO_PROXY": ""}
    unusable["PIXEL_TRUSTED_PROXY"] = "10.0.0.1"
    short = "k" * 15
    result = run_up(data, PIXEL_API_KEY=short)
    assert_refused(result, "PIXEL_API_KEY", "16 characters")
    assert short not in result.stderr
    stack = Stack(data, PIXEL_API_KEY=OWN_KEY, **unusable)
    stack.start()
    assert stack.output().count("did you mean PIXEL_TRUSTED_PROXIES?") == 1
    assert OWN_KEY not in stack.output()
    assert stack.call("GET", "/api/campaigns")[0] == 200
    stack.key = OWN_KEY[:-1]
    assert stack.call("GET", "/api/campaigns")[0] == 401
    assert stack.stop() == 0


def test_up_base_url_is_in_all_links(public: Stack, name: str):
    assert public.call("POST", "/api/campaigns", {"id": name, "name": "Mail", "kind": "email"})[0] == 201
    elsewhere = {key: value for key, value in public.environ.items() if key != "PIXEL_BASE_URL"}
    offline = subprocess.run(
        [PROGRAM, "link", name, "ada"], env=elsewhere, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert offline.startswith("https://www.example.org/px/o/")
    _, online = public.call("POST", f"/api/campaigns/{name}/links", {"recipients": ["bob"]})
    assert online["links"][0]["url"].startswith("https://www.example.org/px/o/")
    for path in (offline.removeprefix("https://www.example.org"), "/o/" + offline.rpartition("/")[2]):
        assert public.get(path) == (200, "recorded"), "a proxy may take the path off, or pass it on"
    until(lambda: public.totals(name)["opens"] == 2)

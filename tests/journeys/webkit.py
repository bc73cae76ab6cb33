"""WebKit, as WebKitGTK's MiniBrowser on a screen of Xvfb, driven over WebDriver (w3.org/TR/webdriver2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.stack import free_port, until

MINI_BROWSERS = sorted(Path("/usr").glob("lib/*/webkit2gtk-4.*/MiniBrowser"))


def missing_programs() -> list[str]:
    """Returns the Debian packages that must be installed before WebKit can be started."""
    missing = [] if MINI_BROWSERS and shutil.which("WebKitWebDriver") else ["webkit2gtk-driver"]
    return missing + ([] if shutil.which("Xvfb") else ["xvfb"])


class Page:
    """A page in WebKit. session: address of its WebDriver session."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Loads a page, with its images."""
        call(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Returns what a script returns in the page."""
        return call(f"{self._session}/execute/sync", {"script": f"return {script}", "args": []})

    def screenshot(self) -> bytes:
        """Returns what is shown, as PNG."""
        return b64decode(call(f"{self._session}/screenshot"))


@contextmanager
def webkit_page(width: int, height: int) -> Iterator[Page]:
    """Starts a screen and WebKit, yields its page, and stops both."""
    port = free_port()
    read_end, write_end = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1024x1024x24", "-nolisten", "tcp"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    driver = None
    try:
        with os.fdopen(read_end) as numbers:
            display = numbers.readline().strip()
        driver = subprocess.Popen(
            ["WebKitWebDriver", f"--port={port}"],
            env={**os.environ, "DISPLAY": f":{display}", "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{port}"
        until(lambda: is_ready(address))
        options = {"binary": str(MINI_BROWSERS[-1]), "args": ["--automation"]}
        asked = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        session = f"{address}/session/{call(f'{address}/session', asked)['sessionId']}"
        try:
            call(f"{session}/window/rect", {"width": width, "height": height})
            yield Page(session)
        finally:
            call(session, method="DELETE")
    finally:
        for process in (driver, screen):
            if process is not None:
                process.terminate()
                process.wait()


def is_ready(address: str) -> bool:
    """Returns whether a WebDriver answers."""
    try:
        return bool(call(f"{address}/status")["ready"])
    except (URLError, ConnectionError):
        return False


def call(url: str, content: object = None, method: str | None = None) -> Any:
    """Returns the value that a WebDriver answers to a command."""
    data = None if content is None else json.dumps(content).encode()
    with urlopen(
        Request(url, data, {"Content-Type": "application/json"}, method=method), timeout=60
    ) as answer:
        return json.load(answer)["value"]

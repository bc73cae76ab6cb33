"""Fixtures of the journeys: a browser, and an empty data directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest

from tests.stack import Stack, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Returns the path of Chromium. Without Chromium, skips the test, or fails the test if CI is set."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing = "NO CHROMIUM ON PATH: no test ran in a real browser (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def headless(chromium: str) -> str:
    """Returns the path of Chromium's headless shell, or of Chromium if the shell is not installed.

    The shell is the same browser without windows and preferences, and needs a third of the processor time.
    Debian's package is `chromium-headless-shell`.
    """
    return shutil.which("chromium-headless-shell") or chromium


@pytest.fixture(scope="module")
def browser(headless: str) -> Iterator[Browser]:
    """Returns a headless browser, one for each file of tests. Each test opens its own context."""
    yield from launched(headless)


def launched(path: str) -> Iterator[Browser]:
    """Yields the browser at a path, once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared() -> Iterator[Stack]:
    """Returns a running stack for all tests that need no new one. Each test has a campaign of its `name`."""
    with running(Stack) as stack:
        yield stack


@pytest.fixture
def name() -> str:
    """Returns the id of a campaign, which is new in each run of a test."""
    return f"c-{token_hex(4)}"


@pytest.fixture
def data() -> Iterator[Path]:
    """Returns an empty data directory with a short path, removed after the test."""
    directory = Path(tempfile.mkdtemp(prefix="px-"))
    yield directory
    shutil.rmtree(directory)
    directory.with_name(directory.name + ".log").unlink(missing_ok=True)

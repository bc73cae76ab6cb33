"""The README and docs: their commands print what is shown, and their tables are complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixel_server import settings
from pixel_server.api import routes
from tests.stack import Stack, until

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}
SHOWN = README + DOCS["api"] + DOCS["web"]
"""Texts whose commands run here, one after the other. Those of mail.md run in test_mail_docs.py."""
ADDRESS = "http://127.0.0.1:8000"
END = "-- end of a command --"


def blocks(language: str, text: str = README) -> list[str]:
    """Returns the fenced blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Returns (command, shown output) of all console blocks, in order."""
    shown = []
    for block in blocks("console", SHOWN):
        assert block.startswith("$ ")
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, printed = part.partition("\n")
            shown.append((command, printed))
    return shown


def shape(printed: str) -> str:
    """Returns an output without what differs from run to run: tokens, addresses, times."""
    for pattern, name in (
        (r"/o/[A-Za-z0-9_-]+\.gif", "/o/TOKEN.gif"),
        (r"/privacy\?t=[A-Za-z0-9_-]+", "/privacy?t=TOKEN"),
        (r"http://127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "INSTANT"),
    ):
        printed = re.sub(pattern, name, printed)
    return printed


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[tuple[Path, Stack]]:
    """Yields a directory as `make up` leaves it, with .venv and pixel-data, and a server on another port."""
    data = Path(tempfile.mkdtemp(prefix="px-"))
    stack = Stack(data)
    stack.start()
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (tmp_path / "pixel-data").symlink_to(data)
    yield tmp_path, stack
    stack.stop()
    shutil.rmtree(data)
    stack.log.unlink()


def in_one_shell(lines: list[str], directory: Path, address: str) -> list[str]:
    """Returns what each line prints. Runs them one after the other, as if pasted into a shell."""
    script = "".join(f"{line}\necho '{END}'\n" for line in lines).replace(ADDRESS, address)
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout.split(f"{END}\n")[:-1]


@pytest.mark.skipif(not shutil.which("curl") and not os.environ.get("CI"), reason="NO CURL: README not tried")
def test_readme_commands_print_what_is_shown(checkout: tuple[Path, Stack]):
    directory, stack = checkout
    shown = commands()
    assert len(shown) >= 8
    printed = in_one_shell([command for command, _ in shown], directory, stack.address)
    assert [shape(text) for text in printed] == [shape(text) for _, text in shown]
    until(lambda: stack.totals("spring")["unique_opens"] == 1)
    until(lambda: stack.totals("docs")["views"] == 1)


def test_readme_python_example_creates_links(checkout: tuple[Path, Stack]):
    directory, stack = checkout
    (example,) = blocks("python")
    example = example.replace("https://img.example.org", stack.address)
    done = subprocess.run(
        [".venv/bin/python", "-c", example], cwd=directory, capture_output=True, text=True, check=True
    )
    url, tag = done.stdout.splitlines()
    assert url in tag
    assert stack.get(url) == (200, "recorded")
    until(lambda: stack.call("GET", "/api/campaigns/spring")[0] == 200)
    until(lambda: stack.totals("spring")["opens"] == 1)


def test_readme_first_screen_has_the_two_commands():
    first = README.partition("```")[0]
    assert first.index("make up") < first.index("make test") < first.index("<details>")
    assert re.search(r"<details>.*python3 -m venv \.venv\n.*pip install.*</details>", first, re.S)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_docs_every_page_exists_and_is_linked():
    texts = {"README.md": README, **{f"docs/{name}.md": text for name, text in DOCS.items()}}
    for name, text in texts.items():
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"
    for name in DOCS:
        assert f"(docs/{name}.md)" in README, name


def test_docs_settings_table_is_complete():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\| (.*) \|$", DOCS["operating"], re.M)
    assert rows == settings.table()


def test_docs_name_every_api_call():
    rows = {
        (method, path): scope
        for method, path, scope in re.findall(
            r"^\| `([A-Z]+) (/api/\S+)` \| .* \| (\w+) \|$", DOCS["api"], re.M
        )
    }
    assert rows == {(call.method, call.path): call.scope or "none" for call in routes.CALLS}

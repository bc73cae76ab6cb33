"""The version: one place holds it, and the command, the package and the changelog agree with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from pixel_server import __version__
from tests.stack import PROGRAM

ROOT = Path(__file__).parent.parent


def test_version_of_the_command_is_that_of_the_package():
    for command in ([PROGRAM], [sys.executable, "-m", "pixel_server"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == f"pixel-server, version {__version__}\n"


def test_version_of_the_wheel_is_read_from_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {"path": "pixel_server/__init__.py"}


def test_version_newest_of_the_changelog_is_that_of_the_package():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.M)
    assert versions[0] == __version__

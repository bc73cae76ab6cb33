"""Fixtures that run commands in this process, with a data directory and a base URL of the test."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pixel_server.cli import main
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets

BASE_URL = "https://pixel.example.org"


@pytest.fixture
def offline(tmp_path):
    """Returns a function that runs a command. stdin: text or bytes."""
    Secrets.load_or_create(tmp_path / "data")

    def run(*arguments, stdin=b"", **environ):
        data = {"PIXEL_DATA_DIR": str(tmp_path / "data"), "PIXEL_BASE_URL": BASE_URL, **environ}
        return CliRunner().invoke(main, [str(argument) for argument in arguments], env=data, input=stdin)

    return run


@pytest.fixture
def minter(tmp_path):
    """Returns a minter that makes the same links as the commands."""
    return Minter(BASE_URL, Secrets.load_or_create(tmp_path / "data"))


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs a command with tmp_path as its data directory."""

    def run(*arguments: str, input: str | None = None, **environ: str):  # noqa: A002
        env = {"PIXEL_DATA_DIR": str(tmp_path), **environ}
        return CliRunner().invoke(main, arguments, env=env, input=input)

    return run


@pytest.fixture
def lists(tmp_path):
    """Returns the directory of the operator's lists of networks."""
    directory = tmp_path / "networks"
    directory.mkdir()
    return directory

"""The bundled Valkey: who can read its files, which Valkey has written them, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixel_server.run import valkey as valkeys
from pixel_server.run.valkey import Valkey
from pixel_server.store.client import StoreError, connect
from tests.journeys.up_steps import assert_refused, run_up
from tests.stack import until


def test_valkey_files_are_private_to_this_user():
    """Includes files that an earlier version left readable for others, and files of a rewrite."""
    data = Path(tempfile.mkdtemp(prefix="px-"))
    before = os.umask(0)
    valkey = Valkey(data)
    try:
        kept = data / "valkey" / "appendonlydir"
        kept.mkdir(parents=True)
        (kept / "old").touch()
        valkey.start()
        valkey.wait_ready()
        with connect(valkey.url) as client:
            client.set("a", "b")
            client.bgrewriteaof()
            until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
            until(lambda: any(path.name.endswith(".2.base.rdb") for path in kept.iterdir()))
        modes = {path: path.stat().st_mode & 0o777 for path in (data / "valkey").rglob("*")}
        assert {path.name: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    finally:
        os.umask(before)
        valkey.stop()
        valkey.wait(60)
        shutil.rmtree(data)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory with a path short enough for a Unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="px-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def stopped_data(data: Path) -> Path:
    """A data directory in which Valkey has stored a key."""
    valkey = Valkey(data)
    valkey.start()
    valkey.wait_ready()
    with connect(valkey.url) as client:
        client.set("a", "b")
    valkey.stop()
    valkey.wait(10)
    return data


def test_valkey_files_of_a_newer_valkey_are_refused_and_stay(stopped_data: Path):
    [base] = (stopped_data / "valkey" / "appendonlydir").glob("*.base.rdb")
    written = base.read_bytes()
    bundled = valkeys.binary_version()
    assert written.startswith(b"VALKEY")
    newer = re.sub(rb"^VALKEY\d+", b"VALKEY999", written).replace(bundled.encode(), b"9.9.9")
    base.write_bytes(newer)
    before = {path.name: path.read_bytes() for path in base.parent.iterdir()}
    result = run_up(stopped_data, None)
    assert_refused(result, "were written by Valkey 9.9.9, and the bundled Valkey", "nothing was changed")
    assert {path.name: path.read_bytes() for path in base.parent.iterdir()} == before
    base.write_bytes(written)
    valkey = Valkey(stopped_data)
    valkey.start()
    try:
        valkey.wait_ready()
        with connect(valkey.url) as client:
            assert client.get("a") == b"b"
    finally:
        valkey.stop()
        valkey.wait(10)


def test_valkey_damaged_file_is_not_called_newer(stopped_data: Path):
    [base] = (stopped_data / "valkey" / "appendonlydir").glob("*.base.rdb")
    base.write_bytes(base.read_bytes()[:-4] + b"0000")
    valkey = Valkey(stopped_data)
    valkey.start()
    with pytest.raises(StoreError, match="valkey ended with exit code 1"):
        valkey.wait_ready()


def test_valkey_adopted_of_another_version_goes_on_and_is_told(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    first, second = Valkey(data), Valkey(data)
    first.start()
    try:
        first.wait_ready()
        monkeypatch.setattr(valkeys, "binary_version", lambda: "9.9.9")
        second.start()
        second.wait_ready()
        assert "of an earlier start goes on; the next start after a stop uses 9.9.9" in caplog.text
    finally:
        first.stop()
        first.wait(10)


def test_valkey_that_hangs_is_killed_when_it_is_stopped(stopped_data: Path, caplog: pytest.LogCaptureFixture):
    valkey = Valkey(stopped_data)
    valkey.start()
    valkey.wait_ready()
    with connect(valkey.url) as client:
        client.set("c", "d")
        os.kill(client.info("server")["process_id"], signal.SIGSTOP)
    valkey.stop()
    until(valkey.how_ended)
    assert "valkey hangs and is killed" in caplog.text
    valkey.start()
    try:
        valkey.wait_ready()
        with connect(valkey.url) as client:
            assert client.get("c") == b"d"
    finally:
        valkey.stop()
        valkey.wait(10)


def test_valkey_of_a_killed_command_ends_with_it():
    data = Path(tempfile.mkdtemp(prefix="px-"))
    code = (
        "import sys, time; from pathlib import Path; from pixel_server.run.valkey import Valkey\n"
        "valkey = Valkey(Path(sys.argv[1]), ends_with_parent=True)\n"
        "valkey.start(); valkey.wait_ready(); print('ready', flush=True); time.sleep(600)"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE)
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == b"ready\n"
        adopted = Valkey(data)
        adopted.start()
        assert adopted.how_ended() is None
        command.kill()
        until(lambda: adopted.how_ended() is not None)
    finally:
        command.kill()
        command.communicate()
        shutil.rmtree(data)

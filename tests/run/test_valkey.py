"""The files of the bundled Valkey are private to this user."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from pixel_server.run.valkey import Valkey
from pixel_server.store.client import connect
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

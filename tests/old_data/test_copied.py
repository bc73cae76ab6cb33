"""A backup of an earlier version is restored and copied to other shards: the answers stay.

Lists of recipients stay too, but in another order; `tests.copying` compares them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.old_data import compare
from tests.old_data.make import BACKUP, ENVIRON
from tests.old_data.test_old_data import FROZEN
from tests.stack import PROGRAM


def test_copy_of_a_restored_backup_gives_the_same_answers(tmp_path: Path, redis_url: str, monkeypatch):
    with tarfile.open(FROZEN[-1]) as file:
        file.extractall(tmp_path, filter="data")
    shutil.rmtree(tmp_path / "data")
    for name, value in {**ENVIRON, "PIXEL_DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(name, value)
    restored = _run("restore", str(tmp_path / BACKUP), "--data", str(tmp_path / "data"))
    assert "verified: 0 faults" in restored.stdout
    done = _run("copy", "--to", redis_url, "--shards", "7", "--json")
    assert json.loads(done.stdout)["shards"] == 7
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("PIXEL_SHARDS", "7")
    number, different = compare.compare(tmp_path, steady=True)
    assert [text for text in different if "/recipients" not in text.splitlines()[0]] == []
    assert number > 50


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done

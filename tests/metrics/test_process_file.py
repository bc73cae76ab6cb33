"""The files by which the processes of a host know each other's numbers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pixel_server.metrics import process_file
from pixel_server.metrics.numbers import Numbers
from pixel_server.metrics.process_file import DIRECTORY, Publisher, is_running, read_host

KILLED = """
import os, signal, sys
from pathlib import Path
from pixel_server.metrics.numbers import Numbers
from pixel_server.metrics.process_file import Publisher
publisher = Publisher(Path(sys.argv[1]), lambda: Numbers("web", {"hits": {"": 7}}, {"waiting": {"": 7}}))
publisher.write(publisher.gather())
os.kill(os.getpid(), signal.SIGKILL)
"""


def publish(data, hits):
    publisher = Publisher(data, lambda: Numbers("web", {"hits": {"": hits}}, {"waiting": {"": hits}}))
    publisher.write(publisher.gather())
    return publisher


def figures(data):
    host = read_host(data)
    return host.counters["hits"], host.gauges.get("waiting"), host.gauges.get("pixel_processes")


def test_read_host_process_killed_keeps_its_counters_alone(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    first, second = publish(tmp_path, 1), publish(tmp_path, 2)
    for _ in range(2):
        assert figures(tmp_path) == ({"": 10}, {"": 3}, {"web": 2})
    first.close()
    assert figures(tmp_path) == ({"": 10}, {"": 2}, {"web": 1})
    second.close()
    assert figures(tmp_path) == ({"": 10}, None, None)
    assert sorted(os.listdir(tmp_path / DIRECTORY)) == ["ended.json", "lock"]


def test_is_running_asks_for_a_kind_and_writes_nothing(tmp_path):
    assert not is_running(tmp_path, "web")
    assert list(tmp_path.iterdir()) == []
    running = publish(tmp_path, 1)
    before = sorted(os.listdir(tmp_path / DIRECTORY))
    assert [is_running(tmp_path, kind) for kind in ("web", "relay")] == [True, False]
    running.close()
    assert not is_running(tmp_path, "web")
    assert sorted(os.listdir(tmp_path / DIRECTORY)) == before


def test_publisher_closed_or_directory_removed_counts_each_hit_once(tmp_path):
    ended, running = publish(tmp_path, 1), publish(tmp_path, 2)
    ended.close()
    ended.write(ended.gather())  # as its thread may do until the process ends
    assert figures(tmp_path)[0] == {"": 3}
    shutil.rmtree(tmp_path / DIRECTORY)
    running.write(running.gather())
    assert figures(tmp_path)[0] == {"": 2}
    running.close()
    started = publish(tmp_path, 4)
    names = {path.name.partition("-")[0] for path in (tmp_path / DIRECTORY).iterdir()}
    assert names == {"ended.json", "lock", "web"}
    assert len(list((tmp_path / DIRECTORY).iterdir())) == 3, "the start of a process clears up"
    started.close()


def test_read_host_crash_before_removal_counts_once(tmp_path, monkeypatch):
    publish(tmp_path, 5).close()

    def crash(path, missing_ok=False):
        if not missing_ok:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            read_host(tmp_path)
    assert figures(tmp_path)[0] == {"": 5}
    publish(tmp_path, 1).close()
    assert figures(tmp_path)[0] == {"": 6}


def test_read_host_half_written_file_is_left_out(tmp_path):
    whole, torn = publish(tmp_path, 1), publish(tmp_path, 2)
    os.pwrite(torn._handle, b"#", 30)
    assert figures(tmp_path) == ({"": 1}, {"": 1}, {"web": 1})
    torn.write(torn.gather())
    assert figures(tmp_path)[0] == {"": 3}
    (tmp_path / DIRECTORY / "ended.json").write_text("{")
    assert figures(tmp_path)[0] == {"": 3}
    whole.close()
    torn.close()


def test_publisher_directory_cannot_be_made_goes_on(tmp_path, caplog, monkeypatch):
    (tmp_path / DIRECTORY).write_text("a file")
    publisher = publish(tmp_path, 1)
    publisher.write(publisher.gather())
    assert caplog.text.count("cannot be written") == 1
    publisher.close()
    with pytest.raises(OSError, match="File exists"):
        read_host(tmp_path)
    (tmp_path / DIRECTORY).unlink()
    monkeypatch.setattr(process_file, "LOCK_TIMEOUT_SECONDS", 0.0)
    with process_file._locked(tmp_path / DIRECTORY), pytest.raises(OSError, match="held by a process"):
        read_host(tmp_path)

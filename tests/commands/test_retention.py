"""`pixel-server retention run`, and the findings of `doctor` on clocks and retention."""

from __future__ import annotations

import json
import time

import pytest

from pixel_server.campaigns import retention
from pixel_server.secret import Secrets
from pixel_server.store import keys

pytestmark = pytest.mark.usefixtures("few_buckets")


def add_dead_letter(client, days: int) -> None:
    at = int((time.time() - days * 86_400) * 1000)
    client.xadd(keys.dead(0), {"reason": "x", "data": b""}, f"{at}-1")


def test_retention_run_shows_what_is_due_and_yes_removes_it(run, tmp_path, client, valkey_url):
    Secrets.load_or_create(tmp_path)
    for days in (30, 20, 1):
        add_dead_letter(client, days)
    for _ in range(2):
        done = run("retention", "run", REDIS_URL=valkey_url)
        assert (done.exit_code, done.stdout) == (0, "due to be removed: 2 dead letters\n")
    client.hset(keys.SWEEP, "waits", retention.pack_waiting({"dead letters": 2}))
    findings = run("doctor", REDIS_URL=valkey_url).stdout
    assert "problem  store retention: retention waits" in findings
    assert "(2 dead letters)" in findings
    done = run("retention", "run", "--yes", "--json", REDIS_URL=valkey_url)
    assert json.loads(done.stdout) == {"removed": {"dead letters": 2}}
    assert client.xlen(keys.dead(0)) == 1
    assert run("retention", "run", REDIS_URL=valkey_url).stdout == "due to be removed: nothing\n"
    assert "retention: removes expired data by itself" in run("doctor", REDIS_URL=valkey_url).stdout


def test_retention_run_wrong_clock_is_refused(run, tmp_path, client, valkey_url, monkeypatch):
    Secrets.load_or_create(tmp_path)
    add_dead_letter(client, 30)
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() - 7300)
    done = run("retention", "run", "--yes", REDIS_URL=valkey_url)
    assert done.exit_code == 1
    assert "2.0 hours behind that of Redis" in done.stderr
    assert client.xlen(keys.dead(0)) == 1
    assert "store clocks: the clock of this command on" in run("doctor", REDIS_URL=valkey_url).stdout

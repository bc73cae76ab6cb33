"""The findings and exit codes of `pixel-server doctor`."""

from __future__ import annotations

import datetime
import errno
import json
import os
import pathlib
import time
from types import SimpleNamespace

import pytest

from pixel_server import hit
from pixel_server.classify.networks import list_names
from pixel_server.commands import doctor_files, doctor_store
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys

HEAD = "# source: a test\n# date: {}\n"
TODAY = datetime.date(2026, 9, 21)


def findings(tmp_path, today=TODAY) -> dict[str, tuple[bool, str]]:
    all_findings = doctor_files.networks(Settings(data=tmp_path), today)
    return {finding.thing: (finding.level, finding.text) for finding in all_findings}


def test_doctor_lists_shows_their_age(tmp_path, lists):
    (lists / "apple.txt").write_text(HEAD.format("2026-06-23") + "192.0.2.0/24\n")
    (lists / "google.txt").write_text(HEAD.format("2026-06-22") + "192.0.2.0/24\n198.51.100.0/24\n")
    (lists / "cisco.txt").write_text(HEAD.format("2025-09-21"))
    found = findings(tmp_path)
    assert list(found) == list(list_names())
    assert found["apple"] == ("ok", "1 range of 2026-06-23, 90 days old")
    remedy = f"it is your own list: update {lists}/google.txt, or remove it to use the refreshed list"
    assert found["google"] == ("advice", f"2 ranges of 2026-06-22, 91 days old; {remedy}")
    assert found["cisco"] == ("ok", "0 ranges of 2025-09-21, 365 days old"), "this list is published nowhere"
    assert found["proofpoint"] == ("ok", "28 ranges of 2026-06-17, 96 days old")
    assert found["microsoft-eop"][0] == "ok"


def test_doctor_refreshed_list_is_old_says_how_to_refresh_it(tmp_path):
    refreshed = tmp_path / "networks-refreshed"
    refreshed.mkdir()
    (refreshed / "google.txt").write_text(HEAD.format("2026-06-22") + "192.0.2.0/24\n")
    again = "run `pixel-server networks refresh google`"
    assert findings(tmp_path)["google"] == ("advice", f"1 range of 2026-06-22, 91 days old; {again}")


def test_doctor_own_list_that_an_earlier_version_fetched_is_reported(tmp_path, lists):
    head = "# source: https://mask-api.icloud.com/egress-ip-ranges.csv\n# date: 2026-09-20\n"
    (lists / "apple.txt").write_text(head + "192.0.2.0/24\n")
    level, text = findings(tmp_path)["apple"]
    assert (level, f"update {lists}/apple.txt, or remove it" in text) == ("advice", True)


def test_doctor_failed_refresh_says_why(client, tmp_path, redis_url):
    client.hset(keys.NETWORKS, "apple error", "https://a.example/: timed out")
    weekly = Settings(data=tmp_path, redis_url=redis_url)
    off = Settings(data=tmp_path, redis_url=redis_url, networks_refresh="off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", redis_url)
        assert [finding[1:] for finding in doctor_store.network_refresh(weekly, TODAY)] == [
            ("apple", "advice", "the last refresh failed: https://a.example/: timed out")
        ]
        assert list(doctor_store.network_refresh(off, TODAY)) == []


def test_doctor_empty_list_and_unknown_file_are_reported(tmp_path, lists):
    (lists / "aple.txt").write_text("")
    found = findings(tmp_path)
    assert found["apple"] == ("advice", "empty; run `pixel-server networks refresh apple`")
    assert found["aple"] == ("problem", f"{lists}/aple.txt is not read: no list has this name")


def test_doctor_unreadable_list_is_a_problem(tmp_path, lists):
    (lists / "cisco.txt").write_text(HEAD.format("2026-01-01") + "x")
    assert findings(tmp_path) == {"lists": ("problem", f"{lists}/cisco.txt:3: 'x' is not a network")}


def test_doctor_problem_exits_1_advice_exits_0(run, lists, tmp_path):
    done = run("doctor")
    assert (done.exit_code, done.stderr) == (0, ""), "a new installation has no problem"
    lines = done.stdout.splitlines()
    assert lines[-1] == f"advice   store redis: no `up` has run with {tmp_path}, and REDIS_URL is not set"
    assert "advice   networks apple: empty; run `pixel-server networks refresh apple`" in lines
    assert "ok       spool disk: 0 hits waiting for Redis" in lines
    assert "ok       losses hits: none known" in lines
    assert (
        "advice   settings operator: the privacy page does not say who records: set PIXEL_OPERATOR to your "
        "name or address"
    ) in lines
    assert len(lines) == len(list_names()) + 6
    (lists / "aple.txt").write_text("")
    done = run("doctor")
    assert done.exit_code == 1
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("problem")] == [
        ["problem", "networks", "aple:"]
    ]
    shown = json.loads(run("doctor", "--json").stdout)["items"]
    assert [(item["level"], item["thing"]) for item in shown if item["level"] != "ok"] == [
        ("problem", "aple"),
        ("advice", "apple"),
        ("advice", "google"),
        ("advice", "openai"),
        ("advice", "operator"),
        ("advice", "base_url"),
        ("advice", "redis"),
    ]


def test_doctor_spool_unusable_or_set_aside_is_a_problem(run, tmp_path):
    (tmp_path / "spool" / "aside").mkdir(parents=True)
    (tmp_path / "spool" / "aside" / "x.bad").touch()
    done = run("doctor")
    assert done.exit_code == 1
    assert f"problem  spool aside: 1 file set aside in {tmp_path}/spool/aside" in done.stdout
    (tmp_path / "spool").rename(tmp_path / "gone")
    (tmp_path / "spool").touch()
    done = run("doctor")
    assert done.exit_code == 1
    assert f"problem  spool disk: {tmp_path}/spool cannot be written" in done.stdout


def of_store(done) -> list[str]:
    return [line for line in done.stdout.splitlines() if " store " in line]


def test_doctor_redis_without_workers_is_a_problem(run, tmp_path, client, valkey_url):
    Secrets.load_or_create(tmp_path)
    client.zadd(keys.WORKERS, {"one": time.time()})
    client.xadd(keys.hits(0), {str(hit.FORMAT): b"\x90"})
    done = run("doctor", REDIS_URL=valkey_url)
    assert (done.exit_code, done.stderr) == (0, "")
    redis, workers, *others = of_store(done)
    assert redis.startswith("ok       store redis: unix:")
    assert redis.endswith(", durability: every hit: synced to disk before it is answered")
    assert workers == "ok       store workers: 1 worker; 1 batch of hits to be counted"
    assert others == [
        "ok       store hosts: 0 hosts with a spool; all settings agree",
        "ok       store clocks: all agree with Redis's clock",
        "ok       store retention: removes expired data by itself",
        "ok       store webhooks: no webhook needs attention",
    ]
    assert not client.exists(keys.STORE), "a check does not claim the store"

    client.delete(keys.WORKERS)
    client.set(keys.stop(2), "dead letters are full (1)")
    client.xadd(keys.dead(1), {"reason": "x", "data": b""})
    done = run("doctor", REDIS_URL=valkey_url)
    assert done.exit_code == 1
    assert of_store(done)[1:-4] == [
        "problem  store workers: no worker has been seen for 10 s: hits are stored but not counted",
        "problem  store workers: shard 2 stands still: dead letters are full (1)",
        "problem  store workers: 1 dead letters: see `pixel-server dead-letters list`",
    ]


def test_doctor_rules_or_queue_unusable_is_a_problem(run, tmp_path, client, valkey_url):
    done = run(
        "doctor", REDIS_URL=valkey_url, PIXEL_QUEUE_URL="redis://127.0.0.1:1/0", PIXEL_RULES="none.toml"
    )
    assert done.exit_code == 1
    assert "problem  rules rules: PIXEL_RULES: none.toml: No such file" in done.stdout
    assert "problem  store redis: Redis at 127.0.0.1:1 does not answer" in done.stdout


def test_doctor_check_that_fails_does_not_stop_the_others(run, tmp_path, monkeypatch):
    (tmp_path / "up.json").write_text("{}")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    done = run("doctor")
    assert done.exit_code == 1
    assert "ok       spool disk: 0 hits waiting for Redis" in done.stdout
    assert f"problem  redis_and_workers check: cannot be made: cannot read {tmp_path}/up.json" in done.stdout


def test_doctor_redis_unusable_is_a_problem(run, tmp_path, client, valkey_url):
    client.hset(keys.STORE, mapping={"format": "1", "shards": "4", "recipient": "another"})
    (line,) = of_store(run("doctor", REDIS_URL=valkey_url))
    assert line.startswith("problem  store redis: ")
    assert "secrets" in line
    Secrets.load_or_create(tmp_path)
    (line,) = of_store(run("doctor", REDIS_URL=valkey_url))
    assert "belongs to another recipient secret" in line
    (line,) = of_store(run("doctor", REDIS_URL=valkey_url.partition("?")[0] + "?db=99"))
    assert line.endswith(": DB index is out of range")
    done = run("doctor", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.exit_code == 1
    (line,) = of_store(done)
    assert line.startswith("problem  store redis: Redis at 127.0.0.1:1 does not answer: ")


def test_doctor_without_a_backup_advises_one(run, lists, tmp_path):
    Secrets.load_or_create(tmp_path)
    assert "advice   backup last: none was made yet: run `pixel-server backup FILE`" in run("doctor").stdout
    made = run("backup", str(tmp_path / "file"), REDIS_URL="redis://127.0.0.1:1/0")
    assert made.exit_code == 0, made.output
    assert f", in {tmp_path / 'file'}\n" in run("doctor").stdout


def texts(done, check: str) -> list[str]:
    """Returns the lines about one check, without its name."""
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return [f"{level} {rest}" for level, name, rest in lines if name == check]


def test_doctor_settings_well_chosen_are_ok(run):
    done = run("doctor", PIXEL_OPERATOR="Example Press", PIXEL_BASE_URL="https://www.example.org/px")
    assert texts(done, "settings") == [
        "ok operator: Example Press",
        "ok base_url: https://www.example.org/px",
    ]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "PIXEL_BASE_URL is not set, so links need a campaign with a base_url: set the public address"),
        (
            "http://127.0.0.1:8000",
            "nobody else can reach 127.0.0.1: set PIXEL_BASE_URL to the public address",
        ),
        (
            "http://www.example.org",
            "http://www.example.org is not https, and many mail programs load no such image: use HTTPS",
        ),
        (
            "https://email.example.org",
            "https://email.example.org: EasyPrivacy, a list of ad blockers, blocks images on a host that "
            "begins with email.: use another name",
        ),
        (
            "https://www.example.org/track/open",
            "https://www.example.org/track/open: EasyPrivacy, a list of ad blockers, blocks images on the "
            "path /track/open/: use another name",
        ),
        (
            "https://tracking2.example.org",
            "https://tracking2.example.org: Pi-hole's list of patterns blocks a host that begins with "
            "tracking2.: use another name",
        ),
    ],
)
def test_doctor_base_url_that_is_not_loaded_gets_advice(run, url, problem):
    done = run("doctor", PIXEL_BASE_URL=url)
    assert texts(done, "settings")[1:] == [f"advice base_url: {problem}"]
    assert done.exit_code == 0


def test_doctor_campaigns_with_blocked_addresses_get_advice(run, tmp_path, client, valkey_url):
    Secrets.load_or_create(tmp_path)
    for arguments in (["track"], ["shop", "--kind", "web"]):
        assert run("campaign", "create", *arguments, REDIS_URL=valkey_url).exit_code == 0
    assert texts(run("doctor", REDIS_URL=valkey_url), "campaigns") == ["ok addresses: 2 campaigns"]
    for arguments in (
        ["stats", "--kind", "web"],
        ["spring", "--base-url", "http://www.example.org"],
        ["summer", "--base-url", "http://www.example.org"],
    ):
        assert run("campaign", "create", *arguments, REDIS_URL=valkey_url).exit_code == 0
    assert texts(run("doctor", REDIS_URL=valkey_url), "campaigns") == [
        "advice spring: http://www.example.org is not https, and many mail programs load no such image: use "
        "HTTPS (and 1 other)",
        "advice stats: filter lists block an id such as stats where it stands in an address (/p/stats.gif): "
        "make a campaign with another id",
    ]


def test_doctor_wrong_clocks_of_web_and_worker_are_problems(run, tmp_path, client, valkey_url):
    Secrets.load_or_create(tmp_path)
    now = client.time()[0]
    client.hset(keys.CLOCKS, mapping={"web 7 on host1": f"1 70 {now}", "worker 8 on host1": f"1 -7200 {now}"})
    lines = [line for line in texts(run("doctor", REDIS_URL=valkey_url), "store") if " clocks: " in line]
    assert [line.split(": set ")[0] for line in lines] == [
        "problem clocks: the clock of web 7 on host1 is 70.0 seconds ahead of that of Redis",
        "problem clocks: the clock of worker 8 on host1 is 2.0 hours behind that of Redis",
    ]


def test_doctor_disk_too_small_for_a_week_of_writes_gets_advice(run, tmp_path, monkeypatch):
    directory = tmp_path / "valkey" / "appendonlydir"
    directory.mkdir(parents=True)
    base = directory / "appendonly.aof.2.base.rdb"
    base.write_bytes(b"")
    for number in (1, 2):
        (directory / f"appendonly.aof.{number}.incr.aof").write_bytes(bytes(1 << 20))
    os.utime(base, (time.time() - 36_000, time.time() - 36_000))  # 2 MB in 10 hours are 33.6 MB in 7 days
    free = {"mb": 34}
    monkeypatch.setattr(
        doctor_files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free["mb"] << 20)
    )
    (line,) = texts(run("doctor"), "disk")
    assert line.startswith(
        f"ok aof: 34 MB are free in {directory}; 33 MB are written to the append-only file"
    )
    free["mb"] = 30
    done = run("doctor")
    (line,) = texts(done, "disk")
    assert line.startswith("advice aof: 30 MB are free in ")
    assert line.endswith(" in 7 days at today's rate: make room in case it cannot be rewritten")
    assert done.exit_code == 0


def test_doctor_secrets_readable_by_others_are_a_problem(run, tmp_path):
    Secrets.load_or_create(tmp_path)
    kept = tmp_path / "backup"
    assert run("backup", str(kept), REDIS_URL="redis://127.0.0.1:1/0").exit_code == 0
    secrets = tmp_path / "secrets.json"
    assert texts(run("doctor"), "secrets") == [
        f"ok server: only its owner can read {secrets}",
        f"ok backup: only its owner can read {kept}",
    ]
    secrets.chmod(0o604)
    kept.chmod(0o640)
    done = run("doctor")
    assert done.exit_code == 1
    assert texts(done, "secrets") == [
        f"problem server: the mode of {secrets} lets every user read it: run `chmod 600 {secrets}`",
        f"advice backup: the mode of {kept} lets its group read it: run `chmod 600 {kept}`, unless the group "
        "is the server's own",
    ]

"""A store that was emptied or replaced: people who withdrew are still not recorded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.cli import main
from pixel_server.mail.links import Minter
from pixel_server.recipients.withdrawals_file import FILE_NAME as WITHDRAWALS
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.store_mark import FILE
from tests.conftest import API_KEY
from tests.stack import READER, until
from workers import context
from workers.rollup import drain


@contextmanager
def serving(settings, secrets):
    app = create_app(
        settings,
        secrets,
        connect_async(settings.redis_url),
        jobs.queue(connect(settings.redis_url)),
    )
    headers = {"Authorization": f"Bearer {API_KEY}", "User-Agent": READER}
    with TestClient(app, base_url="http://pixel.test", headers=headers) as web:
        yield web


def ask(web, secrets, campaign, recipient):
    return web.get(Minter("http://pixel.test", secrets).url(campaign, recipient)).headers["x-pixel"]


def prepare(web, settings):
    """Saves a withdrawn recipient, campaigns with mode off and deleted, and a page on disk."""
    for name, mode in (("mail", "pseudonymous"), ("off", "off"), ("gone", "pseudonymous")):
        made = {"id": name, "name": name, "kind": "email", "mode": mode}
        assert web.post("/api/campaigns", json=made).status_code == 201
    web.post("/api/campaigns", json={"id": "page", "name": "page", "kind": "web"})
    web.delete("/api/campaigns/gone")
    web.post("/api/withdrawals", json={"recipients": ["eve"]})
    saved = settings.data / "campaigns.json"
    until(lambda: saved.exists() and b'"gone":["gone"]' in saved.read_bytes().replace(b" ", b""))
    until(lambda: b" 1 " in (settings.data / WITHDRAWALS).read_bytes())


def assert_refused(web, secrets):
    assert ask(web, secrets, "mail", "eve").startswith("ignored; reason=")
    assert ask(web, secrets, "off", "ada").startswith("ignored; reason=")
    assert ask(web, secrets, "gone", "ada").startswith("ignored; reason=")


def run_command(*arguments):
    return CliRunner().invoke(main, arguments)


def warnings(web):
    return "; ".join(web.get("/readyz").json()["warnings"])


def test_store_emptied_under_live_web_keeps_who_said_no_and_spools(settings, secrets, client, count):
    with serving(settings, secrets) as web:
        prepare(web, settings)
        assert ask(web, secrets, "mail", "ada") == "recorded"
        kept = {key: client.dump(key) for key in client.scan_iter("px:*")}
        client.flushall()
        assert ask(web, secrets, "mail", "ada") == "recorded"
        until(lambda: not web.get("/readyz").json()["store"]["is_known"])
        assert "was emptied" in warnings(web)
        for _ in range(3):
            assert_refused(web, secrets)
            assert ask(web, secrets, "mail", "ada") == "recorded"
        assert web.get("/api/campaigns").status_code == 503
        assert not list(client.scan_iter("px:{[0-9]}:*")), "nothing is written to an emptied store"
        assert web.get("/readyz").json()["spool"]["hits"] == 4
        for key, value in kept.items():
            client.restore(key, 0, value)
        until(lambda: "was emptied" not in warnings(web))
        until(lambda: web.get("/readyz").json()["spool"]["hits"] == 0)
        assert_refused(web, secrets)
        count()
        assert web.get("/api/campaigns/mail/stats").json()["totals"]["opens"] == 5
        assert web.get("/readyz").json()["losses"]["batches"] == 0


def test_store_emptied_web_restarted_knows_who_said_no(settings, secrets, client):
    with serving(settings, secrets) as web:
        prepare(web, settings)
    client.flushall()
    with serving(settings, secrets) as web:
        assert_refused(web, secrets)
        assert ask(web, secrets, "mail", "ada") == "recorded"
        assert "was emptied" in warnings(web)
        assert web.get("/readyz").status_code == 200
        assert not list(client.scan_iter("px:*"))


def test_redis_away_at_start_web_knows_who_withdrew(settings, secrets):
    with serving(settings, secrets) as web:
        prepare(web, settings)
    with serving(replace(settings, redis_url="unix:///nowhere/valkey.sock"), secrets) as web:
        assert_refused(web, secrets)
        assert ask(web, secrets, "mail", "ada") == "recorded"


def test_store_of_another_mark_is_refused_until_adopted(
    settings, secrets, client, count, monkeypatch, tmp_path
):
    with serving(settings, secrets) as web:
        prepare(web, settings)
        assert ask(web, secrets, "mail", "ada") == "recorded"
        until(lambda: list((settings.data / "acknowledged").glob("*.ack")))
        client.flushall()
        fresh = replace(settings, data=tmp_path / "elsewhere")
        with serving(fresh, secrets) as other:  # one with no memory begins it as a new store
            assert ask(other, secrets, "mail", "bob") == "recorded"
            until(lambda: "was emptied" in warnings(web))
            assert ask(web, secrets, "mail", "ada") == "recorded"
            assert web.get("/readyz").json()["spool"]["hits"] == 1
            for name, value in {
                "REDIS_URL": settings.redis_url,
                "PIXEL_DATA_DIR": str(settings.data),
                "PIXEL_API_KEY": API_KEY,
                "PIXEL_SECRET": "signing-key-of-the-tests",
                "PIXEL_RECIPIENT_SECRET": "recipient-secret-of-the-tests",
            }.items():
                monkeypatch.setenv(name, value)
            for cached in (context.context, context.known_mark):
                cached.cache_clear()
            assert drain(0) == 0, "workers that know the store from before do not count this one"
            assert run_command("campaign", "list").exit_code == 1
            done = run_command("store", "adopt", "--yes")
            assert (done.exit_code, done.output.splitlines()[-1][:21]) == (0, "adopted: 1 withdrawal"), (
                done.output
            )
            until(lambda: "was emptied" not in warnings(web))
            until(lambda: web.get("/readyz").json()["spool"]["hits"] == 0)
            for each in (web, other):
                until(lambda each=each: ask(each, secrets, "mail", "eve").startswith("ignored"))
                assert_refused(each, secrets)
                assert each.get("/p/page.gif").headers["x-pixel"] == "recorded"
            count()
            assert web.get("/api/campaigns/mail/stats").json()["totals"]["opens"] == 2
            until(lambda: "1 batches were lost, 1 hits" in warnings(web))
            assert run_command("store", "adopt", "--yes").exit_code == 1
    with serving(settings, secrets) as web:
        until(lambda: "1 batches were lost, 1 hits" in warnings(web))
        assert run_command("losses", "acknowledge").output.startswith("acknowledged ")
        until(lambda: "batches were lost" not in warnings(web))
    with serving(settings, secrets) as web:
        until(lambda: client.hget(keys.STORE, "mark"))
        assert "batches were lost" not in warnings(web)
    for cached in (context.context, context.known_mark):
        cached.cache_clear()


def test_store_of_the_version_before_gets_its_mark_at_start(settings, secrets, client):
    with serving(settings, secrets) as web:
        prepare(web, settings)
    client.hdel(keys.STORE, "mark", "marked")
    for shard in range(settings.shards):
        client.hdel(keys.producers(shard), "mark")
    (settings.data / FILE).unlink()
    with serving(settings, secrets) as web:
        assert ask(web, secrets, "mail", "ada") == "recorded"
        assert web.get("/readyz").json()["warnings"] == [
            "no worker has been seen for 10 s: hits are stored but not counted"
        ]
    assert client.hget(keys.STORE, "mark").decode() in (settings.data / FILE).read_text()
    assert all(client.hget(keys.producers(n), "mark") for n in range(settings.shards))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 9, "mark": 3}', b"\xff"])
def test_damaged_files_of_the_data_directory_end_nothing(settings, secrets, content):
    for name in (FILE, WITHDRAWALS, "losses.json", "campaigns.json"):
        (settings.data / name).write_bytes(content)
    with serving(settings, secrets) as web:
        assert ask(web, secrets, "mail", "ada") == "recorded"
        assert web.get("/readyz").status_code == 200

"""The job that refreshes the lists of networks, against a local server that plays those who publish them."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from dataclasses import replace
from ipaddress import ip_address

import pytest

from pixel_server.classify import network_fetch, network_refresh, network_store
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.network_store import RETRY_SECONDS, WEEK_SECONDS, ListCopies
from pixel_server.classify.networks import Networks
from pixel_server.secret import Secrets
from pixel_server.store import keys
from tests.publishers import OPENAI, ROWS, prefixes
from tests.redis_states import full
from tests.stack import until
from workers import networks
from workers.context import context
from workers.schedule import Schedule

NOW = 1_790_000_000
LATER = NOW + int(WEEK_SECONDS)


@pytest.fixture
def published(publishers, monkeypatch):
    """Returns the server that plays those who publish lists. It publishes all lists."""
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish_all()
    return publishers


@pytest.fixture
def names(client, tmp_path):
    """Returns a function that gives the names of the lists in the store that hold an address."""

    def names(address: str) -> tuple[str, ...]:
        ListCopies(tmp_path).update(client)
        return Networks.load(refreshed=tmp_path).names(ip_address(address).packed)

    return names


def refresh_openai(client, now: int) -> None:
    """Refreshes the list of OpenAI. The other lists are not due."""
    client.hset(keys.NETWORKS, mapping={f"{name} at": now for name in PUBLISHED if name != "openai"})
    networks.refresh(client, now)


def stored(client, field: str) -> str:
    return (client.hget(keys.NETWORKS, field) or b"").decode()


def test_refresh_all_lists_are_stored_until_next_week(client, published, names):
    networks.refresh(client, NOW)
    assert names("172.224.0.1") == ("apple",)
    assert names("66.249.64.1") == ("google",)
    assert names("104.47.0.1") == ("microsoft-eop",)
    assert names("20.171.7.1") == ("openai",)
    assert [stored(client, f"{name} error") for name in PUBLISHED] == ["", "", "", ""]
    assert int(stored(client, "next")) == LATER
    published.requests.clear()
    networks.refresh(client, NOW + 6 * 86_400)
    assert not published.requests, "no list is due"


def hang(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n{")
    with contextlib.suppress(OSError):
        connection.recv(1)  # until the client gives up


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    with contextlib.suppress(OSError):
        for _ in range(300):
            connection.sendall(b" " * (1 << 20))


ROWS_OF_OPENAI = [prefix["ipv4Prefix"] for prefix in json.loads(OPENAI)["prefixes"]]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {}, b"<!DOCTYPE html><title>Sign in to this Wi-Fi</title>"), "is not a list of prefixes"),
        ((200, {}, b""), "is not a list of prefixes"),
        ((200, {}, b"\n".join(row.encode() for row in ROWS[:100])), "is not a list of prefixes"),
        ((200, {"Content-Length": str(len(OPENAI))}, OPENAI[: len(OPENAI) // 2]), "ended early"),
        ((200, {}, OPENAI[: len(OPENAI) // 2]), "is not a list of prefixes"),
        ((200, {}, prefixes(*ROWS_OF_OPENAI[:100])), "only 100 ranges, and the list in use has 200"),
        ((200, {}, prefixes(*ROWS_OF_OPENAI[:20])), "only 20 ranges"),
        ((200, {}, prefixes(*ROWS_OF_OPENAI, "0.0.0.0/0")), "wider than /8"),
        ((200, {}, prefixes(*ROWS_OF_OPENAI, "10.0.0.0/8")), "is not a public network"),
        ((200, {}, prefixes(*ROWS_OF_OPENAI, "20.171.300.0/28")), "is not a network"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 20)) * 300), "is compressed"),
        ((302, {"Location": "http://portal.example/"}, b""), "redirects to another host"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "302"),
        ((404, {}, b""), "404"),
        ((500, {}, OPENAI), "500"),
        ((200, {}, b'{"prefixes": ' + b"[" * 100_000), "is not a list of prefixes"),
        (endless, "more than 64 MB"),
        (hang, "timed out"),
    ],
)
def test_refresh_bad_answer_keeps_the_list_and_tries_again(
    client, published, names, monkeypatch, caplog, answer, why
):
    monkeypatch.setattr(network_fetch, "SILENCE_TIMEOUT_SECONDS", 0.5)
    refresh_openai(client, NOW)
    before = stored_list(client)
    published.answers["/openai.json"] = answer
    refresh_openai(client, LATER)
    assert stored_list(client) == before
    assert names("20.171.199.1") == ("openai",)
    assert why in stored(client, "openai error")
    assert int(stored(client, "next")) == LATER + RETRY_SECONDS
    assert not [record for record in caplog.records if record.levelname != "INFO"], "quietly"

    published.publish("/openai.json", prefixes(*ROWS_OF_OPENAI, "203.0.113.0/24"))
    refresh_openai(client, LATER + RETRY_SECONDS)
    assert names("203.0.113.1") == ("openai",)
    assert stored(client, "openai error") == ""


def stored_list(client) -> list[bytes]:
    return client.hmget(keys.NETWORKS, ["openai", "openai version", "openai ranges", "openai at"])


def test_refresh_one_failure_refreshes_the_others_and_retries_that_one(client, published, names):
    published.answers["/apple.csv"] = (503, {}, b"")
    networks.refresh(client, NOW)
    assert names("66.249.64.1") == ("google",)
    assert "apple.csv: HTTP Error 503" in stored(client, "apple error")
    published.requests.clear()
    networks.refresh(client, NOW + RETRY_SECONDS)
    assert [path for path, _ in published.requests] == ["/apple.csv"]


def test_refresh_redis_is_full_keeps_the_list(client, published, names, caplog):
    refresh_openai(client, NOW)
    client.hset(keys.NETWORKS, "openai at", 0)
    published.publish("/openai.json", prefixes(*ROWS_OF_OPENAI, "203.0.113.0/24"))
    with full(client):
        networks._try(client, LATER)
    assert (names("20.171.7.1"), names("203.0.113.1")) == (("openai",), ())
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.fixture
def job(environment, settings, published, monkeypatch):
    """Returns a function that runs the job with a value of PIXEL_NETWORKS_REFRESH.

    Waits at the end for the job's threads, so that none of them outlives the server of this test.
    """
    Secrets.load_or_create(settings.data)

    def job(refresh: str) -> None:
        monkeypatch.setenv("PIXEL_NETWORKS_REFRESH", refresh)
        context.cache_clear()
        networks.run()

    yield job
    context.cache_clear()
    for thread in threading.enumerate():
        if thread.name == "networks":
            thread.join()


def test_job_is_due_fetches_once(job, client, published, settings):
    job("weekly")
    until(lambda: int(stored(client, "next") or 0) > client.time()[0] + network_store.CLAIM_SECONDS, 60)
    assert stored(client, "openai version")
    count = len(published.requests)
    job("weekly")
    assert client.eval(*network_store.claim_call()) == 0, "nobody tries before next week"
    assert len(published.requests) == count


def test_job_off_asks_nobody(job, client, published):
    job("off")
    assert not client.exists(keys.NETWORKS)
    assert not published.requests


def test_schedule_queue_away_refreshes_in_its_own_process(job, client, published, settings, monkeypatch):
    monkeypatch.setenv("PIXEL_NETWORKS_REFRESH", "weekly")
    context.cache_clear()
    schedule = Schedule(replace(settings, networks_refresh="weekly", queue_url="unix:///nowhere/valkey.sock"))
    schedule.tick()
    schedule.job_threads.wait()
    until(lambda: stored(client, "openai version"), 60)


def test_job_list_is_refreshed_while_its_thread_is_stuck(job, client, published, settings):
    """The worker counts hits meanwhile, and another worker tries after CLAIM_SECONDS."""
    is_over = threading.Event()
    published.answers["/apple.csv"] = lambda connection: is_over.wait()
    job("weekly")
    until(lambda: published.requests, 60)
    assert int(stored(client, "next")) <= client.time()[0] + network_store.CLAIM_SECONDS
    client.hset(keys.NETWORKS, "next", client.time()[0])
    published.publish_all()
    job("weekly")
    until(lambda: stored(client, "openai version"), 60)
    is_over.set()


def test_settings_of_tests_and_of_their_processes_are_off(settings, monkeypatch):
    assert settings.networks_refresh == "off"
    assert replace(settings).from_env().networks_refresh == "off"

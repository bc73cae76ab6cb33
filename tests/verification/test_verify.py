"""`pixel-server verify`: a good store has no fault, and each fault that is put in by hand is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from pixel_server.cli import main
from pixel_server.counters import series
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.verification import store_check
from tests.conftest import API_KEY
from tests.stack import READER
from workers import merge
from workers.rollup_pass import Outcome, Rollup

MANY_SHARDS = 9
"""Number of shards of a store whose values are merged over all shards."""
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def settings(settings) -> Settings:
    return replace(settings, shards=MANY_SHARDS)


@pytest.fixture
def secrets(settings) -> Secrets:
    return Secrets.load_or_create(settings.data)


@pytest.fixture
def filled(web, settings, secrets, client) -> None:
    """Fills the store: a mail with a list and opens, and a web campaign. Hits wait in one shard."""
    for body in (
        {"id": "mail", "name": "mail", "kind": "email", "mode": "identified"},
        {"id": "site", "name": "site", "kind": "web", "identity": "cookie"},
    ):
        assert web.post("/api/campaigns", json=body).status_code == 201
    people = "".join(json.dumps({"recipient": f"r{n}", "name": f"R {n}"}) + "\n" for n in range(30))
    headers = {"Content-Type": "application/x-ndjson"}
    assert web.put("/api/campaigns/mail/recipients", content=people, headers=headers).status_code == 200
    minter = Minter("http://pixel.test", secrets)
    open_all(web, minter)
    count(client, settings, secrets)
    erased = web.delete(f"/api/recipients/{secrets.recipient_key('r3').hex()}").json()
    assert erased["removed"]["opens"] == erased["removed"]["listed"] == 1
    for _ in range(2):  # the second merge leaves the names of the newest changes behind
        count(client, settings, secrets)
        assert merge.merge(client, settings)
        client.hdel(keys.MERGED, "busy_until")
        open_all(web, minter)


def open_all(web, minter: Minter) -> None:
    for n in range(20):
        agent = READER if n % 4 else "Googlebot/2.1"
        assert web.get(minter.url("mail", f"r{n}"), headers={"User-Agent": agent}).status_code == 200
        web.get("/p/site.gif", params={"u": f"https://e.org/{n % 3}"}, headers={"User-Agent": FIREFOX})


def count(client, settings: Settings, secrets: Secrets) -> None:
    """Counts all hits, as the workers do."""
    for shard in range(MANY_SHARDS):
        rollup = Rollup(client, settings, secrets, shard)
        while rollup.run_pass(client.time()[0]) is Outcome.COUNTED:
            pass


def faults_of(settings: Settings) -> list[str]:
    async def verify() -> list[str]:
        store = connect_async(settings.redis_url)
        try:
            return [fault async for fault in store_check.verify(store, settings)]
        finally:
            await store.aclose()

    return asyncio.run(verify())


def restore(client, good) -> None:
    """Empties the store and restores keys. good: (serialized value, ms to live) by name."""
    pipe = client.pipeline(transaction=False)
    pipe.flushdb()
    for name, (value, ttl) in good.items():
        pipe.restore(name, max(0, ttl), value, replace=True)  # the server may have enqueued a job
    pipe.execute()


def first(client, pattern: str) -> str:
    """Returns a key that matches."""
    return min(client.scan_iter(match=pattern, count=1000)).decode()


def add_to_total(client) -> None:
    client.hincrby(first(client, "px:{?}:total:mail"), "hits", 1)


def remove_a_day(client) -> None:
    client.delete(first(client, "px:{?}:months:mail"))


def remove_buckets(client) -> None:
    client.delete(first(client, "px:{?}:buckets:mail:*"))


def add_to_a_bucket(client) -> None:
    key = first(client, "px:{?}:buckets:mail:*")
    cells = series.unpack(client.get(key))
    next(iter(cells.values()))[series.OPENS] += 1
    client.set(key, series.pack(cells))


def remove_recipients(client) -> None:
    """Removes the recipients of the shard that has most of them: more than the one who was erased."""
    names = [list(client.scan_iter(match=f"px:{{{n}}}:people:mail:*")) for n in range(MANY_SHARDS)]
    client.delete(*max(names, key=len))


def move_a_recipient(client) -> None:
    key = first(client, "px:{?}:people:mail:*")
    bucket = "000" if not key.endswith("000") else "001"
    client.rename(key, f"{key[:-3]}{bucket}")


def count_a_class_twice(client) -> None:
    client.hincrby(first(client, "px:{?}:total:mail"), "recipients_person", -5)  # more than were erased


def move_the_checkpoint(client) -> None:
    shard = next(shard for shard in range(MANY_SHARDS) if client.xlen(keys.hits(shard)))
    client.hset(keys.checkpoint(shard), "id", client.xrange(keys.hits(shard), "-", "+", 1)[0][0])


def add_an_unknown_key(client) -> None:
    client.set("px:{0}:future", "1")


def add_a_shard(client) -> None:
    client.hset(keys.total(MANY_SHARDS, "mail"), "hits", 1)


def raise_a_format(client) -> None:
    key = first(client, "px:{?}:people:mail:*")
    recipient, value = next(iter(client.hgetall(key).items()))
    client.hset(key, recipient, value[:1] + b"\x63" + value[2:])


def damage_a_value(client) -> None:
    client.hset(first(client, "px:{?}:web:site:*"), "page", b"\x92\x01\xff")


def change_a_type(client) -> None:
    key = first(client, "px:{?}:rules:mail")
    client.delete(key)
    client.set(key, "1")


def change_a_merged_value(client) -> None:
    client.hincrby(keys.total("all", "mail"), "hits", 1)


def remove_a_campaign_record(client) -> None:
    client.delete(keys.campaign("site"))


def forget_a_visit(client) -> None:
    client.delete(first(client, "px:{?}:lasts"))


def change_views(client) -> None:
    key = first(client, "px:{?}:web:site:*")
    client.hset(key, "browser", msgspec.msgpack.encode((1, {"Firefox": [999, 1]})))


def store_a_newer_list_of_networks(client) -> None:
    client.hset(keys.NETWORKS, mapping={"apple": b"\x02...", "apple version": "1f3a", b"\xff": "?"})


def add_to_the_sample(client) -> None:
    key = first(client, "px:{?}:sample:site:*")
    record = next(iter(client.hvals(key)))
    client.hset(key, mapping={b"extra%03d" % number: record for number in range(99)})


def lose_the_mark(client) -> None:
    client.hset(keys.producers(0), "mark", "0" * 16)


FAULTS: dict[Callable[..., None], str] = {
    add_to_total: "total hits is",
    remove_a_day: "its days say 0",
    remove_buckets: "its buckets say 0",
    add_to_a_bucket: "opens, its buckets say",
    remove_recipients: "the recipients say",
    move_a_recipient: "belongs to another bucket",
    count_a_class_twice: "total recipients_person is",
    move_the_checkpoint: "is counted",
    add_an_unknown_key: "px:{0}:future is a key that this version does not know",
    add_a_shard: "is of a shard that the store does not have (it has 9)",
    raise_a_format: "recipient of format 99, this version reads 3",
    damage_a_value: "has the field b'page', which cannot be read",
    change_a_type: "is a string, it should be a hash",
    change_a_merged_value: "px:{all}:total:mail differs from the sum of its shards",
    remove_a_campaign_record: "is of campaign site, which does not exist",
    forget_a_visit: "differ in 1 visits",
    change_views: "its breakdown by browser says 999 and 1",
    store_a_newer_list_of_networks: "list of format 2, this version reads 1",
    add_to_the_sample: "its sample says",
    lose_the_mark: "has the mark b'0000000000000000'",
}
"""Faults, each with words of the line that reports it."""


def test_verify_each_fault_put_in_by_hand_is_reported(filled, settings, client):
    assert faults_of(settings) == []
    good = {name: (client.dump(name), client.pttl(name)) for name in client.scan_iter(count=1000)}
    for put_in, words in FAULTS.items():
        put_in(client)
        found = faults_of(settings)
        assert any(words in fault for fault in found), (put_in.__name__, found)
        restore(client, good)
    assert faults_of(settings) == []


def test_verify_command_prints_each_fault_and_exits_with_1(filled, settings, client):
    environ = {
        "PIXEL_DATA_DIR": str(settings.data),
        "REDIS_URL": settings.redis_url,
        "PIXEL_SHARDS": str(MANY_SHARDS),
        "PIXEL_API_KEY": API_KEY,
    }
    good = CliRunner().invoke(main, ["verify"], env=environ)
    assert (good.exit_code, good.stdout.endswith(" keys read, 0 faults\n")) == (0, True), good.output
    add_an_unknown_key(client)
    bad = CliRunner().invoke(main, ["verify"], env=environ)
    assert (bad.exit_code, bad.stdout) == (1, "px:{0}:future is a key that this version does not know\n")
    shown = json.loads(CliRunner().invoke(main, ["verify", "--json"], env=environ).stdout)
    assert len(shown["items"]) == 1

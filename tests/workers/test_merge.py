"""The merge: with many shards, figures from merged values are those from all shards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis

from pixel_server import hit
from pixel_server.figures import campaign_order, hyperloglog, sources
from pixel_server.figures.sources import Sources
from pixel_server.hit import Hit
from pixel_server.recipients import erasure
from pixel_server.store import checkpoint, keys, merged
from pixel_server.store.client import connect, connect_async
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Token
from tests.cluster_nodes import running_cluster
from tests.conftest import NOW
from workers import merge, merge_values

SHARDS = 9
CAMPAIGNS = ("mail", "page")


@pytest.fixture
def settings(settings):
    return replace(settings, shards=SHARDS)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Lets a merge begin at once after another has ended or failed."""
    monkeypatch.setattr(merge, "MAX_REST_MS", 0)
    monkeypatch.setattr(merged, "LEASE_MS", 0)
    monkeypatch.setattr(campaign_order, "MAX_AGE_SECONDS", -1.0)  # each list is sorted anew


@pytest.fixture
def ask(site) -> Callable[..., list[object]]:
    """Returns a function that returns the figures of both campaigns, without the times at which they hold.

    is_short: whether to leave out lists, breakdowns and ranges.
    """

    def ask(is_short: bool = False) -> list[object]:
        paths = [f"/api/campaigns/{campaign}/stats" for campaign in CAMPAIGNS]
        if is_short:
            return [site.get(path).json() | {"as_of": None} for path in paths]
        paths += [path + "?from=2026-09-20&to=2026-09-22&interval=15m" for path in paths]
        paths += ["/api/campaigns/page/stats?from=2026-09-19&to=2026-09-23", "/api/campaigns/page/breakdowns"]
        answers = [site.get(path) for path in (*paths, "/api/overview")]
        assert {answer.status_code for answer in answers} == {200}
        figures = [answer.json() for answer in answers]
        for each in figures:
            each.pop("as_of", None), each.pop("ordered_as_of", None)
        return figures

    return ask


@pytest.fixture
def from_shards(ask, monkeypatch) -> Callable[..., list[object]]:
    """Returns a function that does the same as `ask`, from the values of all shards."""

    def from_shards(is_short: bool = False) -> list[object]:
        with monkeypatch.context() as patch:
            patch.setattr(merged, "MERGED_ABOVE", SHARDS)
            return ask(is_short)

    return from_shards


@pytest.fixture
def hits(client, mail, page, count, secrets, clock) -> Callable[[int], None]:
    """Returns a function that counts so many random hits of both campaigns, of three days."""
    mail(sent=500)
    page(identity="cookieless")
    draw = random.Random(25)

    def add(number: int) -> None:
        for _ in range(number):
            is_mail, who, at = draw.random() < 0.6, draw.randrange(60), draw.randrange(-2 * 86_400, 1)
            person = secrets.recipient_key(f"person-{who}")
            record = Hit(
                time=int(NOW + at) * 1000,
                campaign="mail" if is_mail else "page",
                kind=hit.EMAIL if is_mail else hit.WEB,
                method="GET",
                flags=Token("mail", 0).flags if is_mail else 0,
                token_time=int(NOW) - 300_000 if is_mail else 0,
                recipient=person if is_mail else b"",
                address=person[:4],
                agent=draw.choice(
                    ["Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "Mozilla/5.0 (iPhone)", "bot"]
                ),
                page="" if is_mail else f"https://example.org/{draw.randrange(9)}",
            )
            batch = hit.encode_batch([hit.encode(record)])
            client.xadd(keys.hits(shard_of(person, SHARDS)), {"1": batch})
        count(NOW)

    return add


@pytest.fixture
def merge_all(client, settings) -> Callable[[], bool]:
    return lambda: merge.merge(client, settings)


def is_merged(client) -> bool:
    return client.hexists(keys.MERGED, "as_of")


def merged_and_parts(client) -> tuple[set[str], set[str]]:
    """Returns the names of the keys that figures read, without the tag: the merged keys, those of shards."""
    kinds = {"total", "rules", "breakdown", "months", "addresses", "visitors", "web", "buckets"}
    names: tuple[set[str], set[str]] = set(), set()
    for key in client.scan_iter("px:*", count=5000):
        _, tag, kind, *rest = key.decode().split(":")
        if kind in kinds and rest[0] in CAMPAIGNS:
            names[tag != "{all}"].add(":".join([kind, *rest]))
    return names


def assert_exact(client, ask, from_shards, is_short: bool = False) -> None:
    """Asserts that the merged values are those of all shards: the figures, and the estimates' registers."""
    assert is_merged(client)
    assert ask(is_short) == from_shards(is_short)
    names, names_in_shards = merged_and_parts(client)
    assert names == names_in_shards
    listed = [int(client.hget(keys.total(shard, "mail"), "listed") or 0) for shard in range(SHARDS)]
    assert sum(listed) == int(client.hget(keys.total("all", "mail"), "listed") or 0)
    for name in names:
        if merge_values.kind(name) in merge_values.HYPERLOGLOGS:
            parts = [client.get(f"px:{{{shard}}}:{name}") for shard in range(SHARDS)]
            assert client.pfcount(f"px:{{all}}:{name}") == hyperloglog.count_union(parts)


def test_merge_hits_in_turn_figures_are_those_of_all_shards(client, hits, merge_all, ask, from_shards):
    for number in (200, 30, 1, 0):
        hits(number)
        assert merge_all()
        assert_exact(client, ask, from_shards)
    newest = client.zrange(keys.changed(0), -1, -1, withscores=True)[0][1]
    assert client.zcount(keys.changed(0), "-inf", f"({newest}") == 0


def test_merge_figures_say_until_when_they_hold(client, hits, merge_all, site):
    hits(20)
    merge_all()
    as_of = int(client.hget(keys.MERGED, "as_of"))
    waiting = client.xadd(keys.hits(3), {"1": b"a hit that is not counted"})
    assert site.get("/api/campaigns/mail/stats").json()["as_of"] == iso(as_of)
    merge_all()
    assert site.get("/api/campaigns/mail/stats").json()["as_of"] == iso(int(waiting.split(b"-")[0]))


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_merge_values_removed_are_removed_from_the_sums(
    client, hits, merge_all, ask, from_shards, site, put_list, sweep, clock
):
    hits(150)
    merge_all()
    put_list([f"person-{n}" for n in range(9)])
    site.patch("/api/campaigns/page", json={"keep": {"days": 2, "buckets": 1}})
    clock.now = NOW + 86_400
    removed = sweep()
    assert removed["days"]
    assert removed["buckets"]
    before, _ = merged_and_parts(client)
    merge_all()
    assert merged_and_parts(client)[0] < before
    assert_exact(client, ask, from_shards)


def test_merge_campaign_deleted_leaves_nothing(client, hits, merge_all, site):
    hits(50)
    merge_all()
    assert all(merged_and_parts(client))
    assert site.delete("/api/campaigns/page").status_code == 204
    for _ in range(2):
        assert not any("page" in name for names in merged_and_parts(client) for name in names)
        merge_all()


def test_merge_campaign_deleted_meanwhile_leaves_nothing(client, hits, merge_all, site, monkeypatch):
    hits(30)
    merge_all()
    hits(30)
    write = merged.write

    def delete_and_write(*arguments):
        monkeypatch.setattr(merged, "write", write)
        assert site.delete("/api/campaigns/page").status_code == 204
        return write(*arguments)

    monkeypatch.setattr(merged, "write", delete_and_write)
    assert merge_all()
    assert not any("page" in name for names in merged_and_parts(client) for name in names)


def change(client, number: int) -> None:
    """Changes values of both campaigns in one shard."""
    shard = number % SHARDS
    generation = checkpoint.read_checkpoint(client, shard).generation
    commands = [("HINCRBY", keys.total(shard, campaign), "hits", "3") for campaign in CAMPAIGNS]
    commands.append(("HINCRBY", keys.rules(shard, "mail"), "a rule", "1"))
    commands.append(("PFADD", keys.addresses(shard, "mail"), b"%d" % number))
    assert checkpoint.commit(client, shard, generation, "", commands)


class Broken:
    """A client whose commands fail from a given one on, before or after it is carried out."""

    def __init__(self, client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
        self.left, self.is_late = 0, False
        pipeline = client.pipeline(transaction=False)
        for owner, name in ((type(client), "eval"), (type(pipeline), "execute")):
            patch.setattr(owner, name, self._breaking(getattr(owner, name)))

    def _breaking(self, carry_out):
        def run(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                if self.is_late:
                    carry_out(*arguments, **options)
                raise redis.ConnectionError("broken by the test")
            return carry_out(*arguments, **options)

        return run


def test_merge_ended_at_any_step_is_repeated_without_harm(
    client, hits, merge_all, ask, from_shards, monkeypatch
):
    monkeypatch.setattr(merge, "WRITE_BYTES", 50_000)
    for begins_anew in (False, True):
        step, has_ended = 0, False
        while not has_ended:
            step += 1
            change(client, step)
            if begins_anew:
                client.delete(keys.changed(5))
            with monkeypatch.context() as patch:
                broken = Broken(client, patch)
                broken.left, broken.is_late = step, step % 2 == 1
                try:
                    merge_all()
                    has_ended = True
                except redis.ConnectionError:
                    pass
            assert merge_all()
            assert_exact(client, ask, from_shards, is_short=True)
        assert step > 6


def save(client, tag: str) -> Callable[[], None]:
    """Returns a function that takes the keys of a tag back to what they are now.

    Call it as when a replica without the newest changes takes over.
    """
    saved = {name: client.dump(name) for name in client.scan_iter(f"px:{{{tag}}}:*", count=5000)}

    def go_back() -> None:
        pipe = client.pipeline()  # at once, so that the app never meets an emptied store
        if names := list(client.scan_iter(f"px:{{{tag}}}:*", count=5000)):
            pipe.delete(*names)
        for name, value in saved.items():
            pipe.restore(name, 0, value)
        pipe.execute()

    return go_back


@pytest.mark.parametrize("tag", ["all", "0"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_merge_after_lost_changes_figures_are_those_of_all_shards(
    client, hits, merge_all, ask, from_shards, tag, goes_on
):
    hits(60)
    merge_all()
    go_back = save(client, tag)
    hits(40)
    merge_all()
    go_back()
    if goes_on:
        hits(40)
    merge_all()
    assert_exact(client, ask, from_shards)


@pytest.mark.parametrize("seed", range(3))
def test_merge_after_random_events_figures_are_those_of_all_shards(
    client, hits, merge_all, ask, from_shards, put_list, erase, monkeypatch, seed
):
    draw = random.Random(seed)
    going_back = [save(client, "all")]

    def merge_and_fail() -> None:
        with monkeypatch.context() as patch:
            broken = Broken(client, patch)
            broken.left, broken.is_late = draw.randrange(1, 12), draw.random() < 0.5
            with suppress(redis.ConnectionError):
                merge_all()

    events: list[Callable[[], object]] = [
        lambda: hits(draw.randrange(1, 20)),
        lambda: put_list([f"person-{draw.randrange(90)}" for _ in range(4)]),
        lambda: erase(f"person-{draw.randrange(60)}"),
        merge_all,
        merge_and_fail,
        lambda: going_back.append(save(client, draw.choice(["all", *map(str, range(SHARDS))]))),
        lambda: [go_back() for go_back in draw.sample(going_back, 1)],
    ]
    for _ in range(20):
        draw.choice(events)()
    hits(1)
    assert merge_all()
    assert_exact(client, ask, from_shards)


@pytest.fixture
def put_list(site) -> Callable[[list[str]], None]:
    """Returns a function that puts recipients on the list of the mail."""

    def put(recipients: list[str]) -> None:
        content = "\n".join(["recipient", *recipients])
        path, head = "/api/campaigns/mail/recipients", {"Content-Type": "text/csv"}
        assert site.put(path, content=content, headers=head).status_code == 200

    return put


@pytest.fixture
def erase(settings, secrets) -> Callable[[str], None]:
    """Returns a function that erases a recipient."""

    async def run(recipient: str) -> None:
        store = connect_async(settings.redis_url)
        try:
            await erasure.request_erasure(store, secrets, secrets.recipient_key(recipient), NOW, SHARDS)
        finally:
            await store.aclose()

    return lambda recipient: asyncio.run(run(recipient))


def test_merge_writer_of_an_earlier_version_merges_all_values(client, hits, merge_all, ask, from_shards):
    """An earlier version notes no changes."""
    hits(60)
    merge_all()
    client.hincrby(keys.total(2, "mail"), "opens", 7)
    client.hset(keys.checkpoint(2), mapping={"n": 1000, "mark": "another"})
    merge_all()
    assert_exact(client, ask, from_shards)


def test_merge_overtaken_by_another_writes_nothing(client, hits, merge_all, settings, monkeypatch):
    hits(20)
    look = merged.look

    def look_and_be_overtaken(*arguments):
        looks = look(*arguments)
        monkeypatch.setattr(merged, "look", look)
        hits(20)
        assert merge_all()
        monkeypatch.setattr(
            merged, "write", lambda *arguments: writes.append(write(*arguments)) or writes[-1]
        )
        return looks

    write, writes = merged.write, []
    monkeypatch.setattr(merged, "look", look_and_be_overtaken)
    with pytest.raises(merge.Overtaken):
        merge_all()
    assert writes == [False]


def test_merge_under_way_lets_no_other_begin(client, hits, merge_all, monkeypatch):
    hits(5)
    monkeypatch.setattr(merged, "LEASE_MS", 60_000)
    assert merged.begin(client, "another") is not None
    assert not merge_all()


def test_merge_on_a_cluster_adds_up_the_shards_of_all_nodes(tmp_path, settings):
    async def sources_of(url: str) -> Sources:
        store = connect_async(url)
        try:
            return await sources.find(store, SHARDS)
        finally:
            await store.aclose()

    for cluster in running_cluster(tmp_path, 3):
        with connect(cluster.url) as client:
            client.zadd(keys.CAMPAIGNS, dict.fromkeys(CAMPAIGNS, 0))
            for number in range(2 * SHARDS):
                change(client, number)
                if number % SHARDS == 0:
                    assert merge.merge(client, settings)
            assert merge.merge(client, settings)
            assert client.hget(keys.total("all", "mail"), "hits") == b"%d" % (3 * 2 * SHARDS)
            assert client.pfcount(keys.addresses("all", "mail")) == 2 * SHARDS
        assert asyncio.run(sources_of(cluster.url)).tags == ("all",)


def test_stats_nobody_merges_any_more_reads_the_shards(client, hits, merge_all, ask, from_shards):
    hits(30)
    merge_all()
    client.hset(keys.MERGED, "merged_at", 0)
    hits(30)
    assert ask() == from_shards()


def test_stats_and_list_many_shards_take_as_many_commands_as_one_shard(client, hits, merge_all, ask):
    hits(100)
    merge_all()

    def commands() -> int:
        before = client.info("stats")["total_commands_processed"]
        ask()
        return client.info("stats")["total_commands_processed"] - before

    assert commands() < 250
    client.hdel(keys.MERGED, "as_of")
    assert commands() > 500

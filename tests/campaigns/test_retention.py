"""Retention removes data that are too old. Figures of removed data are null; other figures stay."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import AsyncMock

import pytest

from pixel_server.campaigns import purge, storage
from pixel_server.campaigns.campaign import encode, new_campaign
from pixel_server.hit import UnreadableData
from pixel_server.mail.links import Minter
from pixel_server.settings import Settings
from pixel_server.store import keys, replication
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode
from workers import retention, retention_campaign
from workers.removals import no_removals

LIST = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        keep_buckets=3,
        keep_days=30,
        keep_recipients=20,
        keep_names=10,
        keep_dead_letters=7,
    )


@pytest.fixture(autouse=True)
def few_keys_at_once(few_buckets):
    """Removes 64 keys at once, so that fewer keys still take several steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purge, "_STEP", 64)
        yield


def key_names(client, pattern):
    return sorted(name.decode() for name in client.scan_iter(f"px:{{*}}:{pattern}"))


def upload(site, *rows, campaign="mail"):
    body = "".join(f'{{"recipient": "{recipient}", "name": "{name}"}}\n' for recipient, name in rows)
    return site.put(f"/api/campaigns/{campaign}/recipients", content=body, headers=LIST)


def test_retention_series_are_removed_day_by_day(mail, opened, stats, sweep, clock, client):
    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    opened("2026-03-20T09:00Z", "bob")
    stats("mail")
    assert len(key_names(client, "buckets:*")) == 2
    taken = sweep()
    assert (taken["buckets"], taken["days"]) == (1, 0)
    [bucket] = key_names(client, "buckets:*")
    assert bucket.endswith("20260320")
    figures = stats("mail", from_="2026-03-01", to="2026-03-21")
    assert (figures["totals"]["hits"], figures["series"][0]["hits"]) == (2, 1)
    assert set(stats("mail", interval="hour", from_="2026-03-01", to="2026-03-21")["totals"].values()) == {
        None
    }

    clock.at("2026-04-05T09:00Z")
    assert sweep()["days"] == 1
    figures = stats("mail", from_="2026-03-01", to="2026-03-21")
    assert set(figures["totals"].values()) == {None}
    assert (figures["series"][0]["hits"], figures["series"][19]["hits"]) == (None, 1)
    assert figures["open_rate"] is None
    assert stats("mail")["totals"]["unique_opens"] == 2
    assert sweep() == {}, "nothing is left to take"


def test_retention_raised_setting_leaves_removed_figures_null(mail, opened, stats, sweep, clock, settings):
    from pixel_server.figures import ranges
    from pixel_server.figures import stats as figures

    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2026-04-05T09:00Z")
    sweep()
    more = replace(settings, keep_days=1000, keep_buckets=1000)

    async def read():
        from pixel_server.store.client import connect_async

        client = connect_async(settings.redis_url)
        campaign = await storage.get(client, "mail")
        hits = []
        for interval in ("hour", "day"):
            query = {"from": "2026-03-01", "to": "2026-03-02", "interval": interval}
            reading = ranges.parse(query, "UTC", clock.now)
            hits.append((await figures.read(client, campaign, reading, more, clock.now))["totals"]["hits"])
        await client.aclose()
        return hits

    import asyncio

    assert asyncio.run(read()) == [None, None]


def test_retention_late_hit_counts_in_totals_only(mail, opened, stats, sweep, clock, client):
    mail()
    opened("2026-03-01T09:00Z", "ada")  # waits, as in a spool
    clock.at("2026-04-05T09:00Z")
    sweep()
    assert stats("mail")["totals"]["unique_opens"] == 1
    assert key_names(client, "buckets:*") == key_names(client, "months:*") == []


def test_retention_daily_visitors_are_removed_with_their_day(page, viewed, stats, sweep, clock, client):
    page()
    viewed("2026-03-01T09:00Z", "ada")
    stats("page")
    assert len(key_names(client, "visitors:page:*")) == 1
    clock.at("2026-04-05T09:00Z")
    assert sweep()["days"] == 1
    assert key_names(client, "visitors:page:*") == []
    assert stats("page")["totals"]["unique_visitors"] == 1


def test_retention_campaign_closes_and_its_recipients_are_removed(
    mail, opened, stats, sweep, clock, client, site
):
    clock.at("2026-03-01T00:00Z")
    mail(mode="identified", sent=10, sent_at="2026-03-01T08:00:00Z")
    assert upload(site, ("ada", "Ada"), ("eve", "Eve")).status_code == 200
    opened("2026-03-01T09:00Z", "ada")
    opened("2026-03-02T09:00Z", "bob")
    before = stats("mail")
    assert before["closed_at"] is None
    clock.at("2026-03-11T07:59Z")
    assert sweep()["names"] == 0
    clock.at("2026-03-11T08:00Z")
    assert sweep()["names"] > 0
    assert (key_names(client, "names:*"), len(key_names(client, "listed:*"))) == ([], 2)
    assert upload(site, ("ada", "Ada")).status_code == 409
    clock.at("2026-03-21T07:59Z")
    assert sweep()["recipients"] == 0
    clock.at("2026-03-21T08:00Z")
    assert sweep()["recipients"] > 0
    assert key_names(client, "people:*") == key_names(client, "listed:*") == []

    opened("2026-03-21T09:00Z", "ada")
    opened("2026-03-21T09:00Z", "new")
    after = stats("mail")
    assert after["closed_at"] == "2026-03-21T08:00:00.000Z"
    assert after["totals"]["opens"] == 4
    for name in ("unique_opens", "unique_ips", "opens_anonymous"):
        assert after["totals"][name] == before["totals"][name]
    assert after["open_rate"] == before["open_rate"]
    assert key_names(client, "people:*") == []
    assert site.get("/api/campaigns/mail").json()["closed_at"] == "2026-03-21T08:00:00Z"
    assert upload(site, ("ada", "Ada")).status_code == 409
    links = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]})
    assert (links.status_code, "closed" in links.json()["detail"]) == (409, True)
    lines = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert [line for line in lines if "removed" in line] == ["recipients.removed", "names.removed"]


@pytest.mark.parametrize("last", ["hit", "link", "upload", "offline link"])
def test_retention_without_sent_at_starts_at_the_last_use(
    mail, opened, stats, sweep, clock, client, site, secrets, last
):
    clock.at("2026-03-01T00:00Z")
    mail(mode="identified")
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2026-03-15T09:00Z")
    if last == "link":
        assert site.post("/api/campaigns/mail/links", json={"recipients": ["bob"]}).status_code == 200
    elif last == "upload":
        assert upload(site, ("bob", "Bob")).status_code == 200
    elif last == "offline link":
        site.get(Minter("http://pixel.test", secrets).url("mail", "bob", now=clock.now))
        stats("mail")
    clock.at("2026-03-21T10:00Z")
    assert (sweep()["recipients"] > 0) == (last == "hit")
    clock.at("2026-04-04T10:00Z")
    sweep()
    assert (
        key_names(client, "people:*") == key_names(client, "listed:*") == key_names(client, "names:*") == []
    )


def test_retention_rulesets_of_removed_days_are_removed(mail, opened, stats, sweep, clock, client):
    """A ruleset changes each week, with the lists of networks."""
    mail()
    opened("2026-03-01T09:00Z", "ada")
    [used] = stats("mail")["rulesets"]
    [key] = key_names(client, "rules:mail")
    day = datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    for days, name in ((0, "old/00000000"), (2, "newer/00000000")):
        last = int(day) + days * 86_400
        client.hset(key, mapping={f"{name} from": last - 60, f"{name} to": last})
    assert [each["ruleset"] for each in stats("mail")["rulesets"]] == [
        used["ruleset"],
        "old/00000000",
        "newer/00000000",
    ]
    clock.at("2026-04-05T09:00Z")
    assert sweep()["days"] == 1
    assert [each["ruleset"] for each in stats("mail")["rulesets"]] == ["newer/00000000"]
    assert stats("mail")["rules"] == {"mail-client": 1}


def test_retention_campaign_keeps_fewer_days_than_the_server(mail, opened, stats, sweep, clock, site, client):
    mail(keep={"recipients": 2, "buckets": 1, "days": 5})
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2026-03-03T09:00Z")
    sweep()
    assert key_names(client, "people:*") == key_names(client, "buckets:*") == []
    for keep in ({"recipients": 21}, {"names": 0}, {"recipients": True}, {"visits": 1}, 3):
        response = site.patch("/api/campaigns/mail", json={"keep": keep})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "keep")
    assert site.patch("/api/campaigns/mail", json={"keep": {"names": 10}}).json()["keep"] == {"names": 10}


def test_retention_privacy_page_shows_the_days(mail, site, clock):
    clock.at("2026-03-01T00:00Z")
    mail(mode="identified", keep={"recipients": 2})
    [link] = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]}).json()["links"]
    shown = site.get(link["privacy_url"]).text
    for days in ("3 days", "30 days", "2 days", "10 days", "7 days"):
        assert f"<dd>{days}</dd>" in shown


def test_retention_lowered_mode_removes_recipients(mail, opened, stats, sweep, client, site):
    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    site.patch("/api/campaigns/mail", json={"mode": "count"})
    assert sweep()["recipients"] == 1
    opened("2026-03-01T10:00Z", "ada")
    figures = stats("mail")
    assert (figures["totals"]["opens"], figures["totals"]["opens_anonymous"], figures["closed_at"]) == (
        2,
        1,
        None,
    )
    assert key_names(client, "people:*") == []


def test_retention_removal_not_replicated_is_repeated(mail, opened, stats, sweep, client, site, monkeypatch):
    """A promoted replica would still have the data, and the campaign's record would say that it is gone."""
    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    (people,) = key_names(client, "people:*")
    value = client.hgetall(people)
    site.patch("/api/campaigns/mail", json={"mode": "count"})
    confirm = AsyncMock(side_effect=replication.NotReplicatedError("no replica"))
    monkeypatch.setattr(replication, "confirm", confirm)
    assert sweep() == {}
    client.hset(people, mapping=value)  # a replica that lacks the removal takes over
    monkeypatch.undo()
    assert sweep() == {"recipients": 1}
    assert key_names(client, "people:*") == []
    assert sweep() == {}


def test_retention_days_of_last_opens_are_removed(mail, opened, stats, sweep, clock, client, site, secrets):
    mail(mode="last")
    clock.at("2026-03-01T09:00Z")
    minter = Minter("http://pixel.test", secrets)
    for recipient in ("ada", "bob"):
        site.get(minter.url("mail", recipient, mode=Mode.LAST, now=clock.now))
    stats("mail")
    clock.at("2026-03-15T09:00Z")
    site.get(minter.url("mail", "bob", mode=Mode.LAST, now=clock.now))
    stats("mail")
    clock.at("2026-03-22T00:00Z")
    taken = 0
    for _ in range(24):
        taken += sweep()["days of last opens"]
        clock.now += 3600
    assert taken == 1
    assert sum(client.hlen(name) for name in key_names(client, "last:*")) == 1


def test_retention_dead_letters_are_removed(sweep, clock, client):
    old = UnreadableData(b"old", "no hit")
    clock.at("2026-03-10T00:00Z")
    for day in (2, 4):
        ms = int(clock.now * 1000) - (10 - day) * 86_400_000
        client.xadd(keys.dead(1), {"reason": old.reason, "data": old.data}, id=f"{ms}-0")
    assert sweep() == {"dead letters": 1}
    assert client.xlen(keys.dead(1)) == 1


def test_retention_run_cut_off_is_continued(mail, opened, stats, sweep, clock, client, monkeypatch):
    """A run is cut off at each of its first ten commands, then at some later ones. The next does the rest."""
    from redis.asyncio import Redis

    real, commands_left = Redis.execute_command, [0]

    async def execute(self, *args, **options):
        commands_left[0] -= (
            threading.current_thread() is threading.main_thread()
        )  # the site has one of its own
        if commands_left[0] == 0:
            commands_left[0] = -1
            raise ConnectionError("cut off")
        return await real(self, *args, **options)

    cut = 0
    while True:
        cut += 1 if cut < 10 else cut // 3
        for name in client.keys("px:*mail*"):
            client.delete(name)
        clock.at("2026-03-01T00:00Z")
        campaign = new_campaign("mail", "mail", "email")
        client.hset(keys.campaign("mail"), "record", encode(campaign))
        client.zadd(keys.CAMPAIGNS, {"mail": 0})
        opened("2026-03-01T09:00Z", "ada")
        stats("mail")
        clock.at("2026-04-05T10:00Z")
        commands_left[0] = cut
        monkeypatch.setattr(Redis, "execute_command", execute)
        try:
            sweep()
            ended = True
        except ConnectionError:
            ended = False
        monkeypatch.undo()
        sweep()
        for kind in ("people", "buckets", "months", "listed", "names"):
            assert key_names(client, f"{kind}:*") == [], cut
        figures = stats("mail")
        assert (figures["totals"]["unique_opens"], figures["closed_at"] is None) == (1, False)
        if ended:
            break
    assert cut > 20


def test_retention_run_out_of_time_is_continued(mail, opened, stats, sweep, clock, client):
    for name in ("mail", "other"):
        mail(id=name)
        opened("2026-03-01T09:00Z", campaign=name)
    stats("mail")
    clock.at("2026-04-05T10:00Z")
    assert sweep(deadline=0.0)["recipients"] == 1, "one campaign a run, however far away Redis is"
    assert sweep()["recipients"] == 1


def test_retention_mode_raised_after_a_run_keeps_names_until_due(
    mail, opened, stats, sweep, clock, client, site
):
    """Before the first link or hit the mode may be raised. The removal by the lower mode must not stay."""
    clock.at("2026-03-01T00:00Z")
    mail(mode="count")
    sweep()
    assert site.patch("/api/campaigns/mail", json={"mode": "identified"}).status_code == 200
    assert upload(site, ("ada", "Ada")).status_code == 200
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    sweep()
    assert len(key_names(client, "people:*")) == len(key_names(client, "names:*")) == 1
    clock.at("2026-03-22T10:00Z")
    sweep()
    assert (
        key_names(client, "people:*") == key_names(client, "names:*") == key_names(client, "listed:*") == []
    )


def test_retention_deleted_campaign_with_few_days_leaves_no_bucket(mail, opened, stats, sweep, site, client):
    from datetime import UTC, datetime, timedelta

    mail(keep={"days": 1})
    now = datetime.now(UTC)
    opened((now - timedelta(days=2)).isoformat(), "ada")
    stats("mail")
    opened(now.isoformat(), "ada")
    sweep()
    assert key_names(client, "buckets:*") != []
    assert site.delete("/api/campaigns/mail").status_code == 204
    assert [name for name in key_names(client, "*") if ":mail" in name] == []


def test_retention_lowered_max_mode_removes_recipients(mail, opened, stats, sweep, client, settings, clock):
    import asyncio
    import math

    from pixel_server.store.client import connect_async

    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")

    async def run():
        store = connect_async(settings.redis_url)
        await retention.sweep(store, replace(settings, max_mode="count"), clock.now, math.inf)
        await store.aclose()

    asyncio.run(run())
    assert key_names(client, "people:*") == []


def test_retention_closed_campaign_has_no_rate(mail, opened, stats, sweep, clock):
    mail(sent=2, sent_at="2026-03-01T00:00:00Z")
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2026-03-21T09:00Z")
    sweep()
    opened("2026-03-22T09:00Z", "bob")
    figures = stats("mail", from_="2026-03-20", to="2026-03-23")
    assert (figures["totals"]["opens"], figures["totals"]["unique_opens"], figures["open_rate"]) == (
        1,
        None,
        None,
    )
    assert [item["unique_opens"] for item in figures["series"]] == [0, None, None]
    assert stats("mail", from_="2026-03-01", to="2026-03-02")["open_rate"]["low"] == 0.5


def test_retention_rounds_continue_where_the_last_ended(settings, clock, client, site, mail, monkeypatch):
    import asyncio

    from pixel_server.store.client import connect_async

    for n in range(5):
        site.post("/api/campaigns", json={"id": f"c{n}", "name": "c", "kind": "email"})
    seen = []

    async def remove_due(store, settings, name, now, allowance):
        seen.append(name)
        clock.tick += 1
        return no_removals()

    async def run():
        store = connect_async(settings.redis_url)
        for _ in range(4):
            await retention.step(store, settings, clock.now)
        await store.aclose()

    clock.tick = 0
    monkeypatch.setattr(retention_campaign, "remove_due", remove_due)
    monkeypatch.setattr(retention.time, "monotonic", lambda: clock.tick)
    asyncio.run(run())
    assert seen == [f"c{n}" for n in range(5)], "two a run, and no new round before its time"
    clock.now += retention.ROUND_SECONDS
    asyncio.run(run())
    assert len(seen) == 10
    clock.now -= 9 * 365 * 86_400
    asyncio.run(run())
    assert len(seen) == 15, "the clock was ahead when the last round began"


def test_retention_breakdown_begins_with_the_first_kept_day(site, page, viewed, stats, sweep, clock):
    """Its sums are those of the range that it names."""
    page(keep={"days": 5})
    for day in (1, 2, 7, 8):
        viewed(f"2026-03-0{day}T12:00Z")
    query = {"by": "country", "from": "2026-03-01", "to": "2026-03-09"}
    clock.at("2026-03-09T12:00Z")
    stats("page")
    sweep()
    days = stats("page", from_="2026-03-01", to="2026-03-09")["series"]
    figures = site.get("/api/campaigns/page/breakdowns", params=query).json()
    assert "2026-03-02" < figures["from"] <= "2026-03-07"
    assert figures["from"] == next(day["start"] for day in days if day["views"] is not None)
    assert sum(row["views"] for row in figures["by"]["country"]) == 2
    removed = site.get("/api/campaigns/page/breakdowns", params={**query, "to": "2026-03-03"}).json()
    assert (removed["from"], removed["by"]) == (removed["to"], {"country": []})


def test_retention_more_than_a_day_is_due_waits(mail, opened, stats, sweep, clock, client):
    """An outage, or a jump of Redis's clock, makes more than a day due."""
    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    for day in ("01", "02", "03", "04"):
        clock.at(f"2026-03-{day}T10:00Z")
        assert sweep(allowance="a day").keys() <= {"traces"}
    clock.at("2026-03-05T10:00Z")
    assert sweep(allowance="a day") == {"buckets": 1}, "it became due this midnight"
    clock.at("2027-09-01T10:00Z")
    for _ in range(2):
        assert sweep(allowance="a day").keys() <= {"traces"}
    assert sweep(allowance="nothing") == {"days": 1, "recipients": 1}
    assert key_names(client, "people:*") != []
    assert sweep() == {"days": 1, "recipients": 1}
    assert sweep(allowance="nothing") == {}


def test_retention_redis_clock_far_ahead_closes_nothing(mail, opened, stats, sweep, clock, site):
    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2027-08-01T09:00Z")
    assert sweep(allowance="a day").keys() <= {"traces"}
    assert site.get("/api/campaigns/mail").json()["closed_at"] is None
    clock.at("2026-03-01T10:00Z")
    opened("2026-03-01T10:00Z", "bob")
    assert stats("mail", interval="hour", from_="2026-03-01", to="2026-03-02")["totals"]["hits"] == 2


def test_retention_empty_campaign_swept_by_a_clock_ahead_counts_again(mail, opened, stats, sweep, clock):
    """The first kept day then lies in the future, and must not count as a removal."""
    mail()
    clock.at("2027-08-01T09:00Z")
    sweep(allowance="a day")
    opened("2026-03-01T10:00Z", "bob")
    figures = stats("mail", interval="hour", from_="2026-03-01", to="2026-03-02")
    assert (figures["totals"]["hits"], sum(row["hits"] for row in figures["series"])) == (1, 1)


def test_retention_lowered_setting_waits_and_lowered_mode_does_not(mail, opened, stats, sweep, clock, site):
    mail()
    for day in ("02", "04", "08"):
        opened(f"2026-03-{day}T09:00Z", f"r{day}")
        stats("mail")
    sweep()
    site.patch("/api/campaigns/mail", json={"keep": {"days": 1}})
    assert sweep(allowance="a day") == {}
    assert sweep(allowance="nothing")["days"] == 2
    site.patch("/api/campaigns/mail", json={"mode": "count"})
    assert sweep(allowance="a day") == {"recipients": 3}


def test_retention_old_dead_letters_wait(client, sweep, clock):
    clock.at("2026-03-20T00:00Z")
    for ms in (clock.now - 9 * 86_400, clock.now - 7.5 * 86_400, clock.now):
        client.xadd(keys.dead(0), {"reason": "x", "data": b""}, f"{int(ms * 1000)}-1")
    assert sweep(allowance="a day") == {}
    assert sweep(allowance="nothing") == {"dead letters": 2}
    assert sweep() == {"dead letters": 2}
    client.xadd(keys.dead(1), {"reason": "x", "data": b""}, f"{int((clock.now - 7.5 * 86_400) * 1000)}-1")
    assert sweep(allowance="a day") == {"dead letters": 1}


def test_retention_waiting_kinds_are_reported_until_removed(
    mail, opened, stats, clock, site, client, settings
):
    async def step() -> None:
        store = connect_async(settings.redis_url)
        await retention.step(store, settings, clock.now)
        await store.aclose()

    mail()
    opened("2026-03-01T09:00Z", "ada")
    stats("mail")
    clock.at("2027-08-01T09:00Z")
    client.hset(keys.SWEEP, "begun", int(clock.now) - 2 * 86_400)
    asyncio.run(step())
    assert key_names(client, "evidence:*"), "a round that is late leaves what is under way to the next"
    response = site.get("/readyz").json()
    assert response["retention_waits"] == {"buckets": 1, "days": 1, "recipients": 1}
    assert any("run `pixel-server retention run --yes`" in warning for warning in response["warnings"])
    clock.at("2026-03-01T10:00Z")
    asyncio.run(step())
    assert site.get("/readyz").json()["retention_waits"] == {}

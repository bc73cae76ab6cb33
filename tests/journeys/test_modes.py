"""Modes: how much each mode stores of a recipient, checked in the figures and in the store."""

from __future__ import annotations

import pytest

from pixel_server import hit
from pixel_server.counters import recipient_record
from pixel_server.mail.links import Minter
from pixel_server.store import keys
from pixel_server.tokens import Mode, Part
from tests.stack import until

DAY = "2025-06-10"
GPC, DNT = {"Sec-GPC": "1"}, {"DNT": "1"}


@pytest.fixture
def ask(site, secrets, clock):
    """Returns a function that opens a recipient's mail by a link of this mode, and returns X-Pixel."""
    minter = Minter("http://pixel.test", secrets)
    clock.at(f"{DAY}T09:00Z")

    def ask(who="ada", mode=Mode.PSEUDONYMOUS, headers=None, campaign="mail", **more):
        return site.get(
            minter.url(campaign, who, mode=mode, now=clock.now, **more), headers=headers or {}
        ).headers["x-pixel"]

    return ask


def kept(client, pattern):
    return sorted(key.decode() for key in client.keys(pattern))


def test_mode_count_tells_nobody_apart(mail, ask, stats, client, secrets):
    mail(sent=4, mode="count")
    for who in ("ada", "ada", "bob"):
        assert ask(who) == "recorded"
    for key in kept(client, "px:{?}:hits"):
        for _, fields in client.xrange(key):
            assert secrets.recipient_key("ada") not in b"".join(fields.values())
    found = stats("mail")
    totals = found["totals"]
    assert (totals["opens"], totals["opens_anonymous"], totals["unique_opens"]) == (3, 3, None)
    assert found["open_rate"] is None
    assert kept(client, "px:{?}:people:*") + kept(client, "px:{?}:addresses:*") == []


def test_mode_lower_of_link_and_campaign_holds(mail, ask, stats):
    mail(sent=4)
    ask("ada")
    ask("bob", Mode.COUNT)
    ask("cyd", Mode.LAST)
    found = stats("mail")
    totals = found["totals"]
    assert (totals["opens"], totals["opens_anonymous"], totals["unique_opens"]) == (3, 2, 1)
    assert (found["open_rate"]["low"], found["open_rate"]["high"]) == (0.25, 0.75)
    assert found["open_rate"]["estimate"] is None


def test_mode_lowered_reaches_old_links_and_waiting_hits(mail, ask, stats, site, client):
    mail()
    ask("ada")
    assert site.patch("/api/campaigns/mail", json={"mode": "count"}).status_code == 200
    ask("bob")
    assert stats("mail")["totals"]["opens_anonymous"] == 2
    assert kept(client, "px:{?}:people:*") == []
    assert site.patch("/api/campaigns/mail", json={"mode": "off"}).status_code == 200
    assert ask("cyd") == "ignored; reason=off"
    assert stats("mail")["totals"]["opens"] == 2


def test_mode_off_drops_waiting_hits(mail, ask, stats, site, client):
    mail()
    ask("ada")
    site.patch("/api/campaigns/mail", json={"mode": "off"})
    assert stats("mail")["totals"]["hits"] == 0
    drops = [client.hget(keys.drops(shard), "off") for shard in range(4)]
    assert [int(count) for count in drops if count] == [1]


def test_mode_last_stores_only_the_last_day(mail, ask, stats, client, secrets, clock):
    mail(mode="last")
    for day in (10, 12, 11):
        clock.at(f"2025-06-{day}T09:00Z")
        ask("ada")
        stats("mail")
    ask("ada", part=Part.BOTTOM)
    stats("mail")
    found = {}
    for key in kept(client, "px:{?}:last:*"):
        found.update(client.hgetall(key))
    days_since_1970 = 20_251  # 2025-06-12
    assert found == {secrets.recipient_key("ada"): recipient_record.pack_day(days_since_1970)}
    assert kept(client, "px:{?}:people:*") + kept(client, "px:{?}:addresses:*") == []


def test_preset_deliverability_stores_one_day_a_recipient_and_nothing_else(
    mail, ask, stats, client, secrets, clock, site
):
    assert site.get(f"/api/campaigns/{mail(preset='deliverability')}").json()["mode"] == "last"
    for day in (10, 12, 11):
        for hour in ("09:00", "17:30"):
            clock.at(f"2025-06-{day}T{hour}Z")
            ask("ada", Mode.IDENTIFIED, part=Part.TOP)
            ask("ada", Mode.IDENTIFIED, part=Part.BOTTOM)
        stats("mail")
    assert site.put("/api/campaigns/mail/recipients", content=b"recipient\nada\n").status_code == 409
    ada, day_number = secrets.recipient_key("ada"), 20_251  # 2025-06-12
    entries = {key: client.hgetall(key) for key in kept(client, "px:*") if client.type(key) == b"hash"}
    naming = {key: value for key, value in entries.items() if any(field.startswith(ada) for field in value)}
    [(key, value)] = naming.items()
    assert keys.kind_of(key) is keys.last
    assert value == {ada: recipient_record.pack_day(day_number)}
    assert not [key for key in entries if ada in b"".join(entries[key].values())]
    kinds = {key.split(":")[2] for key in kept(client, "px:{?}:*")}
    # The other keys are sums of the campaign, and the bookkeeping of a shard.
    assert kinds <= {"last", "hits", "total", "rules", "months", "buckets", "producers", "turn", "changed"}
    found = stats("mail")
    assert (found["totals"]["opens"], found["totals"]["opens_anonymous"]) == (6, 6)
    assert (found["totals"]["unique_opens"], found["time_to_open"]) == (None, None)


@pytest.mark.parametrize(("preset", "mode"), [("aggregate", "count"), ("consented", "pseudonymous")])
def test_preset_other_mode_is_refused_until_the_preset_is_dropped(mail, site, preset, mode):
    mail(preset=preset)
    refused = site.patch("/api/campaigns/mail", json={"mode": "last"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (409, "mode")
    assert f"the preset {preset} goes with the mode {mode}" in refused.json()["detail"]
    changed = site.patch("/api/campaigns/mail", json={"mode": "last", "preset": None}).json()
    assert (changed["mode"], changed["preset"]) == ("last", None)
    assert site.patch("/api/campaigns/mail", json={"preset": preset}).status_code == 409


@pytest.mark.parametrize("headers", [GPC, DNT])
@pytest.mark.parametrize(
    ("gpc", "says", "figures"),
    [
        (None, "recorded", (1, 1, 0, 1, 0)),
        ("count", "recorded", (1, 1, 0, 1, 0)),
        ("ignore", "recorded", (1, 0, 1, 0, 0)),
        ("drop", "ignored; reason=gpc", (0, 0, 0, 0, 1)),
    ],
)
def test_mode_gpc_and_dnt_follow_the_setting(mail, ask, stats, client, headers, gpc, says, figures):
    mail(gpc=gpc)
    assert ask(headers=headers) == says
    if gpc == "drop":
        until(lambda: client.exists(keys.DROPPED))
    totals = stats("mail")["totals"]
    names = ("opens", "opens_anonymous", "unique_opens", "hits_gpc", "dropped_gpc")
    assert tuple(totals[name] for name in names) == figures


@pytest.mark.parametrize(
    ("fields", "views", "visitors"), [({}, 1, 0), ({"gpc": "ignore"}, 1, 1), ({"mode": "count"}, 1, None)]
)
def test_mode_web_gpc_stores_no_visitor(page, site, stats, client, clock, fields, views, visitors):
    page(**fields)
    clock.at(f"{DAY}T09:00Z")
    assert site.get("/p/page.gif?v=ada", headers=GPC).headers["x-pixel"] == "recorded"
    totals = stats("page")["totals"]
    assert (totals["views"], totals["unique_visitors"]) == (views, visitors)
    assert stats("page", from_=DAY, to="2025-06-11")["series"][0]["unique_visitors"] == visitors
    assert bool(kept(client, "px:{?}:addresses:*")) is (fields == {"gpc": "ignore"})


def test_mode_web_off_is_not_counted(page, site, stats):
    page(mode="off")
    assert site.get("/p/page.gif").headers["x-pixel"] == "ignored; reason=off"
    assert stats("page")["totals"]["hits"] == 0


def test_mode_after_links_can_only_fall(mail, site):
    mail(mode="count")
    assert site.patch("/api/campaigns/mail", json={"mode": "identified"}).json()["mode"] == "identified"
    assert site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]}).status_code == 200
    assert site.patch("/api/campaigns/mail", json={"mode": "last"}).json()["mode"] == "last"
    refused = site.patch("/api/campaigns/mail", json={"mode": "pseudonymous", "name": "New"})
    assert (refused.status_code, site.get("/api/campaigns/mail").json()["name"]) == (409, "mail")


def test_mode_after_hits_can_only_fall(mail, site, ask, stats):
    mail(mode="pseudonymous")
    ask()
    stats("mail")
    assert site.patch("/api/campaigns/mail", json={"mode": "identified"}).status_code == 409
    assert site.patch("/api/campaigns/mail", json={"mode": "count"}).status_code == 200


def test_mode_links_carry_the_campaigns(mail, site):
    mail(mode="count")
    made = site.post("/api/campaigns/mail/links", json={"recipients": ["ada", "bob"]}).json()["links"]
    assert made[0]["url"] == made[1]["url"]
    rows = [{"recipient": "ada"}, {"recipient": "bob", "mode": "last"}, {"recipient": "cyd", "mode": "off"}]
    refused = site.post("/api/campaigns/mail/links", json={"recipients": rows})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert (error["row"], error["field"]) == (1, "mode")


@pytest.mark.parametrize("fields", [{"mode": "all"}, {"mode": None}, {"gpc": "maybe"}, {"gpc": 1}])
def test_mode_bad_fields_are_named(site, mail, fields):
    mail()
    for answer in (
        site.patch("/api/campaigns/mail", json=fields),
        site.post("/api/campaigns", json={"id": "new", "name": "New", "kind": "web", **fields}),
    ):
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [*fields]


def test_mode_of_server_count_gives_null_not_zero(mail, ask, site, stats, settings):
    mail(sent=4)
    ask("ada")
    stats("mail")
    object.__setattr__(settings, "max_mode", "count")
    found = stats("mail")
    assert (found["totals"]["unique_opens"], found["open_rate"]) == (None, None)


def test_mode_gpc_hit_carries_only_the_links_day(mail, ask, client, clock):
    mail()
    ask(headers=GPC)
    [key] = kept(client, "px:{?}:hits")
    [(_, fields)] = client.xrange(key)
    [one], _ = hit.decode_batch(fields[b"1"])
    assert (one.recipient, one.token_time) == (b"", int(clock.now) - int(clock.now) % 86_400)

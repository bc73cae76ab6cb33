"""A recipient stops being recorded, is forgotten, and may allow it again."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import recipient_record
from pixel_server.mail.links import Minter
from pixel_server.privacy import action_limit
from pixel_server.recipients import erasure, withdrawals
from pixel_server.store import audit_log, keys
from pixel_server.store.client import connect_async
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Mode

DAY = "2025-06-10"
OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
"""As Chromium sends a form of a page without referrer."""


@pytest.fixture
def link(secrets, clock):
    minter = Minter("http://pixel.test", secrets)
    clock.at(f"{DAY}T08:00Z")

    def link(who="ada", campaign="mail", **more):
        return minter.link(campaign, who, now=clock.now, **more)

    return link


@pytest.fixture
def press(site):
    """Presses a button of the page; the page that follows."""

    def press(link, wish, **headers):
        token = link.privacy_url.partition("t=")[2]
        return site.post("/privacy", data={"t": token, "do": wish}, headers=headers)

    return press


def everything(client):
    """Every byte that the store holds."""
    return b"".join(key + client.dump(key) for key in client.keys("px:*"))


def test_who_withdraws_is_not_recorded_and_may_allow_it_again(mail, link, press, site, stats):
    mail()
    one = link()
    assert site.get(one.url).headers["x-pixel"] == "recorded"
    assert 'value="stop"' in site.get(one.privacy_url).text
    assert 'value="allow"' in press(one, "stop").text
    assert site.get(one.url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert site.get(link(campaign="other").url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert site.get(link("bob").url).headers["x-pixel"] == "recorded"
    assert 'value="stop"' in press(one, "allow").text
    assert site.get(one.url).headers["x-pixel"] == "recorded"
    assert stats("mail")["totals"]["opens"] == 3


def test_looking_changes_nothing(mail, link, site, client):
    mail()
    one = link()
    for query in ("", "&do=stop", "&do=erase"):
        answer = site.get(one.privacy_url + query)
        assert answer.status_code == 200
        assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == (
            "no-store",
            "no-referrer",
        )
        assert site.head(one.privacy_url + query).status_code == 200
    assert not client.exists(keys.WITHDRAWN)


def test_what_waits_is_dropped_by_its_own_time(mail, link, press, site, stats, clock):
    """Recorded by a process that did not know yet: whenever the roll-up runs, the totals are the same."""
    mail()
    clock.at(f"{DAY}T09:00Z")
    site.get(link().url)
    site.get(link("bob").url)
    clock.at(f"{DAY}T08:59:59Z")
    press(link(), "stop")
    clock.at(f"{DAY}T09:00:01Z")
    press(link(), "allow")
    assert site.get(link().url).headers["x-pixel"] == "recorded"
    totals = stats("mail")["totals"]
    assert (totals["opens"], totals["unique_opens"]) == (2, 2)


def test_what_was_before_a_withdrawal_stays(mail, link, press, site, stats, clock):
    mail()
    site.get(link().url)
    clock.at(f"{DAY}T09:00Z")
    press(link(), "stop")
    assert stats("mail")["totals"]["unique_opens"] == 1


def test_an_erased_person_is_nowhere(mail, link, press, site, stats, client, secrets, clock):
    mail()
    one, last = link(), link(mode=Mode.LAST)
    site.get(one.url)
    site.get(last.url)
    stats("mail")
    key = secrets.recipient_key("ada")
    assert key in everything(client)
    site.get(one.url)  # waits in the stream
    clock.at(f"{DAY}T09:00Z")
    assert 'value="allow"' in press(one, "erase").text
    assert 'value="erase"' not in site.get(one.privacy_url).text
    found = stats("mail")["totals"]
    assert (found["opens"], found["unique_opens"]) == (2, 1)  # sums of before stay; what waited is dropped
    assert key not in everything(client)
    assert secrets.withdrawal_mark(key) in everything(client)
    clock.at(f"{DAY}T10:00Z")
    press(one, "allow")
    clock.at(f"{DAY}T10:00:01Z")
    site.get(one.url)
    assert stats("mail")["totals"]["opens"] == 3


def test_a_roll_up_that_read_before_an_erasure_cannot_bring_anyone_back(
    mail, link, press, site, client, secrets, settings, monkeypatch, count, clock
):
    from workers import apply

    mail()
    site.get(link().url)
    read = apply.read_stored

    def erased_meanwhile(*arguments):
        found = read(*arguments)
        monkeypatch.setattr(apply, "read_stored", read)
        press(link(), "erase")
        return found

    monkeypatch.setattr(apply, "read_stored", erased_meanwhile)
    count(clock.now)
    assert apply.read_stored is read  # it came to that
    count(clock.now)
    assert secrets.recipient_key("ada") not in everything(client)


@pytest.mark.parametrize(("wish", "asks"), [("stop", 0), ("erase", 2)])
def test_a_hit_that_waited_while_its_person_was_erased_leaves_the_disk_too(
    mail, link, press, site, client, count, clock, wish, asks
):
    """The append-only file is rewritten after the roll-up has dropped it, not only after the erasure."""
    mail()
    clock.now += 60
    assert site.get(link().url).headers["x-pixel"] == "recorded"
    clock.now -= 60
    press(link(), wish)
    before = int(client.hget(keys.REWRITE, "asked") or 0)
    assert count(clock.now) == 1
    assert int(client.hget(keys.REWRITE, "asked") or 0) == before + asks
    drops = sum(int(client.hget(keys.drops(shard), "withdrawn") or 0) for shard in range(4))
    assert drops == 1


def test_a_roll_up_that_read_the_list_before_a_withdrawal_cannot_commit(
    mail, link, press, site, monkeypatch, count, clock, stats
):
    mail()
    site.get(link().url)
    read = withdrawals.periods_by_recipient

    def withdrawn_meanwhile(*arguments):
        found = read(*arguments)
        monkeypatch.setattr(withdrawals, "periods_by_recipient", read)
        press(link(), "stop")  # at the very instant of the hit
        return found

    monkeypatch.setattr(withdrawals, "periods_by_recipient", withdrawn_meanwhile)
    count(clock.now)
    assert withdrawals.periods_by_recipient is read  # it came to that
    assert stats("mail")["totals"]["opens"] == 0


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_a_form_of_another_site_changes_nothing(mail, link, press, client, site_of):
    mail()
    assert press(link(), "stop", **{"Sec-Fetch-Site": site_of}).status_code == 403
    assert press(link(), "stop", Origin="https://evil.example").status_code == 403
    assert not client.exists(keys.WITHDRAWN)


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {}, {"Origin": "null"}]
)
def test_its_own_form_is_taken(mail, link, press, client, headers):
    mail()
    assert press(link(), "stop", **headers).status_code == 200
    assert client.hlen(keys.WITHDRAWN) == 1


@pytest.mark.parametrize("token", [" ", "forged", "é", "A" * 3000])
def test_a_token_that_is_none_is_a_plain_page(site, client, token):
    for answer in (
        site.get("/privacy", params={"t": token}),
        site.post("/privacy", data={"t": token, "do": "erase"}),
    ):
        assert answer.status_code == 404
        assert "<button" not in answer.text
    assert not client.exists(keys.WITHDRAWN)


def test_bodies_that_no_form_sends(site):
    for content in (b"\xff\xfe&&==", b"t", b"{}", b""):
        answer = site.post("/privacy", content=content)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.history[0].headers
    assert site.post("/privacy", content=b"t=" + b"a" * 100_000).status_code == 413


def test_expired_links_and_those_of_campaigns_that_are_gone_work(mail, link, press, site, clock):
    mail()
    one = link()
    site.delete("/api/campaigns/mail")
    clock.at("2027-06-10T08:00Z")
    assert site.get(one.url).headers["x-pixel"].startswith("ignored")
    assert 'value="allow"' in press(one, "stop").text


def test_a_link_that_names_nobody_has_no_button(link, site, press, client):
    anonymous = link(mode=Mode.COUNT)
    assert "<button" not in site.get(anonymous.privacy_url).text
    assert press(anonymous, "erase").status_code == 200
    assert not client.exists(keys.WITHDRAWN)


def test_an_unknown_wish_changes_nothing(link, press, client):
    assert press(link(), "everything").status_code == 200
    assert not client.exists(keys.WITHDRAWN)


def test_the_page_speaks_the_readers_language(link, site):
    german = site.get(link().privacy_url, headers={"Accept-Language": "de-CH,en;q=0.5"}).text
    assert '<html lang="de"' in german


@pytest.mark.parametrize(
    ("value", "periods"),
    [(None, []), (b"1 5-", [(5, None)]), (b"1 0-7 9-", [(0, 7), (9, None)]), (b"1 5-7", [(5, 7)])],
)
def test_periods_are_read_as_written(value, periods):
    assert withdrawals.parse_periods(value) == periods


def test_a_period_holds_from_its_start_and_not_at_its_end():
    found = withdrawals.parse_periods(b"1 5-7 9-")
    assert [time for time in range(12) if withdrawals.covers(found, time)] == [5, 6, 9, 10, 11]


def test_a_campaign_made_while_one_is_erased(mail, link, press, client, secrets, monkeypatch):
    mail()
    key = secrets.recipient_key("ada")
    real, place = (
        withdrawals.withdraw,
        keys.people(shard_of(key, 4), "other", recipient_record.people_bucket(key)),
    )

    async def withdraw(store, *args, **options):
        # A hit that a roll-up counted just before.
        await storage.create(store, new_campaign("other", "Other", "email"))
        await store.hset(place, key, recipient_record.pack(recipient_record.from_open(1, 0, "person")))
        return await real(store, *args, **options)

    monkeypatch.setattr(withdrawals, "withdraw", withdraw)
    press(link(), "erase")
    assert key not in everything(client)


def test_erasing_again_and_again_leaves_no_trace(mail, link, press, site, client):
    mail()
    for _ in range(5):
        assert "Your data is erased" in press(link(), "erase").text
    assert "recipient.erased" not in client.dump(keys.AUDIT).decode("latin-1")
    assert [line["what"] for line in actions(site)["items"]] == ["recipient.erased"]
    assert not client.exists(keys.REWRITE)  # nothing was kept, so nothing is to leave the disk
    assert not client.exists(keys.ERASING)


def actions(site):
    """What recipients did, as the API shows it."""
    return site.get("/api/audit/recipients").json()


def turns(client):
    return [client.hget(keys.checkpoint(shard), "n") for shard in range(4)]


@pytest.mark.parametrize("wish", ["stop", "erase"])
def test_privacy_unchanged_wish_keeps_turn(mail, link, press, client, wish):
    mail()
    press(link(), wish)
    before = turns(client)
    for _ in range(5):
        assert press(link(), wish).status_code == 200
    assert turns(client) == before


def test_privacy_many_wishes_in_a_minute_are_refused(mail, link, press, site, client, clock):
    """Whichever of their links a recipient uses; others may go on, and so may they in the next minute."""
    mail()
    press(link(), "stop")
    for n in range(action_limit.MAX_ACTIONS - 1):
        press(link(campaign=f"mail{n}"), "allow" if n % 2 == 0 else "stop")
    before = client.hvals(keys.WITHDRAWN), turns(client)
    answer = press(link(), "stop")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, str(60 - int(clock.now) % 60))
    assert "Please wait a minute" in answer.text
    assert (client.hvals(keys.WITHDRAWN), turns(client)) == before
    assert press(link("bob"), "stop").status_code == 200
    assert site.get(link().privacy_url).status_code == 200
    clock.now += 60
    assert press(link(), "stop").status_code == 200


def test_throttle_many_recipients_are_bounded(mail, link, press, client, monkeypatch):
    mail()
    monkeypatch.setattr(action_limit, "MAX_RECIPIENTS", 3)
    answers = [press(link(f"r{n}"), "stop").status_code for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    [counted] = client.keys("px:{all}:acts:*")
    assert (client.hlen(counted), 0 < client.ttl(counted) <= 120) == (3, True)


def test_audit_actions_of_recipients_push_no_other_line_out(mail, link, press, site, client, monkeypatch):
    mail()
    site.delete("/api/campaigns/mail")
    monkeypatch.setattr(audit_log, "MAX_LINES", 3)
    before = client.xlen(keys.AUDIT)
    for wish in ("stop", "allow", "stop", "erase", "allow", "stop", "stop"):
        assert press(link(), wish).status_code == 200
    assert client.xlen(keys.AUDIT) == before
    found = actions(site)
    kinds = ["recipient.stopped", "recipient.allowed", "recipient.erased"]
    assert [line["what"] for line in found["items"]] == [kinds[0], kinds[1], kinds[2]]
    assert {line["who"] for line in found["items"]} == {"privacy page"}
    assert found["counts"] == {kinds[0]: 3, kinds[1]: 2, kinds[2]: 1}


def owed(settings, secrets, clock):
    """Does the erasures that are owed and due; how many there were."""

    async def run():
        made = connect_async(settings.redis_url)
        try:
            return await erasure.run_owed(made, secrets, clock.now, settings.shards)
        finally:
            await made.aclose()

    return asyncio.run(run())


def test_erasure_is_done_once_an_hour(mail, link, press, site, stats, client, secrets, settings, clock):
    """What came since the last one goes when the hour is over; until then nothing more is recorded."""
    mail()
    one, key = link(), secrets.recipient_key("ada")
    assert "Your data is erased" in press(one, "erase").text
    clock.now += 60
    press(one, "allow")
    clock.now += 60
    assert site.get(one.url).headers["x-pixel"] == "recorded"
    stats("mail")
    assert key in everything(client)
    clock.now += 60
    assert "Your data is being erased" in press(one, "erase").text
    assert site.get(one.url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert owed(settings, secrets, clock) == 0
    assert "Your data is being erased" in press(one, "erase").text
    assert key in everything(client)
    clock.now += erasure.INTERVAL_SECONDS
    assert owed(settings, secrets, clock) == 1
    assert key not in everything(client)
    assert "Your data is erased" in site.get(one.privacy_url).text
    assert int(client.hget(keys.REWRITE, "asked")) == 2
    clock.now += erasure.INTERVAL_SECONDS + 60
    assert owed(settings, secrets, clock) == 0
    assert not client.keys("px:{all}:eras*")


def lookups(client):
    """How often Redis looked for a recipient in a campaign, or for campaigns; also inside scripts."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hexists", "zrangebylex"))


def test_erasure_of_nobody_costs_the_same_with_many_campaigns(
    mail, link, press, site, stats, client, secrets, settings, clock
):
    """And who is kept is erased by the workers then."""
    mail()
    site.get(link("eve").url)
    stats("mail")
    for n in range(1000):
        client.zadd(keys.CAMPAIGNS, {f"c{n}": 0})
    before = lookups(client)
    assert "Your data is being erased" in press(link("nobody"), "erase").text
    assert "Your data is being erased" in press(link("eve"), "erase").text
    assert lookups(client) == before
    key = secrets.recipient_key("eve")
    assert key in everything(client)
    assert owed(settings, secrets, clock) == 2
    assert key not in everything(client)


def test_periods_are_bounded(mail, link, press, clock, client):
    mail()
    for hour in range(40):
        clock.now += 3600
        press(link(), "stop" if hour % 2 == 0 else "allow")
    [value] = client.hvals(keys.WITHDRAWN)
    found = withdrawals.parse_periods(value)
    assert len(found) == 16
    assert found == sorted(found)
    assert not withdrawals.is_withdrawn(found)
    assert [end for _, end in found][-1] == int(clock.now * 1000)


def test_a_hit_of_a_wrong_clock_of_one_who_was_erased_is_no_dead_letter(
    mail, link, press, site, stats, clock, client
):
    mail()
    clock.at("2025-06-20T08:00Z")
    site.get(link().url)  # from days ahead
    clock.at(f"{DAY}T09:00Z")
    press(link(), "erase")
    stats("mail")
    assert sum(client.xlen(keys.dead(shard)) for shard in range(4)) == 0

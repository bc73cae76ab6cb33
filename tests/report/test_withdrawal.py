"""A recipient stops being recorded, is forgotten, and may allow it again."""

from __future__ import annotations

import pytest

from pixel_server import campaigns, keys, people, shards, withdrawals
from pixel_server.links import Minter
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
    read = apply.read

    def erased_meanwhile(*arguments):
        found = read(*arguments)
        monkeypatch.setattr(apply, "read", read)
        press(link(), "erase")
        return found

    monkeypatch.setattr(apply, "read", erased_meanwhile)
    count(clock.now)
    assert apply.read is read  # it came to that
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
    read = withdrawals.periods

    def withdrawn_meanwhile(*arguments):
        found = read(*arguments)
        monkeypatch.setattr(withdrawals, "periods", read)
        press(link(), "stop")  # at the very instant of the hit
        return found

    monkeypatch.setattr(withdrawals, "periods", withdrawn_meanwhile)
    count(clock.now)
    assert withdrawals.periods is read  # it came to that
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
    assert withdrawals.parse(value) == periods


def test_a_period_holds_from_its_start_and_not_at_its_end():
    found = withdrawals.parse(b"1 5-7 9-")
    assert [time for time in range(12) if withdrawals.covers(found, time)] == [5, 6, 9, 10, 11]


def test_a_campaign_made_while_one_is_erased(mail, link, press, client, secrets, monkeypatch):
    mail()
    key = secrets.recipient_key("ada")
    real, place = withdrawals.withdraw, keys.people(shards.of_key(key, 4), "other", people.bucket(key))

    async def withdraw(store, *args, **options):
        # A hit that a roll-up counted just before.
        await campaigns.create(store, campaigns.new("other", "Other", "email"))
        await store.hset(place, key, people.pack(people.opened(1, 0, "person")))
        return await real(store, *args, **options)

    monkeypatch.setattr(withdrawals, "withdraw", withdraw)
    press(link(), "erase")
    assert key not in everything(client)


def test_erasing_again_and_again_leaves_no_trace(mail, link, press, site, client):
    mail()
    for _ in range(5):
        press(link(), "erase")
    told = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert told.count("recipient.erased") == 1
    assert int(client.hget(keys.REWRITE, "asked")) == 2


def test_periods_are_bounded(mail, link, press, clock, client):
    mail()
    for hour in range(40):
        clock.now += 3600
        press(link(), "stop" if hour % 2 == 0 else "allow")
    [value] = client.hvals(keys.WITHDRAWN)
    found = withdrawals.parse(value)
    assert len(found) == 16
    assert found == sorted(found)
    assert not withdrawals.holds(found)
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

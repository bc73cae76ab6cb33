"""Opens of people in stats: by name, by time to open, by rule; and bursts, which take counts back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from pixel_server.counters import histogram
from pixel_server.mail.links import Minter
from pixel_server.settings import Settings
from pixel_server.tokens import Mode, Part
from tests.stack import READER

GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
PHONE = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/137.0.0.0 Mobile Safari/537.36"
)
CURL = "curl/8.5.0"
US, NOWHERE = "8.8.8.8", "198.51.100.9"
MINTED = datetime(2026, 2, 28, tzinfo=UTC).timestamp()
"""Seconds since 1970 at which the links are made: each recipient has one link."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, trusted_proxies=(ip_network("203.0.113.7/32"),))


@pytest.fixture
def opens(site, clock, secrets):
    """Requests a recipient's pixel at a time."""

    def opens(at, who, agent=READER, address=NOWHERE, **link):
        clock.at(at)
        url = Minter("http://pixel.test", secrets).url("mail", who, **{"now": MINTED, **link})
        answer = site.get(url, headers={"User-Agent": agent, "X-Forwarded-For": address})
        assert answer.headers["x-pixel"] == "recorded"

    return opens


def names(found):
    return {name: {one["name"]: one["opens"] for one in items} for name, items in found.items()}


def test_stats_opens_are_broken_down_by_name(mail, opens, stats):
    mail(time_zone="Europe/Berlin")
    opens("2026-03-01T22:00Z", "ada")
    opens("2026-03-01T23:00Z", "bob", PHONE, US)  # the next day in Berlin
    opens("2026-03-01T23:00Z", "cyd", GMAIL, US)
    opens("2026-03-01T23:05Z", "cyd", GMAIL, US)
    opens("2026-03-01T23:00Z", "dan", CURL, US)
    opens("2026-03-01T23:00Z", "eve", PHONE, US, mode=Mode.COUNT)
    assert names(stats("mail")["opens_person_by"]) == {
        "client": {"Gmail": 2, "Thunderbird": 1, "Chrome": 1},
        "device": {"desktop": 1, "phone": 1},
        "country": {"US": 1, "(unknown)": 1},
    }
    day = {"from": "2026-03-02", "to": "2026-03-03"}
    assert names(stats("mail", **day)["opens_person_by"]) == {
        "client": {"Gmail": 2, "Chrome": 1},
        "device": {"phone": 1},
        "country": {"US": 1},
    }
    for unknown in ({"interval": "hour"}, {"tz": "UTC"}):
        found = stats("mail", **{"from": "2026-03-02", "to": "2026-03-03", **unknown})
        assert (found["opens_person_by"], found["time_to_open"]) == (None, None)


def test_stats_opens_of_a_long_range_are_null(mail, opens, stats):
    mail()
    opens("2026-03-01T22:00Z", "ada")
    month = {"from": "2026-03-01", "to": "2026-04-01"}
    assert names(stats("mail", **month)["opens_person_by"])["client"] == {"Thunderbird": 1}
    assert stats("mail", **{**month, "to": "2026-04-02"})["opens_person_by"] is None


def test_stats_opens_in_mode_count_are_null(mail, opens, stats):
    mail(mode="count")
    opens("2026-03-01T22:00Z", "ada", mode=Mode.COUNT)
    assert stats("mail")["opens_person_by"] is None
    assert stats("mail")["totals"]["opens"] == 1


def test_stats_opens_rare_names_go_to_other(mail, opens, stats, monkeypatch):
    monkeypatch.setattr("pixel_server.figures.stats.MAX_NAMES", 1)
    mail()
    for who, agent in (("ada", READER), ("bob", READER), ("cyd", GMAIL), ("dan", PHONE)):
        opens("2026-03-01T22:00Z", who, agent)
    assert names(stats("mail")["opens_person_by"])["client"] == {"Thunderbird": 2, "(other)": 2}


@pytest.mark.parametrize("knows", ["link", "campaign"])
def test_stats_time_to_open_has_quartiles(mail, opens, stats, clock, knows):
    clock.at("2026-03-01T08:00Z")
    sending = int(clock.now)
    mail(sent_at="2026-03-01T08:00:00Z" if knows == "campaign" else None)
    sent = {"sent_at": sending} if knows == "link" else {}
    opens("2026-03-01T08:00:02Z", "ada", **sent)  # right after sending: a scanner
    opens("2026-03-01T07:59:30Z", "dan", **sent)  # before sending, because clocks differ: a scanner too
    opens("2026-03-01T08:01Z", "ada", **sent)
    opens("2026-03-01T09:00Z", "bob", **sent)
    opens("2026-03-01T09:30Z", "bob", **sent)
    opens("2026-03-02T08:00Z", "cyd", **sent)
    found = stats("mail")
    times = found["time_to_open"]
    assert times["recipients"] == 3
    error = found["estimates"]["time_to_open"]["relative_error"]
    for name, seconds in (("quartile_1", 60), ("median", 3600), ("quartile_3", 86_400)):
        assert times[name] == pytest.approx(seconds, rel=error)
    day = stats("mail", **{"from": "2026-03-02", "to": "2026-03-03"})["time_to_open"]
    assert (day["recipients"], day["median"]) == (1, times["quartile_3"])


def test_stats_time_to_open_late_earlier_open_replaces(mail, opens, stats):
    mail(sent_at="2026-03-01T08:00:00Z")
    opens("2026-03-02T08:00Z", "ada")
    assert stats("mail")["time_to_open"]["median"] == pytest.approx(86_400, rel=histogram.RELATIVE_ERROR)
    opens("2026-03-01T09:00Z", "ada")
    times = stats("mail")["time_to_open"]
    assert (times["recipients"], times["median"]) == (1, pytest.approx(3600, rel=histogram.RELATIVE_ERROR))
    later = stats("mail", **{"from": "2026-03-02", "to": "2026-03-03"})
    assert later["time_to_open"] is None


def test_stats_time_to_open_without_sending_time_is_null(mail, opens, stats):
    mail()
    opens("2026-03-02T08:00Z", "ada")
    found = stats("mail")
    assert (found["time_to_open"], "time_to_open" in found["estimates"]) == (None, False)


def test_stats_rules_and_rulesets_are_counted(mail, opens, stats):
    mail()
    opens("2026-03-01T22:00Z", "ada")
    opens("2026-03-01T22:00Z", "ada", GMAIL)
    stats("mail")
    opens("2026-03-03T22:00Z", "bob", CURL)
    found = stats("mail")
    assert found["rules"] == {"mail-client": 1, "gmail-proxy": 1, "library": 1}
    [one] = found["rulesets"]
    assert (one["from"], one["to"]) == ("2026-03-01T22:00:00.000Z", "2026-03-03T22:00:00.000Z")
    ranged = stats("mail", **{"from": "2026-03-01", "to": "2026-03-02"})
    assert (ranged["rules"], ranged["rulesets"]) == (None, None)


def test_bursts_take_back_counts_until_a_later_open(mail, opens, stats):
    mail(sent_at="2026-03-01T08:00:00Z", sent=2)
    opens("2026-03-01T09:00:00Z", "ada", PHONE, US)
    opens("2026-03-01T09:00:10Z", "ada", READER, "198.51.100.1")
    before = stats("mail")
    assert (before["totals"]["unique_opens_person"], before["open_rate"]["low"]) == (1, 0.5)
    opens("2026-03-01T09:00:30Z", "ada", READER, "198.51.100.2")
    after = stats("mail")
    assert after["totals"]["unique_opens"] == after["verdicts"]["scanner"]["recipients"] == 1
    assert (after["totals"]["unique_opens_person"], after["verdicts"]["person"]["hits"]) == (0, 0)
    assert (after["open_rate"]["low"], after["open_rate"]["high"]) == (0.0, 0.5)
    assert (after["rules"], after["time_to_open"]) == ({"burst": 3}, None)
    assert after["opens_person_by"] == {"client": [], "device": [], "country": []}
    opens("2026-03-01T11:00Z", "ada", PHONE, US)
    again = stats("mail")
    assert (again["totals"]["unique_opens_person"], again["open_rate"]["low"]) == (1, 0.5)
    assert names(again["opens_person_by"])["country"] == {"US": 1}
    assert again["time_to_open"]["median"] == pytest.approx(3 * 3600, rel=histogram.RELATIVE_ERROR)
    series = {one["start"][11:13]: one["unique_opens_person"] for one in _hours(stats)}
    assert {hour: n for hour, n in series.items() if n} == {"11": 1}


def _hours(stats):
    return stats("mail", **{"from": "2026-03-01", "to": "2026-03-02", "interval": "hour"})["series"]


def test_bursts_need_one_address_and_no_proxy(mail, opens, stats):
    mail()
    for n in range(5):
        opens(f"2026-03-01T09:00:0{n}Z", "ada", READER, f"198.51.100.{n % 2}")
        opens(f"2026-03-01T09:00:0{n}Z", "bob", GMAIL, f"66.249.84.{n}")
        opens(f"2026-03-01T09:00:0{n}Z", "cyd", READER, f"198.51.100.{n}", mode=Mode.COUNT)
    assert stats("mail")["verdicts"]["scanner"]["hits"] == 0


def test_bursts_need_one_link(mail, opens, stats):
    """The top and the bottom pixel of a mail are two links, and so are the pixels of two mails."""
    mail()
    opens("2026-03-01T09:00:00Z", "ada", READER, "198.51.100.1", part=Part.TOP)
    opens("2026-03-01T09:00:05Z", "ada", READER, "198.51.100.2", part=Part.BOTTOM)
    opens("2026-03-01T09:00:10Z", "ada", READER, "198.51.100.3", part=Part.TOP)
    for n in range(4):
        opens("2026-03-01T09:00:10Z", "bob", READER, f"198.51.100.{n}", now=MINTED + n // 2)
    assert stats("mail")["verdicts"]["scanner"]["hits"] == 0
    opens("2026-03-01T09:00:20Z", "ada", READER, "198.51.100.4", part=Part.TOP)
    opens("2026-03-01T09:00:20Z", "bob", READER, "198.51.100.4", now=MINTED)
    found = stats("mail")["verdicts"]
    assert (found["scanner"]["hits"], found["person"]["hits"]) == (6, 3)


def test_bursts_at_delivery_several_agents_are_found(mail, opens, stats):
    """At delivery, three pairs of address and agent make a burst; later, only three addresses do."""
    mail(sent_at="2026-03-01T09:00:00Z")
    agents = [READER, PHONE, PHONE.replace("137", "138")]
    for at, who in (("09:09:59", "ada"), ("09:10:00", "bob")):
        for agent in agents:
            opens(f"2026-03-01T{at}Z", who, agent)
    opens("2026-03-01T09:09:50Z", "cyd", READER, "198.51.100.1")
    opens("2026-03-01T09:09:50Z", "cyd", READER, "198.51.100.1")
    opens("2026-03-01T09:09:50Z", "cyd", PHONE, "198.51.100.2")
    opens("2026-03-01T09:10:05Z", "cyd", PHONE, "198.51.100.2")  # a device on both sides of the end
    assert stats("mail")["rules"] == {"burst": 3, "mail-client": 3, "browser": 4}


def test_bursts_without_time_of_sending_count_addresses_only(mail, opens, stats):
    mail()
    for agent in (READER, PHONE, PHONE.replace("137", "138"), CURL):
        opens("2026-03-01T09:00:00Z", "ada", agent)
    assert "burst" not in stats("mail")["rules"]


def test_bursts_traces_go_with_the_shards_hits(mail, page, opens, stats, site, clock, client, secrets):
    mail()
    page()
    opens("2026-03-01T22:00Z", "ada")
    stats("mail")
    [key] = client.keys("px:*evidence*")
    clock.at("2026-03-01T22:07Z")
    for n in range(40):  # some are in the same shard
        site.get(f"/p/page.gif?v={n}")
    stats("page")
    assert client.keys("px:*evidence*") == []
    assert key


def test_bursts_traces_go_after_a_day(mail, opens, stats, sweep, clock, client):
    mail()
    opens("2026-03-01T22:00Z", "ada")
    opens("2026-03-01T22:01Z", "ada")
    stats("mail")
    opens("2026-03-01T22:01Z", "ada")  # not counted yet
    clock.at("2026-03-02T21:00Z")
    assert sweep()["traces"] == 0
    clock.at("2026-03-03T22:00Z")
    assert sweep()["traces"] == 2
    assert client.keys("px:*evidence*") == []
    assert stats("mail")["totals"]["opens"] == 3


def test_bursts_traces_go_with_erasure_and_deletion(mail, opens, stats, site, client, secrets):
    mail()
    site.post("/api/campaigns", json={"id": "other", "name": "Other", "kind": "email"})
    opens("2026-03-01T22:00Z", "ada")
    opens("2026-03-01T22:00Z", "bob")
    stats("mail")
    ada, bob = secrets.recipient_key("ada"), secrets.recipient_key("bob")

    def traced():
        return sorted(name[:8] for key in client.keys("px:*evidence*") for name in client.hkeys(key))

    assert traced() == sorted([ada, bob])
    site.delete(f"/api/recipients/{ada.hex()}")
    assert traced() == [bob]
    site.delete("/api/campaigns/other")
    assert traced() == [bob]
    site.delete("/api/campaigns/mail")
    assert traced() == []


@pytest.mark.parametrize(
    ("agent", "before"), [(GMAIL, {"proxy": 20}), (READER, {"person": 4, "scanner": 16})]
)
def test_bursts_many_hits_of_a_minute_are_found(mail, opens, stats, agent, before):
    """Of more than 16 opens by one machine, the rest keep their verdict. Proxies do not count."""
    mail()
    for _ in range(20):
        opens("2026-03-01T09:00:01Z", "ada", agent)
    for n in range(30):
        opens(f"2026-03-01T09:00:{5 + n // 10:02}Z", "ada", READER, f"192.0.2.{n % 6}")
    found = {name: one["hits"] for name, one in stats("mail")["verdicts"].items() if one["hits"]}
    assert found == {**before, "scanner": 30 + before.get("scanner", 0)}


def test_bursts_without_opens_leave_no_recipient(mail, site, stats, clock, secrets, client):
    mail()
    clock.at("2026-03-01T09:00:00Z")
    url = Minter("http://pixel.test", secrets).url("mail", "ada", now=clock.now)
    for n in range(3):
        site.head(url, headers={"X-Forwarded-For": f"192.0.2.{n}"})
    assert stats("mail")["verdicts"]["scanner"]["hits"] == 3
    assert client.keys("px:*people*") == []

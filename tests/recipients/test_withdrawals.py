"""Withdrawals: recipients stop being recorded, and may allow recording again."""

from __future__ import annotations

import pytest

from pixel_server.recipients import withdrawals
from pixel_server.store import keys
from tests.privacy_form import DAY


def test_withdraw_recipient_is_not_recorded_until_allowed(mail, link, press, site, stats):
    mail()
    ada = link()
    assert site.get(ada.url).headers["x-pixel"] == "recorded"
    assert 'value="stop"' in site.get(ada.privacy_url).text
    assert 'value="allow"' in press(ada, "stop").text
    assert site.get(ada.url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert site.get(link(campaign="other").url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert site.get(link("bob").url).headers["x-pixel"] == "recorded"
    assert 'value="stop"' in press(ada, "allow").text
    assert site.get(ada.url).headers["x-pixel"] == "recorded"
    assert stats("mail")["totals"]["opens"] == 3


def test_withdraw_waiting_hit_is_dropped_by_its_own_time(mail, link, press, site, stats, clock):
    """The totals do not depend on when the roll-up runs."""
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


def test_withdraw_earlier_hit_stays(mail, link, press, site, stats, clock):
    mail()
    site.get(link().url)
    clock.at(f"{DAY}T09:00Z")
    press(link(), "stop")
    assert stats("mail")["totals"]["unique_opens"] == 1


def test_withdraw_during_a_roll_up_prevents_its_commit(
    mail, link, press, site, monkeypatch, count, clock, stats
):
    mail()
    site.get(link().url)
    read_periods = withdrawals.periods_by_recipient

    def withdrawn_meanwhile(*arguments):
        periods = yield from read_periods(*arguments)
        monkeypatch.setattr(withdrawals, "periods_by_recipient", read_periods)
        press(link(), "stop")  # at the very instant of the hit
        return periods

    monkeypatch.setattr(withdrawals, "periods_by_recipient", withdrawn_meanwhile)
    count(clock.now)
    assert withdrawals.periods_by_recipient is read_periods  # the withdrawal happened meanwhile
    assert stats("mail")["totals"]["opens"] == 0


@pytest.mark.parametrize(
    ("value", "periods"),
    [(None, []), (b"1 5-", [(5, None)]), (b"1 0-7 9-", [(0, 7), (9, None)]), (b"1 5-7", [(5, 7)])],
)
def test_parse_periods_stored_value_gives_its_periods(value, periods):
    assert withdrawals.parse_periods(value) == periods


def test_covers_period_includes_its_start_and_not_its_end():
    periods = withdrawals.parse_periods(b"1 5-7 9-")
    assert [time for time in range(12) if withdrawals.covers(periods, time)] == [5, 6, 9, 10, 11]


def test_withdraw_many_changes_keep_16_periods(mail, link, press, clock, client):
    mail()
    for hour in range(40):
        clock.now += 3600
        press(link(), "stop" if hour % 2 == 0 else "allow")
    [value] = client.hvals(keys.WITHDRAWN)
    periods = withdrawals.parse_periods(value)
    assert len(periods) == 16
    assert periods == sorted(periods)
    assert not withdrawals.is_withdrawn(periods)
    assert [end for _, end in periods][-1] == int(clock.now * 1000)

"""Opening curves: points by hour, then by day, and shares between two points."""

from __future__ import annotations

import pytest

from pixel_server.figures import opening_curve
from pixel_server.mail.links import Minter

SENT = "2026-03-10T08:10:00Z"


@pytest.fixture
def read_curve(site, mail, clock, count):
    """Counts all hits, then reads the opening curve of the campaign `mail` as the API shows it."""

    def read_curve():
        count(clock.now)
        answer = site.get("/api/compare?ids=mail,other")
        assert answer.status_code == 200, answer.text
        return answer.json()["items"][0]["opening_curve"]

    mail(id="other")
    return read_curve


def by_hours(curve):
    return {point["hours"]: point["unique_opens_person"] for point in curve}


def test_curve_has_hours_then_days(mail, opened, read_curve, clock):
    clock.at("2026-03-10T07:00Z")
    mail(sent=10, bounced=2, sent_at=SENT, time_zone="Europe/Berlin")
    for at, who in (
        ("10T08:20", "a"),
        ("10T09:05", "b"),
        ("11T20:00", "c"),
        ("12T21:00", "d"),
        ("20T09:00", "e"),
    ):
        opened(f"2026-03-{at}Z", who)
    opened("2026-03-20T10:00Z", "a")
    clock.at("2026-03-20T12:00Z")
    curve = read_curve()
    points = by_hours(curve)
    assert list(points)[:48] == [float(hour) for hour in range(1, 49)]
    assert list(points) == sorted(points)
    assert [points[hours] for hours in (1.0, 2.0, 36.0, 37.0, 48.0)] == [1, 2, 2, 3, 3]
    # Sending counts from 08:00 UTC. The local day of 12 March ends at 23:00 UTC.
    assert list(points)[48:50] == [63.0, 87.0]
    assert points[63.0] == 4
    assert curve[-1] == {"hours": 244.0, "unique_opens_person": 5, "share": 0.625, "high": 0.625}


def test_curve_of_a_new_mailing_ends_now(mail, opened, read_curve, clock):
    clock.at("2026-03-10T08:00Z")
    mail(sent=10, sent_at=SENT)
    opened("2026-03-10T08:12Z", "a")
    clock.at("2026-03-10T08:12Z")
    assert read_curve() == [{"hours": 0.2, "unique_opens_person": 1, "share": 0.1, "high": 0.1}]


def test_curve_high_counts_machines_too(site, mail, opened, read_curve, clock, secrets):
    clock.at("2026-03-10T08:00Z")
    mail(sent=10, sent_at=SENT)
    opened("2026-03-10T08:20Z", "a")
    url = Minter("http://pixel.test", secrets).url("mail", "b", now=clock.now)
    assert site.get(url, headers={"User-Agent": "curl/8.5.0"}).headers["x-pixel"] == "recorded"
    clock.at("2026-03-10T10:00Z")
    first = read_curve()[0]
    assert (first["unique_opens_person"], first["share"], first["high"]) == (1, 0.1, 0.2)


def test_curve_without_15_minute_series_has_days_only(mail, opened, read_curve, clock):
    clock.at("2026-03-10T08:00Z")
    mail(sent=10, sent_at=SENT, keep={"buckets": 3})
    opened("2026-03-10T08:20Z", "a")
    read_curve()
    clock.at("2026-03-14T00:00Z")
    assert by_hours(read_curve()) == {16.0: 1, 40.0: 1, 64.0: 1, 88.0: 1}


@pytest.mark.parametrize(
    "fields", [{}, {"sent_at": "2027-01-01T00:00:00Z"}, {"sent_at": SENT, "mode": "count", "sent": 3}]
)
def test_curve_that_is_not_known_is_null(mail, opened, read_curve, clock, fields):
    clock.at("2026-03-10T08:00Z")
    mail(**fields)
    clock.at("2026-03-11T08:00Z")
    assert read_curve() is None


def test_curve_without_sent_has_no_shares(mail, opened, read_curve, clock):
    clock.at("2026-03-10T08:00Z")
    mail(sent_at=SENT)
    opened("2026-03-10T08:20Z", "a")
    clock.at("2026-03-10T09:00Z")
    assert {point["share"] for point in read_curve()} == {None}


def test_share_at_lies_between_its_points():
    def point(hours, share):
        return opening_curve.Point(hours=hours, unique_opens_person=0, share=share, high=share)

    points = [point(1.0, 0.1), point(3.0, 0.3), point(10.0, 0.3)]
    found = [opening_curve.share_at(points, hours) for hours in (0.5, 1, 2, 3, 7, 10, 11)]
    assert found == [None, 0.1, pytest.approx(0.2), 0.3, pytest.approx(0.3), 0.3, None]
    assert opening_curve.share_at([point(1.0, None)], 1) is None

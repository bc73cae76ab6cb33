"""Options that are times: a day, or a time without an offset, is in the campaign's time zone."""

from __future__ import annotations

import json

import pytest

from pixel_server.times import iso
from pixel_server.tokens import decode_unverified


@pytest.fixture
def done(run, redis_url, tmp_path):
    """Returns a function that runs a command on an empty store, and returns its JSON."""
    from pixel_server.secret import Secrets

    Secrets.load_or_create(tmp_path)

    def done(*arguments, code=0, **environ):
        result = run(*arguments, REDIS_URL=redis_url, PIXEL_BASE_URL="http://pixel.test", **environ)
        assert result.exit_code == code, result.output
        return result.output if code else json.loads(result.stdout)

    return done


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-30", "2026-11-29T18:15:00Z"),
        ("2026-11-30T09:30", "2026-11-30T03:45:00Z"),
        ("2026-11-30 09:30:15", "2026-11-30T03:45:15Z"),
        ("2026-11-30T09:30:00+01:00", "2026-11-30T08:30:00Z"),
        ("2026-11-30t08:30:00z", "2026-11-30T08:30:00Z"),
    ],
)
def test_times_of_campaigns_and_notes_are_in_the_campaigns_zone(done, text, instant):
    zone = ("--time-zone", "Asia/Kathmandu")
    made = done("campaign", "create", "tour", *zone, "--sent-at", text, "--json")
    assert made["sent_at"] == instant
    link = done("link", "tour", "ada@example.org", "--sent-at", text, "--json")
    assert iso(pixel_time(link["url"])) == instant
    done("campaign", "create", "later", *zone, "--json")
    assert done("campaign", "set", "later", "--sent-at", text, "--json")["sent_at"] == instant
    assert done("note", "add", "later", "Sent", "--at", text, "--json")["at"] == instant


def pixel_time(url: str) -> int:
    return decode_unverified(url.rpartition("/")[2].removesuffix(".gif").encode()).time


def test_times_sent_at_of_a_link_follows_the_default_zone_and_needs_an_offset_offline(run, done):
    done("campaign", "create", "tour", "--json")
    at = ("--sent-at", "2026-11-30T09:30")
    link = done("link", "unborn", "ada@example.org", *at, "--json", PIXEL_TIME_ZONE="Asia/Kathmandu")
    assert iso(pixel_time(link["url"])) == "2026-11-30T03:45:00Z"
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "PIXEL_BASE_URL": "http://pixel.test"}
    failed = run("embed", "unborn", "ada@example.org", *at, input="<p>Hi", **away)
    assert failed.exit_code == 1
    assert "--sent-at needs an offset" in failed.stderr
    assert run("link", "unborn", "ada@example.org", *at[:1], f"{at[1]}Z", **away).exit_code == 0
    assert "between 1970" in run("link", "x", "ada@example.org", *at[:1], "1969-12-31T00:00Z", **away).stderr


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2100-12-31", "2100-12-31T18:15:00Z"),
        ("2100-12-31T18:00", "2100-12-31T12:15:00Z"),
        ("2100-12-31T18:00:00Z", "2100-12-31T18:00:00Z"),
    ],
)
def test_times_share_link_works_to_the_end_of_its_last_day(done, text, instant):
    done("campaign", "create", "tour", "--time-zone", "Asia/Kathmandu", "--json")
    assert done("share", "create", "tour", "Partner", "--expires", text, "--json")["expires_at"] == instant


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (text, "must be a day or a time, as 2026-11-24")
            for text in ("soon", "2026-13-01", "", "30.11.2026")
        ),
        *((text, "must lie between 1970-01-01 and 2106-02-07") for text in ("1969-12-30", "9999-12-31")),
    ],
)
def test_times_bad_time_is_refused_with_its_reason(done, text, reason):
    done("campaign", "create", "tour", "--json")
    assert f"--sent-at {reason}" in done("campaign", "set", "tour", "--sent-at", text, code=1)
    assert f"--at {reason}" in done("note", "add", "tour", "Sent", "--at", text, code=1)
    assert f"--expires {reason}" in done("share", "create", "tour", "Partner", "--expires", text, code=1)


def test_times_share_link_that_has_expired_is_refused(done):
    done("campaign", "create", "tour", "--json")
    assert "future" in done("share", "create", "tour", "Partner", "--expires", "2020-01-01", code=1)

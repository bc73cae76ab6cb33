"""The visitor cookie: it must be signed here, for this campaign, and not too long ago."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.collect import visitor_cookie
from pixel_server.collect.visitor_cookie import (
    LIFETIME_SECONDS,
    MAX_SKEW_SECONDS,
    MAX_VISITS,
    VISIT_PAUSE_SECONDS,
    Cookie,
)
from pixel_server.secret import Secrets

NOW = 1_790_000_000
KEYS = Secrets.derive(("signing-key-of-the-tests",), "recipient").cookies
ADA = Cookie(b"adasbrow", 3, NOW - 86_400, NOW - 10, 7)


def sent(held: Cookie = ADA, campaign: str = "shop", keys: tuple[bytes, ...] = KEYS) -> bytes:
    return f"px_{campaign}=".encode() + visitor_cookie.sign(held, campaign, keys[0])


def read(cookies: bytes | None, campaign: str = "shop", keys: tuple[bytes, ...] = KEYS, now: int = NOW):
    return visitor_cookie.read_cookie(cookies, campaign, keys, now, 4)


def test_cookie_signed_value_is_read():
    assert read(sent()) == ADA
    assert read(b"a=b;" + sent() + b";c") == ADA
    assert read(None) is read(b"") is None


@given(
    st.builds(
        Cookie,
        st.binary(min_size=8, max_size=8),
        st.integers(0, 3),
        st.just(NOW - LIFETIME_SECONDS),
        st.integers(NOW - LIFETIME_SECONDS, NOW + MAX_SKEW_SECONDS),
        st.integers(1, MAX_VISITS),
    )
)
def test_cookie_any_fields_are_read_as_signed(held: Cookie):
    assert read(sent(held)) == held
    assert len(sent(held)) == len("px_shop=") + 40


def test_cookie_of_an_older_key_is_read():
    new, old = (Secrets.derive((text,), "recipient").cookies for text in ("the-newest-key", "the-older-key"))
    both = Secrets.derive(("the-newest-key", "the-older-key"), "recipient").cookies
    assert both == (*new, *old)
    assert read(sent(keys=old), keys=both) == read(sent(keys=new), keys=both) == ADA
    assert read(sent(keys=old), keys=new) is None


@pytest.mark.parametrize("place", range(40))
def test_cookie_any_letter_changed_is_refused(place: int):
    value = bytearray(sent())
    at = len("px_shop=") + place
    value[at] = ord("A") if value[at] != ord("A") else ord("B")
    assert read(bytes(value)) is None


def test_cookie_other_spelling_is_refused():
    spelled = next(
        value for i in range(1000) if b"-" in (value := sent(ADA._replace(id=i.to_bytes(8, "big"))))
    )
    assert read(spelled) is not None
    name, _, value = spelled.partition(b"=")
    for other in (value.replace(b"-", b"+"), value[:-1], value + b"=", value + b"A", b"\n" + value[:-1]):
        assert read(name + b"=" + other) is None


@pytest.mark.parametrize("campaign", ["shop2", "sho", "other"])
def test_cookie_of_another_campaign_is_refused(campaign: str):
    assert read(f"px_{campaign}=".encode() + sent().partition(b"=")[2], campaign) is None
    assert read(sent(), campaign) is None
    assert read(sent(campaign=campaign)) is None


@pytest.mark.parametrize(
    ("held", "good"),
    [
        (ADA._replace(shard=3), True),
        (ADA._replace(shard=4), False),
        (ADA._replace(first=NOW - LIFETIME_SECONDS), True),
        (ADA._replace(first=NOW - LIFETIME_SECONDS - 1), False),
        (ADA._replace(first=NOW + MAX_SKEW_SECONDS, last=NOW + MAX_SKEW_SECONDS), True),
        (ADA._replace(last=NOW + MAX_SKEW_SECONDS + 1), False),
        (ADA._replace(first=NOW, last=NOW - 1), False),
    ],
)
def test_cookie_impossible_shard_or_time_is_refused(held: Cookie, good: bool):
    assert read(sent(held)) == (held if good else None)


def test_cookie_good_value_behind_many_bad_is_not_tried():
    bad = b"px_shop=" + b"A" * 40
    assert read(b"; ".join([bad] * 3 + [sent()])) == ADA
    assert read(b"; ".join([bad] * 4 + [sent()])) is None


@pytest.mark.parametrize(
    ("pause", "visits", "last", "due"),
    [
        (0, 7, 0, False),
        (60, 7, 60, False),
        (61, 7, 61, True),
        (VISIT_PAUSE_SECONDS, 7, VISIT_PAUSE_SECONDS, True),
        (VISIT_PAUSE_SECONDS + 1, 8, VISIT_PAUSE_SECONDS + 1, True),
        (-MAX_SKEW_SECONDS, 7, 0, False),
    ],
)
def test_cookie_half_an_hour_without_a_hit_begins_a_visit(pause: int, visits: int, last: int, due: bool):
    after = visitor_cookie.with_hit(ADA, ADA.last + pause)
    assert after == ADA._replace(visits=visits, last=ADA.last + last)
    assert visitor_cookie.is_renewal_due(ADA, after) is due


def test_cookie_visits_stop_at_the_maximum():
    many = ADA._replace(visits=MAX_VISITS, last=NOW - VISIT_PAUSE_SECONDS - 1)
    assert visitor_cookie.with_hit(many, NOW).visits == MAX_VISITS
    assert sent(visitor_cookie.with_hit(many, NOW))


def line(held: Cookie = ADA, site: bytes | None = None, path: str = "/p/", now: int = NOW) -> str:
    name, value = visitor_cookie.set_cookie_header(held, "shop", KEYS[0], path, now, site)
    assert name == b"set-cookie"
    assert value.startswith(sent(held) + b"; ")
    return value.decode().partition("; ")[2]


def test_cookie_lasts_13_months_from_the_first_visit():
    assert f"Max-Age={LIFETIME_SECONDS};" in line(visitor_cookie.new(0, NOW))
    assert f"Max-Age={LIFETIME_SECONDS - 86_400};" in line()
    assert "Max-Age=1;" in line(now=ADA.first + LIFETIME_SECONDS - 1)
    assert f"Max-Age={LIFETIME_SECONDS};" in line(now=ADA.first - MAX_SKEW_SECONDS)


@pytest.mark.parametrize("site", [None, b"same-origin", b"same-site", b"none"])
def test_cookie_same_site_depends_on_the_requesting_site(site: bytes | None):
    usual = f"Path=/px/p/; Max-Age={LIFETIME_SECONDS - 86_400}; HttpOnly; Secure; "
    assert line(site=site, path="/px/p/") == f"{usual}SameSite=Lax"
    assert line(site=b"cross-site", path="/px/p/") == f"{usual}SameSite=None; Partitioned"


def test_cookie_new_ids_differ():
    assert len({visitor_cookie.new(0, NOW).id for _ in range(1000)}) == 1000

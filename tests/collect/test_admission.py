"""Admission: which requests are good pixel requests, and the hits made of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server import hit, opt_out_cookie
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.collect import responses
from pixel_server.collect.admission import Accepted, Admission
from pixel_server.collect.request_head import RequestHead
from pixel_server.collect.responses import Answer
from pixel_server.consent import Consent
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Mode, Token, sign
from tests.conftest import NOW

SECRETS = Secrets.derive(("signing-key-of-the-tests",), "recipient-secret-of-the-tests")
ADA = SECRETS.recipient_key("ada")
MINTED = int(NOW) - 3600
DAYS = 10


def new_admission() -> Admission:
    campaigns = CampaignCache(None, Consent(Settings()))
    campaigns.learn(new_campaign("mail", "Mail", "email"))
    for name, identity in (
        ("site", "own"),
        ("other-site", "own"),
        ("plain", "cookieless"),
        ("shop", "cookie"),
        ("no", "cookie"),
    ):
        campaigns.learn(new_campaign(name, name, "web", identity=identity))
    campaigns.forget("gone")
    return Admission(Settings(token_days=DAYS), SECRETS, campaigns, Consent(Settings()), (), lambda: NOW)


ADMISSION = new_admission()


def check(
    path: str | bytes, query: bytes = b"", method: str = "GET", peer: str = "203.0.113.9", **headers: str
):
    """Returns the answer to a request, or its hit. headers: names with `_` in place of `-`."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    whole = path.encode() if isinstance(path, str) else path
    return ADMISSION.admit(method, whole, query, RequestHead(named), peer)


def stored(accepted: Answer | Accepted) -> Hit:
    assert isinstance(accepted, Accepted), accepted
    [recorded], unreadable = hit.decode_batch(hit.encode_batch([accepted.data]))
    assert unreadable == []
    return recorded


def open_path(campaign: str = "mail", time: int = MINTED, recipient: bytes = ADA, **token: Any) -> str:
    return f"/o/{sign(Token(campaign, time, recipient, **token), SECRETS.signing[0])}.gif"


def test_admission_mail_link_of_web_campaign_records_nothing():
    answer = check(open_path("site"))
    assert isinstance(answer, Answer)
    assert dict(answer.headers)[b"x-pixel"] == b"ignored; reason=kind"


@pytest.mark.parametrize("campaign", ["mail", "not-made-yet"])
def test_admission_good_token_of_any_campaign_records_a_hit(campaign: str):
    accepted = check(
        open_path(campaign),
        user_agent="Mail/1.0",
        referer="https://mail.example/",
        accept_language="de",
        sec_gpc="0",
        dnt="0",
    )
    assert stored(accepted) == Hit(
        int(NOW * 1000),
        campaign,
        hit.EMAIL,
        "GET",
        Token(campaign, 0).flags,
        MINTED,
        ADA,
        address=bytes([203, 0, 113, 9]),
        agent="Mail/1.0",
        referrer="https://mail.example/",
        language="de",
        gpc="0",
        dnt="0",
    )
    assert accepted.shard == shard_of(ADA, 4)


def test_admission_token_without_recipient_fits_any_shard():
    accepted = check(open_path(recipient=b"", mode=Mode.COUNT))
    assert accepted.shard is None
    assert stored(accepted).recipient == b""


@pytest.mark.parametrize(
    ("age", "expected"), [(DAYS * 86_400, None), (DAYS * 86_400 + 1, responses.EXPIRED), (-(10**6), None)]
)
def test_admission_token_by_age_is_recorded_or_expired(age: int, expected: Answer | None):
    answer = check(open_path(time=int(NOW) - age))
    assert answer is expected if expected else isinstance(answer, Accepted)


PATHS = {"mail": open_path(), "site": "/p/site.gif"}
GONE = {"mail": open_path("gone"), "site": "/p/gone.gif"}
BAD = {"mail": "/o/bad.gif", "site": "/p/bad.gif"}


@pytest.mark.parametrize("kind", ["mail", "site"])
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get"]
)
def test_admission_other_method_records_nothing(kind: str, method: str):
    expected = {"GET": responses.GONE, "HEAD": responses.GONE, "OPTIONS": responses.OPTIONS}
    answer = check(PATHS[kind], method=method)
    if method in ("GET", "HEAD"):
        assert stored(answer).method == method
    else:
        assert answer is expected.get(method, responses.BAD_METHOD)
    assert check(GONE[kind], method=method) is expected.get(method, responses.BAD_METHOD)
    assert check(BAD[kind], method=method).status == 404


@pytest.mark.parametrize(
    "name",
    [
        "mail",
        "none",
        "gone-not",
        "Site",
        "-site",
        "s" * 64,
        "site.gif",
        "\N{CYRILLIC SMALL LETTER DZE}ite",
        "sit%65",
    ],
)
def test_admission_page_pixel_of_another_campaign_is_not_found(name: str):
    assert check(f"/p/{name}.gif") is responses.NO_CAMPAIGN


@pytest.mark.parametrize(
    "path",
    [
        "/o",
        "/o/",
        "/o/.gif",
        "/p",
        "/p/",
        "/p/.gif",
        "/p/site",
        "/p/site.gi",
        "/p/site.gif/",
        "/p/site.GIF",
        "/p/site.gif.png",
        "/P/site.gif",
        "//p/site.gif",
        "/%70/site.gif",
        "/q/site.gif",
        "/",
        "",
        "x.gif",
        "/o.gif",
        "/o/.gi",
    ],
)
def test_admission_other_path_is_not_found(path: str):
    assert check(path) is responses.NOT_FOUND


@pytest.mark.parametrize(
    "path", ["/p/../p/site.gif", "/p/./site.gif", "/p//site.gif", "/p/site.gif?.gif", "/p/\0.gif"]
)
def test_admission_path_in_another_spelling_is_refused(path: str):
    assert check(path).status == 404


@pytest.mark.parametrize(
    ("query", "page", "referrer", "own"),
    [
        (b"", "https://from.example/", "", b""),
        (b"u=https://x.example/a&r=https://y.example/", "https://x.example/a", "https://y.example/", b""),
        (b"u=https%3A%2F%2Fx.example%2F%C3%A9%3Fa%3Db%26c", "https://x.example/é?a=b&c", "", b""),
        ("u=https://x.example/é".encode(), "https://x.example/é", "", b""),
        (b"u=a+b%2Bc", "a b+c", "", b""),
        (b"u=%ff\xff", "\ufffd\ufffd", "", b""),
        (b"u=%zz%", "%zz%", "", b""),
        (b"u=first&u=second&v=1&v=2", "first", "", b"1"),
        (b"u=&u=second", "https://from.example/", "", b""),
        (b"u", "https://from.example/", "", b""),
        (b"v=", "https://from.example/", "", b""),
        (b"&&=&v=%00%ff&;", "https://from.example/", "", b"\0\xff"),
        (b"U=a&R=b&V=c&x=d", "https://from.example/", "", b""),
        (b"u=" + b"a" * 5000, "a" * hit.MAX_URL, "", b""),
        (b"r=" + b"a" * 5000, "https://from.example/", "a" * hit.MAX_URL, b""),
        (b"x=" + b"a" * 20_000 + b"&v=1", "https://from.example/", "", b""),
    ],
)
def test_admission_page_query_is_stored_in_the_hit(query: bytes, page: str, referrer: str, own: bytes):
    recorded = stored(check("/p/site.gif", query, referer="https://from.example/"))
    assert (recorded.page, recorded.page_referrer, recorded.referrer) == (
        page,
        referrer,
        "https://from.example/",
    )
    assert recorded.visitor == (SECRETS.visitor_key(b"own", b"site", own) if own else b"")


def test_admission_visitor_id_is_stored_as_a_hash_of_its_campaign():
    accepted = check("/p/site.gif", b"v=ada%40example.org")
    assert b"ada" not in accepted.data
    assert accepted.shard == shard_of(stored(accepted).visitor, 4)
    other = stored(check("/p/other-site.gif", b"v=ada%40example.org"))
    assert len(other.visitor) == 8
    assert other.visitor != stored(accepted).visitor


@pytest.mark.parametrize("query", [b"v=ada", b"v=ada&c=1"])
def test_admission_visitor_id_counts_in_identity_own_only(query: bytes):
    assert stored(check("/p/plain.gif", query)).visitor == b""
    assert stored(check("/p/plain.gif", query)) == stored(check("/p/plain.gif"))
    by_cookie = stored(check("/p/shop.gif", query)).visitor
    assert by_cookie != SECRETS.visitor_key(b"own", b"shop", b"ada")
    assert bool(by_cookie) == (b"c=1" in query)


ADDRESSES = [f"203.0.113.{i}" for i in range(50)]


@pytest.mark.parametrize("campaign", ["site", "plain", "shop"])
def test_admission_visitor_without_id_keeps_its_shard(campaign: str):
    path = f"/p/{campaign}.gif"
    first = [check(path, peer=address, user_agent="A").shard for address in ADDRESSES]
    again = [check(path, b"u=x", peer=address, user_agent="A").shard for address in ADDRESSES]
    assert first == again
    assert set(first) == {0, 1, 2, 3}


def test_admission_ipv6_visitor_keeps_its_shard_within_its_64():
    networks = [f"2001:db8:0:{number:x}" for number in range(20)]
    shards = [
        {check("/p/site.gif", peer=f"{network}::{last}").shard for last in ("1", "2:3:4", "ffff:fff0")}
        for network in networks
    ]
    assert all(len(of_network) == 1 for of_network in shards)
    assert set().union(*shards) == {0, 1, 2, 3}


def test_admission_new_cookie_names_the_fallback_shard():
    for address in ADDRESSES:
        plain = check("/p/shop.gif", peer=address)
        first = check("/p/shop.gif", b"c=1", peer=address)
        assert first.shard == plain.shard
        value = dict(first.answer.headers)[b"set-cookie"].decode().partition(";")[0]
        second = check("/p/shop.gif", b"c=1", peer="192.0.2.1", user_agent="another", cookie=value)
        assert second.shard == first.shard
        assert stored(second).visitor == stored(first).visitor
        assert (stored(first).is_new, stored(first).visits) == (True, 1)
        assert (stored(second).is_new, stored(second).visits) == (False, 1)
        assert second.answer is responses.RECORDED


@pytest.mark.parametrize("says", ["px-no=1", "a=b; px-no=1", "px-no=1;a=b"])
@pytest.mark.parametrize("path", [open_path(), "/p/site.gif", "/p/shop.gif"])
def test_admission_opted_out_is_counted_and_not_recorded(path: str, says: str):
    admission = new_admission()
    for _ in range(3):
        answer = admission.admit(
            "GET", path.encode(), b"c=1", RequestHead([(b"cookie", says.encode())]), None
        )
        assert answer is responses.OPTED_OUT
    name = "mail" if path.startswith("/o/") else path[3:-4]
    assert admission.dropped == {f"{name}:out": 3}
    assert not admission.recent


def test_admission_opt_out_cookie_is_not_a_campaigns_cookie():
    name, _, value = (
        opt_out_cookie.set_cookie("/", opts_out=True, is_framed=False).partition(";")[0].partition("=")
    )
    assert opt_out_cookie.is_set(f"{name}={value}".encode())
    assert not name.startswith("px_")  # as the cookies of campaigns begin
    of_campaign = dict(check("/p/no.gif", b"c=1").answer.headers)[b"set-cookie"].decode()
    assert not of_campaign.startswith(f"{name}=")


@pytest.mark.parametrize(
    ("header", "field", "most"),
    [
        ("user_agent", "agent", hit.MAX_AGENT),
        ("referer", "referrer", hit.MAX_URL),
        ("accept_language", "language", hit.MAX_LANGUAGE),
        ("sec_gpc", "gpc", hit.MAX_SIGNAL),
        ("dnt", "dnt", hit.MAX_SIGNAL),
    ],
)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_admission_long_header_is_cut(path: str, header: str, field: str, most: int):
    assert getattr(stored(check(path, **{header: "a" * (most + 1)})), field) == "a" * most
    cut_within_a_letter = stored(check(path, **{header: "é" * most}))
    assert len(getattr(cut_within_a_letter, field)) <= most


def test_admission_purpose_headers_are_all_stored():
    recorded = stored(
        check(open_path(), sec_purpose="prefetch;prerender", x_moz="prefetch", purpose="p" * 99)
    )
    assert (
        recorded.purpose == f"sec-purpose=prefetch;prerender;purpose={'p' * hit.MAX_SIGNAL};x-moz=prefetch;"
    )


def test_admission_recent_holds_the_last_addresses_only():
    admission = new_admission()
    for i in range(1500):
        admission.admit("GET", b"/p/site.gif", b"", RequestHead([]), f"203.0.{i // 256}.{i % 256}")
    admission.admit("GET", b"/p/none.gif", b"", RequestHead([]), "192.0.2.1")
    assert len(admission.recent) == 1000
    assert admission.recent[-1] == bytes([203, 0, 1499 // 256, 1499 % 256])


headers = st.dictionaries(
    st.sampled_from(
        [b"user-agent", b"referer", b"accept-language", b"sec-gpc", b"dnt", b"purpose", b"x-moz"]
    ),
    st.binary(max_size=60),
)


@given(st.sampled_from([*PATHS.values()]), st.binary(max_size=80), headers, st.text(max_size=20) | st.none())
def test_admission_any_bytes_around_a_good_pixel_record_a_hit(
    path: str, query: bytes, headers: dict, peer: str | None
):
    stored(ADMISSION.admit("GET", path.encode(), query, RequestHead([*headers.items()]), peer))


@given(st.binary(max_size=130), st.sampled_from([b"", b"/o/", b"/p/"]), st.sampled_from([b"", b".gif"]))
def test_admission_any_bytes_as_a_name_record_nothing(name: bytes, start: bytes, end: bytes):
    answer = ADMISSION.admit("GET", start + name + end, b"", RequestHead([]), None)
    assert isinstance(answer, Answer)
    assert answer.status == 404

"""Pixel links, which are made offline."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from pixel_server.mail.links import Link, Minter
from pixel_server.secret import Secrets
from pixel_server.tokens import MAX_TIME, Mode, Part, mode_of, part_of, verify

NOW = 1_790_000_000
MIDNIGHT = NOW - NOW % 86_400


@pytest.fixture(scope="session")
def minter(secrets: Secrets) -> Minter:
    return Minter("https://mail.example.org", secrets)


def token(url: str | None) -> bytes:
    assert url is not None
    assert url.endswith(".gif")
    return url.rpartition("/")[2].removesuffix(".gif").encode()


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    "base", ["https://mail.example.org", "http://127.0.0.1:8000", "https://x.example/a/b", "http://[::1]:80"]
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_url_begins_with_the_base_url(base: str, slash: str, secrets: Secrets):
    url = Minter(base + slash, secrets).url("spring", "ada", now=NOW)
    assert url == f"{base}/o/{token(url).decode()}.gif"
    assert verify(token(url), secrets.signing)[1:] == (NOW, secrets.recipient_key("ada"), "spring")


@pytest.mark.parametrize(
    "base",
    [
        "",
        "mail.example.org",
        "//mail.example.org",
        "ftp://mail.example.org",
        "javascript:alert(1)",
        "https://",
        "https:///o",
        "https://a b",
        "https://a\n",
        "https://a/\x00",
        'https://a/"onload="x',
        "https://a/<b>",
        "https://a/é",
        "https://a?b",
        "https://a#b",
        "https://ada:secret@a",
        "https://a:port",
        "https://a:99999",
        "https://a:0",
        "https://[::1",
        "https://a/" + "b" * 500,
    ],
)
def test_minter_bad_base_url_is_refused(base: str, secrets: Secrets):
    with pytest.raises(ValueError, match="must "):
        Minter(base, secrets)


def test_link_html_is_an_image_that_shifts_nothing(secrets: Secrets):
    link = Minter("https://x.example/a&b", secrets).link("spring", "ada")
    assert link.html is not None
    [(tag, attributes)] = Tags(link.html).found
    assert tag == "img"
    assert attributes["src"] == link.url
    assert attributes["width"] == attributes["height"] == "1"
    assert attributes["alt"] == ""
    assert " " not in attributes["style"], "a line may be folded at each blank"
    assert "display:none" not in link.html
    assert "hidden" not in link.html


def test_link_does_not_contain_the_recipient(minter: Minter):
    link = minter.link("spring", "ada@example.org")
    assert "ada" not in f"{link.url}{link.html}"


@pytest.mark.parametrize("recipient", ["a", "a" * 256, "ada@example.org", "Ада Лавлейс", "👩‍💻", " ", "a b"])
def test_url_any_text_can_be_a_recipient(recipient: str, minter: Minter, secrets: Secrets):
    decoded = verify(token(minter.url("spring", recipient)), secrets.signing)
    assert decoded[2] == secrets.recipient_key(recipient)


@pytest.mark.parametrize(
    ("recipient", "why"),
    [
        ("", "must not be empty"),
        ("a" * 257, "at most 256"),
        ("a\n", "control"),
        ("\0", "control"),
        ("a\tb", "control"),
        ("a\x7f", "control"),
        ("a\x85", "control"),
        ("\ud800", "control"),
    ],
)
@pytest.mark.parametrize("mode", [Mode.PSEUDONYMOUS, Mode.COUNT, Mode.OFF])
def test_url_bad_recipient_is_refused_in_every_mode(recipient: str, why: str, mode: Mode, minter: Minter):
    with pytest.raises(ValueError, match=why):
        minter.url("spring", recipient, mode=mode)


@pytest.mark.parametrize(
    "campaign",
    [
        "",
        "Spring",
        "-a",
        "a" * 64,
        "a b",
        "a\n",
        "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "spr\N{LATIN SMALL LETTER DOTLESS I}ng",
        "../x",
    ],
)
def test_url_bad_campaign_is_refused(campaign: str, minter: Minter):
    with pytest.raises(ValueError, match="campaign"):
        minter.url(campaign, "ada")


@pytest.mark.parametrize("at", [-1, MAX_TIME + 1, 10**30, "2026-11-24", 1.5])
def test_url_time_out_of_range_is_refused(at: int, minter: Minter):
    with pytest.raises(ValueError, match="sent_at: must be whole seconds"):
        minter.url("spring", "ada", sent_at=at)


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("mode", [Mode.COUNT, Mode.LAST, Mode.PSEUDONYMOUS, Mode.IDENTIFIED])
@pytest.mark.parametrize("test", [True, False])
def test_url_token_has_the_mode_part_and_test_flag(
    part: Part, mode: Mode, test: bool, minter: Minter, secrets: Secrets
):
    flags = verify(token(minter.url("spring", "ada", mode=mode, part=part, test=test)), secrets.signing)[0]
    assert (mode_of(flags), part_of(flags), bool(flags & 0x40)) == (mode, part, test)


def test_url_sent_at_replaces_the_time_of_minting(minter: Minter, secrets: Secrets):
    minted = verify(token(minter.url("spring", "ada", now=NOW + 0.9)), secrets.signing)
    sent = verify(token(minter.url("spring", "ada", sent_at=NOW + 60, now=NOW)), secrets.signing)
    assert (minted[0] & 0x20, minted[1]) == (0, NOW)
    assert (sent[0] & 0x20, sent[1]) == (0x20, NOW + 60)


def test_link_mode_off_is_none(minter: Minter):
    assert minter.link("spring", "ada", mode=Mode.OFF) == Link(None, None, None)


@pytest.mark.parametrize("mode", Mode)
def test_url_without_mode_uses_the_mode_of_the_minter(mode: Mode, secrets: Secrets):
    def link(minter: Minter, **options):
        return minter.url("spring", "ada", sent_at=1764000000, **options)

    plain, made = Minter("http://x", secrets), Minter("http://x", secrets, mode.name.lower())
    assert link(made) == link(plain, mode=mode) == link(plain, mode=mode.name.lower())
    assert link(made, mode="pseudonymous") == link(plain)


@pytest.mark.parametrize("mode", ["", "COUNT", "some", 1, b"count"])
def test_url_bad_mode_is_refused(mode, minter: Minter, secrets: Secrets):
    with pytest.raises(ValueError, match="mode: must be one of: off, count"):
        minter.url("spring", "ada", mode=mode)
    with pytest.raises(ValueError, match="mode: must be one of: off, count"):
        Minter("http://x", secrets, mode)


@pytest.mark.parametrize("sent", [True, False], ids=["sending", "minting"])
def test_url_mode_count_is_the_same_all_day(sent: bool, minter: Minter, secrets: Secrets):
    def link(recipient: str, at: int) -> str | None:
        return minter.url(
            "spring", recipient, mode=Mode.COUNT, sent_at=at if sent else None, now=NOW if sent else at
        )

    day = {link(name, MIDNIGHT + s) for name in ("ada", "bob", "a" * 256) for s in (0, 1, 43_200, 86_399)}
    assert len(day) == 1
    assert verify(token(day.pop()), secrets.signing)[1:] == (MIDNIGHT, b"", "spring")
    assert link("ada", MIDNIGHT) != link("ada", MIDNIGHT - 1)

"""Making pixel links: stateless and offline. Needs neither Redis nor a server.

minter = Minter("https://mail.example.org", Secrets.load(Path("pixel-data")))
minter.link("spring-sale", "ada@example.org").html
embed(mail, minter, "spring-sale", "ada@example.org")
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from pixel_server.mail.placement import Tags, frame, put
from pixel_server.secret import Secrets
from pixel_server.settings import parse_base_url
from pixel_server.slug import is_slug
from pixel_server.times import DAY
from pixel_server.tokens import MAX_TIME, MODES, Mode, Part, Token, sign

MAX_RECIPIENT = 256

Html = TypeVar("Html", str, bytes)

_control = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def check_recipient(recipient: str) -> str:
    """The recipient as given. ValueError: not 1 to 256 characters without control characters."""
    if not 1 <= len(recipient) <= MAX_RECIPIENT:
        raise ValueError("must have 1 to 256 characters")
    if _control(recipient):
        raise ValueError("must not contain control characters")
    return recipient


def as_mode(mode: Mode | str) -> Mode:
    """ValueError: it is none."""
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise ValueError(f"mode: must be one of: {', '.join(MODES)}")
    return Mode[mode.upper()]


@dataclass(frozen=True, slots=True)
class Link:
    """A pixel of one mail. All are None in mode off: that mail has no pixel.

    privacy_url: the page on which its recipient sees what is recorded, and stops it.
    """

    url: str | None
    html: str | None
    privacy_url: str | None


class Minter:
    """Makes links under one base URL. mode: of links that are asked for without one, that of their campaign.

    ValueError: the base URL or mode is none.
    """

    def __init__(self, base_url: str, secrets: Secrets, mode: Mode | str = Mode.PSEUDONYMOUS) -> None:
        base_url = parse_base_url(base_url)
        self._mode = as_mode(mode)
        self._open = f"{base_url}/o/"
        self._privacy = f"{base_url}/privacy?t="
        self._secrets = secrets

    def url(
        self,
        campaign: str,
        recipient: str,
        *,
        mode: Mode | str | None = None,
        part: Part = Part.SINGLE,
        sent_at: int | None = None,
        test: bool = False,
        now: float | None = None,
    ) -> str | None:
        """The pixel's address; None in mode off.

        mode: a Mode or its name. sent_at: when the mail goes out, seconds since 1970; without it the link
        carries the time of minting (`now`). ValueError: campaign, recipient, mode or time cannot be used.
        """
        if not is_slug(campaign):
            raise ValueError(f"campaign: not an id: {campaign[:64]!r}")
        check_recipient(recipient)
        kept = self._mode if mode is None else as_mode(mode)
        if kept is Mode.OFF:
            return None
        at = int(time.time() if now is None else now) if sent_at is None else sent_at
        if not isinstance(at, int) or not 0 <= at <= MAX_TIME:
            raise ValueError("sent_at: must be whole seconds since 1970")
        named = kept is not Mode.COUNT
        token = Token(
            campaign,
            at if named else at - at % DAY,
            self._secrets.recipient_key(recipient) if named else b"",
            kept,
            part,
            sent_at is not None,
            test,
        )
        return f"{self._open}{sign(token, self._secrets.signing[0])}.gif"

    def link(
        self,
        campaign: str,
        recipient: str,
        *,
        mode: Mode | str | None = None,
        part: Part = Part.SINGLE,
        sent_at: int | None = None,
        test: bool = False,
        now: float | None = None,
    ) -> Link:
        """The address and its image tag; see `url`."""
        url = self.url(campaign, recipient, mode=mode, part=part, sent_at=sent_at, test=test, now=now)
        if url is None:
            return Link(None, None, None)
        token = url.removeprefix(self._open).removesuffix(".gif")
        return Link(url, img(url), f"{self._privacy}{token}")


def img(url: str) -> str:
    """An image tag that moves nothing in the mail. Not `display:none`: Gmail does not load that."""
    return f'<img src="{escape(url)}" width="1" height="1" alt="" border="0">'


def make_tags(
    minter: Minter,
    campaign: str,
    recipient: str,
    *,
    twin: bool = False,
    mode: Mode | str | None = None,
    sent_at: int | None = None,
    test: bool = False,
    now: float | None = None,
) -> Tags:
    """See `Minter.url`. twin: one for the top of the mail, one for the bottom."""

    def tag(part: Part) -> bytes:
        made = minter.link(campaign, recipient, mode=mode, part=part, sent_at=sent_at, test=test, now=now)
        return (made.html or "").encode("ascii")

    return Tags(tag(Part.BOTTOM), tag(Part.TOP)) if twin else Tags(tag(Part.SINGLE))


def embed(
    html: Html,
    minter: Minter,
    campaign: str,
    recipient: str,
    *,
    twin: bool = False,
    replace: bool = False,
    mode: Mode | str | None = None,
    sent_at: int | None = None,
    test: bool = False,
    now: float | None = None,
) -> Html:
    """The mail with its pixel before the last real `</body>`, or at the end; all else is as it was.

    Bytes may be of any charset that agrees with ASCII, or UTF-16 or UTF-32. twin: another one at the top.
    replace: those that are there go. In mode off there is none. AlreadyThere: there is one. ValueError: see
    `Minter.url`.
    """
    tags = make_tags(minter, campaign, recipient, twin=twin, mode=mode, sent_at=sent_at, test=test, now=now)
    if isinstance(html, bytes):
        return frame(html, replace=replace).fill(tags)
    return put(html, tags, replace=replace)

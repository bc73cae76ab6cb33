"""Makes pixel links and puts pixels into HTML. Works offline: needs neither Redis nor a server.

minter = Minter("https://mail.example.org", Secrets.load(Path("pixel-data")))
minter.link("spring-sale", "ada@example.org").html
embed(mail, minter, "spring-sale", "ada@example.org")
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from typing import TypedDict, TypeVar, Unpack

from pixel_server.mail.placement import Tags, frame, put
from pixel_server.one_line import has_control_characters
from pixel_server.secret import Secrets
from pixel_server.settings import parse_base_url
from pixel_server.slug import is_slug
from pixel_server.times import DAY
from pixel_server.tokens import MAX_TIME, MODES, Mode, Part, Token, sign

MAX_RECIPIENT_CHARACTERS = 256

Html = TypeVar("Html", str, bytes)


class LinkError(ValueError):
    """A link cannot be made. The text says why, and quotes nothing."""

    is_loggable = True


def check_recipient(recipient: str) -> str:
    """Returns the recipient unchanged.

    Raises ValueError if the recipient is empty, has more than 256 characters, or has a control character.
    """
    if not recipient:
        raise LinkError("must not be empty")
    if len(recipient) > MAX_RECIPIENT_CHARACTERS:
        raise LinkError(f"must have at most {MAX_RECIPIENT_CHARACTERS} characters")
    if has_control_characters(recipient):
        raise LinkError("must not contain control characters")
    return recipient


def parse_mode(mode: Mode | str) -> Mode:
    """Returns the mode with this name, such as `count`. Raises ValueError if no mode has this name."""
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise ValueError(f"mode: must be one of: {', '.join(MODES)}")
    return Mode[mode.upper()]


class MintOptions(TypedDict, total=False):
    """Options of the links in a mail, as `Minter.url` explains them."""

    mode: Mode | str | None
    sent_at: int | None
    test: bool
    now: float | None


class LinkOptions(MintOptions, total=False):
    """Options of one link, as `Minter.url` explains them."""

    part: Part


@dataclass(frozen=True, slots=True)
class Link:
    """The links for one mail. In mode off, all fields are None: the mail has no pixel.

    url: the address of the pixel. html: its image tag. privacy_url: the page on which the recipient sees what
    is recorded, and can stop it.
    """

    url: str | None
    html: str | None
    privacy_url: str | None


class Minter:
    """Makes pixel links under the base URL of one server."""

    def __init__(self, base_url: str, secrets: Secrets, mode: Mode | str = Mode.PSEUDONYMOUS) -> None:
        """mode: mode of the links for which no other mode is given. Pass the campaign's mode.

        Raises ValueError if the base URL or the mode cannot be used.
        """
        base_url = parse_base_url(base_url)
        self.mode = parse_mode(mode)
        self._pixel_prefix = f"{base_url}/o/"
        self._privacy_prefix = f"{base_url}/privacy?t="
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
        """Returns the address of a pixel, or None in mode off.

        part: the pixel's place in the mail. sent_at: time of sending, in seconds since 1970; without it, the
        link holds the time `now`, by default the current time. test: marks the sender's own trial mail.
        Raises ValueError if the campaign, recipient, mode or time cannot be used.
        """
        if not is_slug(campaign):
            raise ValueError(f"campaign: not an id: {campaign[:64]!r}")
        check_recipient(recipient)
        chosen_mode = self.mode if mode is None else parse_mode(mode)
        if chosen_mode is Mode.OFF:
            return None
        seconds = int(time.time() if now is None else now) if sent_at is None else sent_at
        if not isinstance(seconds, int) or not 0 <= seconds <= MAX_TIME:
            raise LinkError("sent_at: must be whole seconds since 1970")
        has_recipient = chosen_mode is not Mode.COUNT
        token = Token(
            campaign,
            seconds if has_recipient else seconds - seconds % DAY,
            self._secrets.recipient_key(recipient) if has_recipient else b"",
            chosen_mode,
            part,
            sent_at is not None,
            test,
        )
        return f"{self._pixel_prefix}{sign(token, self._secrets.signing[0])}.gif"

    def link(self, campaign: str, recipient: str, **options: Unpack[LinkOptions]) -> Link:
        """Returns the address of a pixel with its image tag and its privacy page.

        Takes the options of `url`.
        """
        url = self.url(campaign, recipient, **options)
        if url is None:
            return Link(None, None, None)
        token = url.removeprefix(self._pixel_prefix).removesuffix(".gif")
        return Link(url, img(url), f"{self._privacy_prefix}{token}")


_STYLE = "".join(
    f"{declaration}!important;"
    for declaration in (
        *("display:block", "position:absolute", "float:none"),
        *("width:1px", "min-width:1px", "max-width:1px", "height:1px", "min-height:1px", "max-height:1px"),
        *("margin:0", "margin-top:-1px", "padding:0", "border:0"),
        *("outline:0", "box-shadow:none", "background:none"),
    )
)
"""Style that takes the pixel out of the flow of the mail, and overrides the mail's own rules for images.

With `position:absolute`, the pixel takes no room. With the margin, a mail that is exactly as high as its
window does not become one pixel higher. Gmail removes both declarations. Then the mail becomes one pixel
higher; without `display:block`, it would become a line of text higher. The pixel is not hidden and has a
size, because Gmail does not load images that are hidden or have no size.
"""


def img(url: str) -> str:
    """Returns the image tag of a pixel, which moves nothing in the mail."""
    return f'<img src="{escape(url)}" width="1" height="1" alt="" border="0" style="{_STYLE}">'


def make_tags(
    minter: Minter,
    campaign: str,
    recipient: str,
    *,
    twin: bool = False,
    **options: Unpack[MintOptions],
) -> Tags:
    """Returns the image tags of one mail.

    twin: makes a second tag, for the top. options: see `Minter.url`.
    """

    def tag(part: Part) -> bytes:
        link = minter.link(campaign, recipient, part=part, **options)
        return (link.html or "").encode("ascii")

    return Tags(tag(Part.BOTTOM), tag(Part.TOP)) if twin else Tags(tag(Part.SINGLE))


def embed(
    html: Html,
    minter: Minter,
    campaign: str,
    recipient: str,
    *,
    twin: bool = False,
    replace: bool = False,
    **options: Unpack[MintOptions],
) -> Html:
    """Returns the mail with a pixel before its last real `</body>`, or at its end. Changes nothing else.

    html: text, or bytes in UTF-16, UTF-32 or any charset that agrees with ASCII. twin: adds a second pixel at
    the top. replace: removes the pixels that the mail has; without it, raises AlreadyThere if there are any.
    options: mode, sent_at, test and now, as in `Minter.url`, which also says when ValueError is raised. In
    mode off, the mail gets no pixel.
    """
    tags = make_tags(minter, campaign, recipient, twin=twin, **options)
    if isinstance(html, bytes):
        return frame(html, replace=replace).fill(tags)
    return put(html, tags, replace=replace)

"""Checks a mail before it is sent: whether its pixel is right, and whether it will be loaded. Pure.

The warnings of filter lists follow EasyPrivacy's general rules that match the address of a pixel.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from html import unescape
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from pixel_server.mail import mime, transfer
from pixel_server.mail.message import html_part
from pixel_server.mail.placement import CLIP_BYTES, EmbedError, Pixel, images, is_last, pixels
from pixel_server.mail.sealed import refuse_sealed
from pixel_server.tokens import BadToken, Part, verify

BLOCKED_IDS = frozenset({"analytics", "beacon", "pixel", "stats", "track", "tracker", "tracking", "visit"})
"""Ids of campaigns that filter lists block in an address."""
_web_pixel = re.compile(r"/p/([a-z0-9-]+)\.gif(?:[?#]|$)").search


class Line(NamedTuple):
    """A finding. ok: True if right, False if something must be mended, None for information."""

    ok: bool | None
    text: str


def check(mail: bytes, keys: tuple[bytes, ...] | None, base_url: str | None = None) -> list[Line]:
    """Returns the findings on a mail: HTML or a whole message.

    keys: this server's signing keys, or None if they are not known here. base_url: this server's.
    """
    charset = ""
    lines: list[Line] = []
    html = mail
    if is_message(mail):
        mail = mail.removeprefix(BOM_UTF8)
        root = mime.from_bytes(mail)
        part = html_part(root)
        try:
            refuse_sealed(
                root, {id(child): mail[child.start : child.end] for child in root.walk() if child.is_text}
            )
        except EmbedError as error:
            lines.append(Line(None, str(error)))
        if part is None:
            return [*lines, Line(False, "it has no HTML part, only text: there can be no pixel")]
        try:
            html = transfer.decode(mail[part.start : part.end], part.transfer)
        except EmbedError as error:
            return [*lines, Line(False, str(error))]
        charset = part.headers.get_content_charset() or ""
    try:
        in_mail, sources = pixels(html, charset), images(html, charset)
    except EmbedError as error:
        return [*lines, Line(False, str(error))]
    lines += _check_parts(in_mail)
    for pixel in in_mail:
        lines += _check_pixel(pixel, keys, base_url)
    lines += [line for source in sources for line in _check_image(unescape(source))]
    if in_mail and not is_last(html, in_mail[-1], charset):
        lines.append(Line(False, "something stands after the pixel: it is not the last thing in the mail"))
    elif in_mail:
        lines.append(Line(True, "the pixel is the last thing in the mail"))
    return [*lines, _check_size(len(html), in_mail)]


def is_message(mail: bytes) -> bool:
    """Returns whether a mail begins with a header field, perhaps after a byte order mark of UTF-8."""
    return re.match(rb"(?:\xef\xbb\xbf)?(?:From [^\n]*\n)?[A-Za-z0-9_.-]+:[ \t\r\n]", mail) is not None


def is_surely_message(mail: bytes) -> bool:
    """Returns whether a mail has a well-known header field. HTML may begin with a line that has a colon."""
    head = re.split(rb"\r?\n\r?\n", mail.removeprefix(BOM_UTF8), maxsplit=1)[0]
    known_field = rb"^(?:From|To|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Content-Type):"
    return is_message(mail) and re.search(known_field, head, re.I | re.M) is not None


def _check_parts(in_mail: list[Pixel]) -> list[Line]:
    """Checks that there is one pixel, or a pair of a top and a bottom pixel."""
    parts = [pixel.token.part for pixel in in_mail]
    if not in_mail:
        return [Line(False, "there is no pixel")]
    if parts in ([Part.SINGLE], [Part.TOP, Part.BOTTOM]):
        return [
            Line(True, "there is one pixel" if len(in_mail) == 1 else "there are two pixels, top and bottom")
        ]
    if len(in_mail) == 1:
        return [Line(False, f"there is only the {parts[0].name.lower()} pixel of two")]
    return [Line(False, f"there are {len(in_mail)} pixels: {', '.join(part.name.lower() for part in parts)}")]


def _check_pixel(pixel: Pixel, keys: tuple[bytes, ...] | None, base_url: str | None) -> list[Line]:
    """Checks the signature and the address of a pixel."""
    token, name = pixel.token, f"{pixel.token.part.name.lower()} pixel"
    kind = f"{name}: campaign {token.campaign}, mode {token.mode.name.lower()}"
    lines = [Line(None, kind + (", a trial mail" if token.test else ""))]
    if keys is None:
        lines.append(Line(None, f"{name}: its signature cannot be checked without the server's secrets"))
    elif _is_signed(pixel.url, keys):
        lines.append(Line(True, f"{name}: its signature is this server's"))
    else:
        lines.append(Line(False, f"{name}: its signature is not this server's: its hits are not counted"))
    lines += [Line(False, f"{name}: {reason}") for reason in loading_problems(pixel.url)]
    if base_url is not None and not pixel.url.startswith(f"{base_url}/o/"):
        lines.append(Line(None, f"{name}: it is not under {base_url}, where this server is"))
    if token.campaign in BLOCKED_IDS:
        lines.append(Line(None, f"{name}: {_blocked_id(token.campaign)}; here the id is hidden in the token"))
    return lines


def _is_signed(url: str, keys: tuple[bytes, ...]) -> bool:
    match = re.search(r"/o/([A-Za-z0-9_-]+)\.gif", url)
    try:
        verify(match[1].encode() if match else b"", keys)
    except BadToken:
        return False
    return True


def _check_image(source: str) -> list[Line]:
    """Checks that an image is not the pixel of a web campaign."""
    match = _web_pixel(source)
    if not match:
        return []
    line = Line(False, f"a pixel for web pages, campaign {match[1]}: it is the same for all recipients")
    return [line] + ([Line(False, _blocked_id(match[1]))] if match[1] in BLOCKED_IDS else [])


def _blocked_id(campaign: str) -> str:
    return f"filter lists block an id such as {campaign} where it stands in an address (/p/{campaign}.gif)"


def loading_problems(url: str) -> list[str]:
    """Returns the reasons why a mail program would not load this address."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return [f"its address cannot be read: {url[:80]}"]
    problems = []
    if parts.scheme != "https":
        problems.append("its address is not https: many programs load no such image")
    if not host or parts.scheme not in ("http", "https"):
        problems.append("its address is incomplete: it must begin with https:// and a host")
    elif _is_private(host):
        problems.append(f"nobody else can reach {host}: set PIXEL_BASE_URL to the public address")
    if host.startswith("email.") and "/o/" in parts.path:
        problems.append(f"filter lists block /o/ on a host that begins with email.: {host}")
    return problems


def _is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        last = host.rpartition(".")[2]
        return "." not in host or last in ("localhost", "local", "internal", "lan", "home", "test", "invalid")


def _check_size(size: int, in_mail: list[Pixel]) -> Line:
    if size <= CLIP_BYTES:
        return Line(True, f"{size:,} bytes of HTML: Gmail clips at {CLIP_BYTES:,}")
    has_top = any(pixel.token.part is Part.TOP for pixel in in_mail)
    more = "; the top pixel is still loaded" if has_top else ": a pixel at its end may never be loaded"
    return Line(False, f"{size:,} bytes of HTML, and Gmail clips at {CLIP_BYTES:,}{more}")

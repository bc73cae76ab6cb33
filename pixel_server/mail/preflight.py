"""Looking at a mail before it goes out: is its pixel right, and will it be loaded. Pure.

What filter lists block is by EasyPrivacy's general rules, as far as they reach a pixel's address.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from html import unescape
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from pixel_server.mail import mime, transfer
from pixel_server.mail.message import html_part, refuse_sealed
from pixel_server.mail.placement import CLIP_BYTES, EmbedError, Pixel, images, is_last, pixels
from pixel_server.tokens import BadToken, Part, verify

BLOCKED_IDS = frozenset({"analytics", "beacon", "pixel", "stats", "track", "tracker", "tracking", "visit"})
_of_page = re.compile(r"/p/([a-z0-9-]+)\.gif(?:[?#]|$)").search


class Line(NamedTuple):
    """One finding. ok: False: something is to be done; None: it is only worth knowing."""

    ok: bool | None
    text: str


def check(mail: bytes, keys: tuple[bytes, ...] | None, base_url: str | None = None) -> list[Line]:
    """What is to be said of a mail, HTML or a whole message. keys: that sign; None: they are not here.

    base_url: of this server.
    """
    charset, found = "", []
    html = mail
    if is_message(mail):
        mail = mail.removeprefix(BOM_UTF8)
        tree = mime.read(mail)
        part = html_part(tree)
        try:
            refuse_sealed(tree, {id(one): mail[one.start : one.end] for one in tree.walk() if one.is_text})
        except EmbedError as error:
            found.append(Line(None, str(error)))
        if part is None:
            return [*found, Line(False, "it has no HTML part, only text: there can be no pixel")]
        try:
            html = transfer.decode(mail[part.start : part.end], part.transfer)
        except EmbedError as error:
            return [*found, Line(False, str(error))]
        charset = part.headers.get_content_charset() or ""
    try:
        there, sources = pixels(html, charset), images(html, charset)
    except EmbedError as error:
        return [*found, Line(False, str(error))]
    found += _count(there)
    for one in there:
        found += _of_pixel(one, keys, base_url)
    found += [line for source in sources for line in _of_web(unescape(source))]
    if there and not is_last(html, there[-1], charset):
        found.append(Line(False, "something stands after the pixel: it is not the last thing in the mail"))
    elif there:
        found.append(Line(True, "the pixel is the last thing in the mail"))
    return [*found, _size(len(html), there)]


def is_message(mail: bytes) -> bool:
    """Whether it begins with header fields, and not with HTML. A mark that it is UTF-8 is nothing."""
    return re.match(rb"(?:\xef\xbb\xbf)?(?:From [^\n]*\n)?[A-Za-z0-9_.-]+:[ \t\r\n]", mail) is not None


def is_surely_message(mail: bytes) -> bool:
    """Whether these are fields of a mail: text with a colon in its first line may be HTML."""
    head = re.split(rb"\r?\n\r?\n", mail.removeprefix(BOM_UTF8), maxsplit=1)[0]
    known = rb"^(?:From|To|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Content-Type):"
    return is_message(mail) and re.search(known, head, re.I | re.M) is not None


def _count(there: list[Pixel]) -> list[Line]:
    parts = [one.token.part for one in there]
    if not there:
        return [Line(False, "there is no pixel")]
    if parts in ([Part.SINGLE], [Part.TOP, Part.BOTTOM]):
        return [
            Line(True, "there is one pixel" if len(there) == 1 else "there are two pixels, top and bottom")
        ]
    if len(there) == 1:
        return [Line(False, f"there is only the {parts[0].name.lower()} pixel of two")]
    return [Line(False, f"there are {len(there)} pixels: {', '.join(part.name.lower() for part in parts)}")]


def _of_pixel(one: Pixel, keys: tuple[bytes, ...] | None, base_url: str | None) -> list[Line]:
    token, name = one.token, f"{one.token.part.name.lower()} pixel"
    kind = f"{name}: campaign {token.campaign}, mode {token.mode.name.lower()}"
    found = [Line(None, kind + (", a trial mail" if token.test else ""))]
    if keys is None:
        found.append(Line(None, f"{name}: whose signature it has is not known without the server's secrets"))
    elif _is_signed(one.url, keys):
        found.append(Line(True, f"{name}: its signature is this server's"))
    else:
        found.append(Line(False, f"{name}: its signature is not this server's: no hit of it counts"))
    found += [Line(False, f"{name}: {why}") for why in refusals(one.url)]
    if base_url is not None and not one.url.startswith(f"{base_url}/o/"):
        found.append(Line(None, f"{name}: it is not under {base_url}, where this server is"))
    if token.campaign in BLOCKED_IDS:
        found.append(Line(None, f"{name}: {_blocked_id(token.campaign)}; here its id is within the token"))
    return found


def _is_signed(url: str, keys: tuple[bytes, ...]) -> bool:
    match = re.search(r"/o/([A-Za-z0-9_-]+)\.gif", url)
    try:
        verify(match[1].encode() if match else b"", keys)
    except BadToken:
        return False
    return True


def _of_web(source: str) -> list[Line]:
    match = _of_page(source)
    if not match:
        return []
    found = [Line(False, f"a pixel for web pages, campaign {match[1]}: it tells no recipients apart")]
    return found + ([Line(False, _blocked_id(match[1]))] if match[1] in BLOCKED_IDS else [])


def _blocked_id(campaign: str) -> str:
    return f"filter lists block an id such as {campaign} where it stands in an address (/p/{campaign}.gif)"


def refusals(url: str) -> list[str]:
    """Why a reader's program would not load this address."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return [f"its address cannot be read: {url[:80]}"]
    found = []
    if parts.scheme != "https":
        found.append("its address is not https: many programs load no such image")
    if not host or parts.scheme not in ("http", "https"):
        found.append("its address is not whole: it must begin with https:// and a host")
    elif _is_private(host):
        found.append(f"nobody else reaches {host}: set PIXEL_BASE_URL to where the world does")
    if host.startswith("email.") and "/o/" in parts.path:
        found.append(f"filter lists block /o/ on a host that begins with email.: {host}")
    return found


def _is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        last = host.rpartition(".")[2]
        return "." not in host or last in ("localhost", "local", "internal", "lan", "home", "test", "invalid")


def _size(size: int, there: list[Pixel]) -> Line:
    if size <= CLIP_BYTES:
        return Line(True, f"{size:,} bytes of HTML: Gmail clips at {CLIP_BYTES:,}")
    twins = any(one.token.part is Part.TOP for one in there)
    more = "; the top pixel is still loaded" if twins else ": a pixel at its end may never be loaded"
    return Line(False, f"{size:,} bytes of HTML, and Gmail clips at {CLIP_BYTES:,}{more}")

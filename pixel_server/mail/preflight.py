"""Checks a mail before it is sent: is its pixel right, and will mail programs load it? Pure.

`filter_lists` has the rules behind the warnings about filter lists.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable
from html import unescape
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from pixel_server.mail import mime, transfer
from pixel_server.mail.filter_lists import BLOCKED_IDS, easyprivacy_reason
from pixel_server.mail.mailboxes import header_addresses, sole
from pixel_server.mail.message import html_part
from pixel_server.mail.placement import (
    CLIP_BYTES,
    EmbedError,
    Pixel,
    has_frameset,
    images,
    is_last,
    pixels,
)
from pixel_server.mail.sealed import refuse_sealed
from pixel_server.tokens import BadToken, Part, decode_unreserved, verify

_PRIVATE_TOP_LEVELS = frozenset({"localhost", "local", "internal", "lan", "home", "test", "invalid"})
"""Last labels of host names that do not lead to a public host."""
_web_pixel = re.compile(r"/p/([a-z0-9-]+)\.gif(?:[?#]|$)").search


class Finding(NamedTuple):
    """A finding on a mail. ok: True if all is well, False if something must be mended, None if neither."""

    ok: bool | None
    text: str


class Expected(NamedTuple):
    """The owner that the pixel should have. campaign, recipient: None skips the comparison.

    key_of: function that returns a recipient's key. It is None if the server's secrets are not at hand.
    """

    campaign: str | None = None
    recipient: str | None = None
    key_of: Callable[[str], bytes] | None = None


def check(
    mail: bytes,
    keys: tuple[bytes, ...] | None,
    base_url: str | None = None,
    expected: Expected = Expected(),  # noqa: B008 - a NamedTuple does not change
) -> list[Finding]:
    """Returns the findings on a mail, which is HTML or a whole message.

    keys: the server's signing keys; None skips the check of signatures. base_url: the server's address; None
    skips the comparison with it.
    """
    charset = ""
    findings: list[Finding] = []
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
            findings.append(Finding(None, str(error)))
        if part is None:
            return [*findings, Finding(False, "it has no HTML part, only text: there can be no pixel")]
        try:
            html = transfer.decode(mail[part.start : part.end], part.transfer_encoding)
        except EmbedError as error:
            return [*findings, Finding(False, str(error))]
        charset = part.charset
        if any(child.kind == "text/x-amp-html" for child in root.walk()):
            findings.append(Finding(False, "it has an AMP part: programs that show it do not load the pixel"))
        if expected.recipient is None and expected.key_of is not None:
            findings += _check_address(root, html, charset, expected.key_of)
    try:
        return findings + _check_html(html, charset, keys, base_url, expected)
    except EmbedError as error:
        return [*findings, Finding(False, str(error))]


def _check_html(
    html: bytes, charset: str, keys: tuple[bytes, ...] | None, base_url: str | None, expected: Expected
) -> list[Finding]:
    """Returns the findings on HTML. Raises EmbedError if the charset does not agree with ASCII."""
    all_pixels = pixels(html, charset)
    unquoted = [pixel for pixel in all_pixels if not pixel.around.is_quoted]
    findings = [
        Finding(
            False,
            f"a quoted mail contains a pixel of campaign {pixel.token.campaign}: "
            "loading the pixel counts for that campaign",
        )
        for pixel in all_pixels
        if pixel.around.is_quoted
    ]
    findings += _check_branches(unquoted) or _check_parts(unquoted)
    if has_frameset(html, charset):
        findings.append(Finding(False, "it has a frameset: the HTML with the pixel is not shown"))
    if len({(pixel.token.campaign, pixel.token.recipient) for pixel in unquoted}) > 1:
        findings.append(Finding(False, "its pixels belong to several campaigns or recipients"))
    for pixel in unquoted:
        findings += _check_owner(pixel, expected)
        findings += _check_pixel(pixel, keys, base_url)
    for source in images(html, charset):
        findings += _check_image(unescape(source))
    if unquoted and not is_last(html, unquoted[-1], charset):
        findings.append(
            Finding(False, "something stands after the pixel: it is not the last thing in the mail")
        )
    elif unquoted:
        findings.append(Finding(True, "the pixel is the last thing in the mail"))
    return [*findings, _check_size(len(html), unquoted)]


def _check_address(
    root: mime.MimePart, html: bytes, charset: str, key_of: Callable[[str], bytes]
) -> list[Finding]:
    """Compares the pixels with the only address in the header.

    A difference need not be an error, because a recipient need not be an address.
    """
    try:
        address = sole(header_addresses(root.headers))
        recipient_keys = {
            pixel.token.recipient for pixel in pixels(html, charset) if not pixel.around.is_quoted
        }
    except EmbedError:
        return []
    if recipient_keys - {b"", key_of(address)}:
        return [Finding(None, f"the pixel is not of {address}, the only address of the message")]
    return []


def _check_owner(pixel: Pixel, expected: Expected) -> list[Finding]:
    """Checks that a pixel has the expected campaign and recipient, and does not stand in a hidden element."""
    token, findings = pixel.token, []
    if expected.campaign is not None and token.campaign != expected.campaign:
        findings.append(Finding(False, f"the pixel is of campaign {token.campaign}, not {expected.campaign}"))
    if expected.recipient is not None and token.recipient:
        if expected.key_of is None:
            findings.append(Finding(None, "its recipient cannot be checked without the server's secrets"))
        elif token.recipient != expected.key_of(expected.recipient):
            findings.append(Finding(False, f"the pixel is of another recipient than {expected.recipient}"))
    if pixel.around.is_hidden:
        findings.append(
            Finding(False, "the pixel is hidden or stands in a hidden element: it may never be loaded")
        )
    if pixel.around.is_hidden_from_outlook:
        findings.append(Finding(False, "the pixel stands in a part that Outlook does not show"))
    return findings


def _check_branches(unquoted: list[Pixel]) -> list[Finding]:
    """Checks pixels in the branches of a template's condition. Returns [] if no pixel is in a branch."""
    if not any(pixel.around.branches for pixel in unquoted):
        return []
    paths = {pixel.around.branches for pixel in unquoted}
    conditions = {(path[:-1], path[-1][0]) if path else None for path in paths}
    if len(paths) == len(unquoted) > 1 and len(conditions) == 1:
        return [Finding(None, f"there is a pixel in {len(paths)} branches of a condition")]
    return [Finding(False, "the pixel is in one branch of a condition: mails of another branch have none")]


def is_message(mail: bytes) -> bool:
    """Returns whether a mail begins as a message does, with a header field or an mbox `From ` line."""
    return re.match(rb"(?:\xef\xbb\xbf)?(?:From [^\n]*\n)?[A-Za-z0-9_.-]+:[ \t\r\n]", mail) is not None


def is_surely_message(mail: bytes) -> bool:
    """Returns whether a mail begins with header fields, and has a well-known field such as `Subject`.

    Unlike `is_message`, this function is not misled by HTML that begins with a line such as `Note: ...`.
    """
    head = re.split(rb"\r?\n\r?\n", mail.removeprefix(BOM_UTF8), maxsplit=1)[0]
    known_field = rb"^(?:From|To|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Content-Type):"
    return is_message(mail) and re.search(known_field, head, re.I | re.M) is not None


def _check_parts(unquoted: list[Pixel]) -> list[Finding]:
    """Checks that there is one pixel, or a pair of a top and a bottom pixel."""
    parts = [pixel.token.part for pixel in unquoted]
    if not unquoted:
        return [Finding(False, "there is no pixel")]
    if parts in ([Part.SINGLE], [Part.TOP, Part.BOTTOM]):
        return [
            Finding(
                True, "there is one pixel" if len(unquoted) == 1 else "there are two pixels, top and bottom"
            )
        ]
    if len(unquoted) == 1:
        return [Finding(False, f"there is only the {parts[0].name.lower()} pixel of two")]
    return [
        Finding(False, f"there are {len(unquoted)} pixels: {', '.join(part.name.lower() for part in parts)}")
    ]


def _check_pixel(pixel: Pixel, keys: tuple[bytes, ...] | None, base_url: str | None) -> list[Finding]:
    """Checks the signature and the address of a pixel."""
    token, label = pixel.token, f"{pixel.token.part.name.lower()} pixel"
    heading = f"{label}: campaign {token.campaign}, mode {token.mode.name.lower()}"
    findings = [Finding(None, heading + (", a trial mail" if token.is_test else ""))]
    if keys is None:
        findings.append(
            Finding(None, f"{label}: its signature cannot be checked without the server's secrets")
        )
    elif _is_signed(pixel.url, keys):
        findings.append(Finding(True, f"{label}: its signature is this server's"))
    else:
        findings.append(
            Finding(False, f"{label}: its signature is not this server's: its hits are not counted")
        )
    if not _is_direct(pixel.url, base_url):
        reason = "its address leads elsewhere and only contains the link, as in HTML copied out of Gmail"
        return [*findings, Finding(False, f"{label}: {reason}")]
    findings += [Finding(False, f"{label}: {reason}") for reason in loading_problems(pixel.url)]
    if base_url is not None and not _is_under(pixel.url, base_url):
        findings.append(Finding(None, f"{label}: it is not under {base_url}, where this server is"))
    if token.campaign in BLOCKED_IDS:
        findings.append(
            Finding(None, f"{label}: {blocked_id_reason(token.campaign)}; here the id is hidden in the token")
        )
    return findings


def _is_direct(url: str, base_url: str | None) -> bool:
    """Returns whether an address has the token in its path, and no other address before the token.

    Image proxies put the address of an image into their query, their fragment or their path.
    """
    url = decode_unreserved(url.encode()).decode()
    direct = re.search(r"/o/[A-Za-z0-9_-]+\.gif$", re.split("[?#]", url)[0])
    if direct is None:
        return False
    _, _, path = url[: direct.start()].partition("://")[2].partition("/")
    path_has_server = base_url is not None and f"/{urlsplit(base_url).netloc}" in f"/{path}"
    return not path_has_server and re.search(r"https?(?::|%3a)(?:/|%2f)", path, re.I) is None


def _is_under(url: str, base_url: str) -> bool:
    """Returns whether an address is under a base URL. Case of the host and the usual port do not matter."""
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        usual = {"http": 80, "https": 443}.get(base.scheme)
        hosts = [(each.scheme, each.hostname, each.port or usual) for each in (parts, base)]
    except ValueError:
        return False
    path = decode_unreserved(parts.path.encode()).decode()
    return hosts[0] == hosts[1] and path.startswith(f"{base.path}/o/")


def _is_signed(url: str, keys: tuple[bytes, ...]) -> bool:
    match = re.search(rb"/o/([A-Za-z0-9_-]+)\.gif", decode_unreserved(url.encode()))
    try:
        verify(match[1] if match else b"", keys)
    except BadToken:
        return False
    return True


def _check_image(source: str) -> list[Finding]:
    """Checks that an image is not the pixel of a web campaign."""
    match = _web_pixel(source)
    if not match:
        return []
    finding = Finding(False, f"a pixel for web pages, campaign {match[1]}: it is the same for all recipients")
    return [finding] + ([Finding(False, blocked_id_reason(match[1]))] if match[1] in BLOCKED_IDS else [])


def blocked_id_reason(campaign: str) -> str:
    """Returns why a web pixel with an id of BLOCKED_IDS is not loaded."""
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
    elif is_private(host):
        problems.append(f"nobody else can reach {host}: set PIXEL_BASE_URL to the public address")
    if "/o/" in parts.path and (reason := easyprivacy_reason(host, parts.path)):
        problems.append(f"{reason} ({host})")
    return problems


def is_private(host: str) -> bool:
    """Returns whether a host name or address cannot be reached from the public network."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        top_level = host.rpartition(".")[2]
        return "." not in host or top_level in _PRIVATE_TOP_LEVELS


def _check_size(size: int, unquoted: list[Pixel]) -> Finding:
    if size <= CLIP_BYTES:
        return Finding(True, f"{size:,} bytes of HTML: Gmail clips at {CLIP_BYTES:,}")
    has_top = any(pixel.token.part is Part.TOP for pixel in unquoted)
    consequence = "; the top pixel is still loaded" if has_top else ": a pixel at its end may never be loaded"
    return Finding(False, f"{size:,} bytes of HTML, and Gmail clips at {CLIP_BYTES:,}{consequence}")

"""Putting the pixel into a whole message, and not touching another byte. Needs neither Redis nor a server.

with_pixel = add_pixel(message, minter, "spring", "ada@example.org")

The message given stays as it was. Keep that one in a Sent folder: looking at it counts no open.
Of the HTML part, `transfer` says what stays as it was in which transfer encoding.
"""

from __future__ import annotations

import copy
import logging
import re
from email.message import Message
from email.utils import getaddresses
from typing import NamedTuple, TypedDict, TypeVar, Unpack

from pixel_server.mail import mime, transfer
from pixel_server.mail.links import Minter, make_tags
from pixel_server.mail.mime import Part
from pixel_server.mail.placement import Edit, EmbedError, frame, splice
from pixel_server.tokens import Mode

log = logging.getLogger("pixel_server.mail.message")

SomeMessage = TypeVar("SomeMessage", bound=Message)


class How(TypedDict, total=False):
    """See `links.embed`."""

    twin: bool
    replace: bool
    mode: Mode | str | None
    sent_at: int | None
    test: bool
    now: float | None


class Refused(EmbedError):
    """A pixel would break what was signed or encrypted; the message says what."""


class ChangedMessage(NamedTuple):
    """raw: the message. why: why it has no pixel, "" if it has one. size: of its HTML, bytes."""

    raw: bytes
    why_unchanged: str
    html_bytes: int


def add_pixel(
    message: SomeMessage, minter: Minter, campaign: str, recipient: str | None = None, **how: Unpack[How]
) -> SomeMessage:
    """A new message with the pixel in its HTML part; all else as it was, the message given too.

    recipient: whom the mail stands for; without one, the one address in To, Cc and Bcc. Where there are
    several, or the mail is text only, the new message has no pixel, and the log says so. Refused: it is
    signed or encrypted. AlreadyThere: it has a pixel. ValueError: see `Minter.url`.
    """
    made = copy.deepcopy(message)
    tree = mime.of_message(made)
    refuse_sealed(tree, {id(part): _body(part) for part in tree.walk() if part.is_text})
    part, recipient, why = _choose(tree, recipient)
    if part is None or recipient is None:
        log.warning("no pixel: %s", why)
        return made
    body = _body(part)
    changes, _ = _edits(part, body, minter, campaign, recipient, how)
    changed = transfer.change(body, part.transfer, changes, b"\n")
    part.headers.set_payload(changed.decode("ascii", "surrogateescape"))
    return made


def add_pixel_to_bytes(
    raw: bytes, minter: Minter, campaign: str, recipient: str | None = None, **how: Unpack[How]
) -> ChangedMessage:
    """The same for a message as it is sent or kept in an `.eml` file."""
    tree = mime.read(raw)
    refuse_sealed(tree, {id(part): raw[part.start : part.end] for part in tree.walk() if part.is_text})
    part, recipient, why = _choose(tree, recipient)
    if part is None or recipient is None:
        return ChangedMessage(raw, why, 0)
    body = raw[part.start : part.end]
    changes, size = _edits(part, body, minter, campaign, recipient, how)
    newline = b"\r\n" if b"\r\n" in raw[: part.start] else b"\n"
    changed = transfer.change(body, part.transfer, changes, newline)
    return ChangedMessage(
        raw[: part.start] + changed + raw[part.end :], "" if changes else "its mode is off", size
    )


def _edits(
    part: Part, body: bytes, minter: Minter, campaign: str, recipient: str, how: How
) -> tuple[list[Edit], int]:
    """(changes of the decoded HTML, its size with them)."""
    tags = make_tags(
        minter,
        campaign,
        recipient,
        twin=how.get("twin", False),
        mode=how.get("mode"),
        sent_at=how.get("sent_at"),
        test=how.get("test", False),
        now=how.get("now"),
    )
    html = transfer.decode(body, part.transfer)
    found = frame(html, replace=how.get("replace", False), charset=part.headers.get_content_charset() or "")
    changes = found.edits(tags)
    return changes, len(splice(html, changes))


def _choose(tree: Part, recipient: str | None) -> tuple[Part | None, str | None, str]:
    """(HTML part, recipient, why there is none)."""
    part = html_part(tree)
    if part is None:
        return None, None, "it has no HTML part, only text"
    if recipient is None:
        found = recipients(tree.headers)
        if len(found) != 1:
            return None, None, f"it has {len(found)} recipients: say which one it stands for"
        (recipient,) = found
    return part, recipient, ""


def html_part(part: Part, is_root: bool = True) -> Part | None:
    """The one that is shown: no attachment, and not of a message within."""
    headers = part.headers
    if headers.get_content_disposition() == "attachment" or (headers.get_filename() and not is_root):
        return None
    if part.kind == "text/html":
        return part
    best_first = part.parts[::-1] if part.kind == "multipart/alternative" else part.parts
    return next((found for one in best_first if (found := html_part(one, False))), None)


def recipients(headers: Message) -> list[str]:
    """Addresses in To, Cc and Bcc, each once."""
    lines = [str(line) for name in ("to", "cc", "bcc") for line in headers.get_all(name, [])]
    return list(dict.fromkeys(address for _, address in getaddresses(lines) if address))


_SEALED = {
    "multipart/signed": "signed",
    "multipart/encrypted": "encrypted",
    "application/pgp-encrypted": "encrypted with PGP",
    "application/pgp-signature": "signed with PGP",
    "application/pkcs7-mime": "signed or encrypted with S/MIME",
    "application/x-pkcs7-mime": "signed or encrypted with S/MIME",
    "application/pkcs7-signature": "signed with S/MIME",
    "application/x-pkcs7-signature": "signed with S/MIME",
}
_pgp = re.compile(rb"(?:^|>)-----BEGIN PGP (SIGNED )?MESSAGE-----", re.M).search


def refuse_sealed(tree: Part, bodies: dict[int, bytes]) -> None:
    """Refused: it is signed or encrypted. bodies: of the text parts, by id, as they are encoded."""
    for name in ("DKIM-Signature", "ARC-Message-Signature"):
        if name in tree.headers:
            raise Refused(f"it is signed already ({name}): put the pixel in before that is done")
    for part in tree.walk():
        if part.kind in _SEALED:
            raise Refused(f"it is {_SEALED[part.kind]} ({part.kind}): put the pixel in before that is done")
        if id(part) in bodies and (found := _pgp(_decoded(bodies[id(part)], part.transfer))):
            how = "signed" if found[1] else "encrypted"
            raise Refused(f"it is {how} with PGP in its text: put the pixel in before that is done")


def _decoded(body: bytes, encoding: str) -> bytes:
    try:
        return transfer.decode(body, encoding)
    except EmbedError:
        return body


def _body(part: Part) -> bytes:
    """The payload of an `email.message.Message`, as it is encoded, and as `email.generator` reads it.

    EmbedError: it was made from text, and has characters that no bytes stand for.
    """
    payload = getattr(part.headers, "_payload", None)
    try:
        return payload.encode("ascii", "surrogateescape") if isinstance(payload, str) else b""
    except UnicodeEncodeError:
        raise EmbedError("its text is not encoded: read it with email.message_from_bytes") from None

"""Puts the pixel into a whole message, and changes no other byte. Needs neither Redis nor a server.

with_pixel = add_pixel(message, minter, "spring", "ada@example.org")

The given message is not changed. Keep it, and not the copy with the pixel, in a Sent folder: then reading it
there counts no open. The module `transfer` explains which lines of the HTML part change.
"""

from __future__ import annotations

import copy
from email.message import Message
from typing import NamedTuple, TypeVar, Unpack

from pixel_server.logs import Log
from pixel_server.mail import mime, transfer
from pixel_server.mail.links import Minter, MintOptions, make_tags
from pixel_server.mail.mailboxes import header_addresses, sole
from pixel_server.mail.mime import MimePart
from pixel_server.mail.placement import Edit, EmbedError, Tags, TooLarge, frame, splice
from pixel_server.mail.sealed import refuse_sealed

log = Log(__name__)

SomeMessage = TypeVar("SomeMessage", bound=Message)


class ChangedMessage(NamedTuple):
    """A message as bytes, after adding a pixel. why_unchanged: the reason why it got no pixel, or "".

    html_bytes: the size of its decoded HTML with the pixel; 0 if the message has no HTML part or no
    recipient.
    """

    raw: bytes
    why_unchanged: str
    html_bytes: int


def add_pixel(
    message: SomeMessage,
    minter: Minter,
    campaign: str,
    recipient: str | None = None,
    *,
    twin: bool = False,
    replace: bool = False,
    **options: Unpack[MintOptions],
) -> SomeMessage:
    """Returns a copy of a message with the pixel in its HTML part. Changes nothing else.

    recipient: the recipient of the pixel; by default the only address in To, Cc and Bcc. Logs a warning, and
    returns a copy without a pixel, if there is not exactly one address, or if the mail is text only. Raises
    Refused if the message is signed or encrypted. The other parameters and errors are those of `links.embed`.
    """
    changed_message = copy.deepcopy(message)
    root = mime.from_message(changed_message)
    refuse_sealed(root, {id(part): _body(part) for part in root.walk() if part.is_text})
    part, recipient, why = _choose_part(root, recipient)
    if part is None or recipient is None:
        log.warning("no-pixel", "no pixel: %(reason)s", reason=why)
        return changed_message
    body = _body(part)
    changes, _ = _edits(part, body, make_tags(minter, campaign, recipient, twin=twin, **options), replace)
    changed = transfer.change(body, part.transfer_encoding, changes, b"\n")
    part.headers.set_payload(changed.decode("ascii", "surrogateescape"))
    return changed_message


def add_pixel_to_bytes(
    raw: bytes,
    minter: Minter,
    campaign: str,
    recipient: str | None = None,
    *,
    twin: bool = False,
    replace: bool = False,
    max_text_bytes: int | None = None,
    **options: Unpack[MintOptions],
) -> ChangedMessage:
    """Returns a message with the pixel. raw: the message as sent, or as in an `.eml` file.

    max_text_bytes: bytes of text and HTML above which TooLarge is raised, so that the call takes a bounded
    time. Takes the other parameters of `add_pixel` and raises the same errors. Logs nothing: the result has
    the reason.
    """
    root = mime.from_bytes(raw)
    texts = {id(part): raw[part.start : part.end] for part in root.walk() if part.is_text}
    if max_text_bytes is not None and sum(map(len, texts.values())) > max_text_bytes:
        raise TooLarge(f"it has more than {max_text_bytes:,} bytes of text")
    refuse_sealed(root, texts)
    part, recipient, why = _choose_part(root, recipient)
    if part is None or recipient is None:
        return ChangedMessage(raw, why, 0)
    body = raw[part.start : part.end]
    changes, size = _edits(part, body, make_tags(minter, campaign, recipient, twin=twin, **options), replace)
    newline = b"\r\n" if b"\r\n" in raw[: part.start] else b"\n"
    changed = transfer.change(body, part.transfer_encoding, changes, newline)
    return ChangedMessage(
        raw[: part.start] + changed + raw[part.end :],
        "" if changes else "the mode of its pixel link is off",
        size,
    )


def _edits(part: MimePart, body: bytes, tags: Tags, replace: bool) -> tuple[list[Edit], int]:
    """Returns the changes of a part's decoded HTML, and the size of the changed HTML in bytes."""
    html = transfer.decode(body, part.transfer_encoding)
    changes = frame(html, replace=replace, charset=part.charset).edits(tags)
    return changes, len(splice(html, changes))


def _choose_part(root: MimePart, recipient: str | None) -> tuple[MimePart | None, str | None, str]:
    """Returns (HTML part, recipient, ""), or (None, None, the reason why the message gets no pixel)."""
    part = html_part(root)
    if part is None:
        return None, None, "it has no HTML part, only text"
    if recipient is None:
        try:
            recipient = sole(header_addresses(root.headers))
        except EmbedError as error:
            return None, None, str(error)
    return part, recipient, ""


def html_part(root: MimePart) -> MimePart | None:
    """Returns the HTML part that a mail program shows, or None. Skips attachments and attached messages.

    A part with a file name is shown too, unless it stands beside a body that has no name.
    """
    return _shown_html(root, allows_name=root.has_name) or _shown_html(root, allows_name=True)


def _shown_html(part: MimePart, allows_name: bool) -> MimePart | None:
    if part.is_attachment:
        return None
    if part.kind == "text/html":
        return part if allows_name or not part.has_name else None
    children = part.parts_preferred_first
    if part.kind != "multipart/alternative" and any(
        child.is_text and not child.has_name for child in children
    ):
        children = [child for child in children if child.parts or not child.has_name]
    return next((html for child in children if (html := _shown_html(child, allows_name))), None)


def _body(part: MimePart) -> bytes:
    """Returns the encoded body of a part of an `email.message.Message`.

    Reads the private attribute that `email.generator` reads, because no public method returns this body.
    Raises EmbedError if the message was parsed from text with characters outside ASCII.
    """
    payload = getattr(part.headers, "_payload", None)
    try:
        return payload.encode("ascii", "surrogateescape") if isinstance(payload, str) else b""
    except UnicodeEncodeError:
        raise EmbedError("its text is not encoded: read it with email.message_from_bytes") from None

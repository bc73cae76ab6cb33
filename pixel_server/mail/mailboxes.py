"""Reads the addresses of mailboxes (RFC 5322, 3.4): `Ada <ada@example.org>` has `ada@example.org`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses

from pixel_server.mail.placement import EmbedError

Mailbox = str | tuple[str | None, str]
"""A mailbox as text, or as name and address."""

_encoded_word = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=")
_is_whole = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+@[^\s@]+', re.S).fullmatch
"""Matches a whole address. Only a part in quotes may have blanks: `"ada b"@example.org`."""
_line_ends = dict.fromkeys(map(ord, "\r\n"))
_has_lost_characters = re.compile("[\ud800-\udfff\ufffd]").search


def header_addresses(headers: Message) -> list[str]:
    """Returns the addresses in To, Cc and Bcc, each once."""
    lines: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
    for name, value in headers.raw_items():
        if name.lower() in lines:
            lines[name.lower()].append(_decode_utf8(str(value)))
    return addresses(line for lines_of_field in lines.values() for line in lines_of_field)


def addresses(mailboxes: Iterable[Mailbox]) -> list[str]:
    """Returns the addresses of mailboxes, each once. A text may hold several mailboxes, or a group.

    Folded lines are unfolded (RFC 5322, 2.2.3), because `getaddresses` ends a name in quotes at a CR.
    """
    all_addresses = []
    for mailbox in [mailboxes] if isinstance(mailboxes, str) else mailboxes:
        text = mailbox if isinstance(mailbox, str) else mailbox[1] or ""
        named_addresses = getaddresses([text.translate(_line_ends)])
        all_addresses += [_decode_words(address) for _, address in named_addresses if address]
    return list(dict.fromkeys(all_addresses))


def only_address(mailboxes: Iterable[Mailbox]) -> str:
    """Returns the address of the only mailbox. Raises EmbedError if there are several mailboxes, or none.

    Text in place of a list is read as one element of a list.
    """
    return sole(addresses(mailboxes))


def sole(mail_addresses: list[str]) -> str:
    """Returns the only address of a mail.

    Raises EmbedError if the mail has no address or several addresses, or if the address is garbled or is not
    a whole address.
    """
    if len(mail_addresses) != 1:
        raise EmbedError(f"it has {len(mail_addresses)} recipients: name the recipient of the pixel")
    if _has_lost_characters(mail_addresses[0]):
        raise EmbedError("its recipient is not written in UTF-8: name the recipient of the pixel")
    if not _is_whole(mail_addresses[0]):
        raise EmbedError("its recipient is not an address: name the recipient of the pixel")
    return mail_addresses[0]


def _decode_utf8(line: str) -> str:
    """Returns a header line with the raw bytes of UTF-8 (RFC 6532) decoded. The parser keeps them escaped."""
    try:
        return line.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return line


def _decode_words(address: str) -> str:
    """Returns an address with its encoded words decoded: `=?utf-8?q?j=C3=A4ne?=@example.org` is `jäne@...`.

    RFC 2047 allows no encoded words in addresses, but `email` writes them.
    """
    return _encoded_word.sub(_decode_word, address) if "=?" in address else address


def _decode_word(word: re.Match[str]) -> str:
    try:
        ((content, charset),) = decode_header(word[0])
        return content.decode(charset or "ascii") if isinstance(content, bytes) else content
    except (HeaderParseError, LookupError, ValueError):
        return word[0]

"""Refuses messages that are signed or encrypted, because a change would break them."""

from __future__ import annotations

import re

from pixel_server.mail import transfer
from pixel_server.mail.mime import MimePart
from pixel_server.mail.placement import EmbedError

_SEALED_PARTS = {"multipart/signed": "signed", "multipart/encrypted": "encrypted"}
"""Types of parts that sign or encrypt what is in them."""
_SEALED_BODIES = {
    "application/pgp-encrypted": "encrypted with PGP",
    "application/pkcs7-mime": "signed or encrypted with S/MIME",
    "application/x-pkcs7-mime": "signed or encrypted with S/MIME",
}
"""Types of a body that is signed or encrypted. An attached file of such a type is allowed."""
_pgp = re.compile(rb"-----BEGIN PGP (SIGNED )?MESSAGE-----").match
_replace_markup = re.compile(
    rb"(?s)<!--.*?-->|<(style|script|title)\b.*?</\1[^>]*>|<[^>]*>|&nbsp;|\s+", re.I
).sub
_ADVICE = "add the pixel before the message is signed or encrypted"
_BEGIN_BYTES = 20_000
"""Number of bytes at the beginning of a text in which a PGP message is looked for."""


class Refused(EmbedError):
    """A pixel would break a signature or an encrypted text. The text of the error says which."""


def refuse_sealed(root: MimePart, bodies: dict[int, bytes]) -> None:
    """Raises Refused if a message is signed or encrypted.

    bodies: the encoded bodies of the text parts, by `id(part)`.
    """
    for name in ("DKIM-Signature", "ARC-Message-Signature"):
        if name in root.headers:
            raise Refused(f"it is signed already ({name}): {_ADVICE}")
    for part in root.walk():
        if part.kind in _SEALED_PARTS and not part.is_attachment:
            raise Refused(f"it is {_SEALED_PARTS[part.kind]} ({part.kind}): {_ADVICE}")
        if id(part) in bodies and (seal := pgp_seal(_decoded(bodies[id(part)], part.transfer_encoding))):
            raise Refused(f"it is {seal} with PGP in its text: {_ADVICE}")
    body = root
    while body.parts:
        body = body.parts[0]
    if body.kind in _SEALED_BODIES:
        raise Refused(f"it is {_SEALED_BODIES[body.kind]} ({body.kind}): {_ADVICE}")


def pgp_seal(text: bytes) -> str:
    """Returns "signed" or "encrypted" if a text or HTML begins with a PGP message, else "".

    Returns "" also for a mail that quotes a PGP message below other text.
    """
    begin = _replace_markup(lambda found: b" " if found[0].isspace() else b"", text[:_BEGIN_BYTES]).lstrip()
    header = _pgp(begin)
    return "" if header is None else "signed" if header[1] else "encrypted"


def _decoded(body: bytes, encoding: str) -> bytes:
    """Returns the decoded body, or the body itself if it cannot be decoded."""
    try:
        return transfer.decode(body, encoding)
    except EmbedError:
        return body

"""Refuses messages that are signed or encrypted, because a change would break them."""

from __future__ import annotations

import re

from pixel_server.mail import transfer
from pixel_server.mail.mime import Part
from pixel_server.mail.placement import EmbedError

_SEALED_TYPES = {
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


class Refused(EmbedError):
    """A pixel would break a signature or an encrypted text. The message says which."""


def refuse_sealed(root: Part, bodies: dict[int, bytes]) -> None:
    """Raises Refused if a message is signed or encrypted.

    bodies: the encoded bodies of the text parts, by `id(part)`.
    """
    for name in ("DKIM-Signature", "ARC-Message-Signature"):
        if name in root.headers:
            raise Refused(f"it is signed already ({name}): add the pixel before that")
    for part in root.walk():
        if part.kind in _SEALED_TYPES:
            seal = _SEALED_TYPES[part.kind]
            raise Refused(f"it is {seal} ({part.kind}): add the pixel before that")
        if id(part) in bodies and (header := _pgp(_decoded(bodies[id(part)], part.transfer))):
            seal = "signed" if header[1] else "encrypted"
            raise Refused(f"it is {seal} with PGP in its text: add the pixel before that")


def _decoded(body: bytes, encoding: str) -> bytes:
    """Returns the decoded body, or the body itself if it cannot be decoded."""
    try:
        return transfer.decode(body, encoding)
    except EmbedError:
        return body

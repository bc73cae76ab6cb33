"""The secrets: keys that sign links, and the one that hashes recipients."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pixel_server import files

FILE = "secrets.json"


class SecretsError(ValueError):
    """The secrets cannot be read or made; the message is one line for the operator."""


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Keys of 32 bytes, derived. signing, cookies, sessions: newest first; the first signs, all verify."""

    signing: tuple[bytes, ...]
    recipient: bytes
    visitor: bytes
    routing: bytes
    withdrawn: bytes
    evidence: bytes
    cookies: tuple[bytes, ...]
    sessions: tuple[bytes, ...]

    @classmethod
    def of(cls, signing: tuple[str, ...], recipient: str) -> Secrets:
        """From the texts that an operator sets or a data directory holds."""
        if not signing:
            raise SecretsError("at least one signing key is needed")
        return cls(
            signing=tuple(_derive(text, b"px-sign") for text in signing),
            recipient=_derive(recipient, b"px-recipient"),
            visitor=_derive(recipient, b"px-visitor"),
            routing=_derive(recipient, b"px-routing"),
            withdrawn=_derive(recipient, b"px-withdrawn"),
            evidence=_derive(recipient, b"px-evidence"),
            cookies=tuple(_derive(text, b"px-cookie") for text in signing),
            sessions=tuple(_derive(text, b"px-session") for text in signing),
        )

    @classmethod
    def load(cls, data: Path, signing: tuple[str, ...] = (), recipient: str | None = None) -> Secrets:
        """Those given; what is not given comes from the server's data directory.

        SecretsError: it has none. None are made here, for a link that they sign would be another server's.
        """
        if not signing or recipient is None:
            kept_signing, kept_recipient = _kept(data)
            signing = signing or kept_signing
            recipient = recipient or kept_recipient
        return cls.of(signing, recipient)

    @classmethod
    def make(cls, data: Path, signing: tuple[str, ...] = (), recipient: str | None = None) -> Secrets:
        """As `load`; what is not given is first made in the data directory (mode 0600), if it is missing."""
        if not signing or recipient is None:
            _make(data)
        return cls.load(data, signing, recipient)

    def recipient_key(self, recipient: str) -> bytes:
        """8 bytes that stand for a recipient: the same in every campaign."""
        return blake2b(recipient.encode(), digest_size=8, key=self.recipient).digest()

    def visitor_key(self, *parts: bytes) -> bytes:
        """8 bytes that stand for a web visitor, from parts that cannot run together."""
        joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return blake2b(joined, digest_size=8, key=self.visitor).digest()

    def routing_key(self, address: bytes, agent: bytes) -> bytes:
        """4 bytes that send a web hit to its shard; nothing but the shard is kept of them."""
        return blake2b(address + b"\0" + agent, digest_size=4, key=self.routing).digest()

    def withdrawal_mark(self, recipient: bytes) -> bytes:
        """8 bytes that stand for a recipient key in the list of withdrawals, and nowhere else."""
        made = self.withdrawal_hash().copy()
        made.update(recipient)
        return made.digest()

    def withdrawal_hash(self) -> blake2b:
        """What `withdrawal_mark` hashes with: to copy, where one is made for each hit."""
        return blake2b(digest_size=8, key=self.withdrawn)

    def evidence_hash(self) -> blake2b:
        """What tells two addresses of one recipient apart: to copy, and feed with recipient and address."""
        return blake2b(digest_size=4, key=self.evidence)

    def fingerprints(self) -> tuple[str, list[str]]:
        """(of the recipient key, of each signing key): enough to see a mismatch, no use for anything else."""
        return _fingerprint(self.recipient), [_fingerprint(key) for key in self.signing]


def _derive(text: str, purpose: bytes) -> bytes:
    return blake2b(text.encode(), digest_size=32, person=purpose).digest()


def _fingerprint(key: bytes) -> str:
    return blake2b(key, digest_size=8, person=b"px-fingerprint").hexdigest()


def _make(data: Path) -> None:
    """Secrets in the data directory, if it holds no file of them, whole or not."""
    import secrets as random  # noqa: PLC0415 - links are made where it need not be loaded

    path = data / FILE
    if os.path.lexists(path):
        return
    made = {"signing": [random.token_urlsafe(32)], "recipient": random.token_urlsafe(32)}
    try:
        data.mkdir(parents=True, exist_ok=True)
        files.create(path, json.dumps(made).encode(), 0o600)  # if another process was first, its secrets hold
    except OSError as error:
        raise SecretsError(f"cannot write secrets to {data}: {error.strerror}") from None


def _kept(data: Path) -> tuple[tuple[str, ...], str]:
    """(signing keys, recipient secret) of the data directory."""
    path = data / FILE
    if not os.path.lexists(path):
        raise SecretsError(
            f"there are no secrets in {data.absolute()}: name the server's data directory (PIXEL_DATA_DIR), "
            f"restore its {FILE}, or set PIXEL_SECRET and PIXEL_RECIPIENT_SECRET"
        )
    try:
        kept = json.loads(path.read_bytes())
        signing, recipient = kept["signing"], kept["recipient"]
        if not signing or not isinstance(signing, list):
            raise ValueError
        for text in (*signing, recipient):
            if not isinstance(text, str) or not text.encode():
                raise ValueError
    except PermissionError as error:
        raise SecretsError(f"cannot read {path}: {error.strerror}; whose is it?") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SecretsError(
            f"{path} cannot be read as secrets; restore it, or set PIXEL_SECRET and PIXEL_RECIPIENT_SECRET"
        ) from None
    return tuple(signing), recipient

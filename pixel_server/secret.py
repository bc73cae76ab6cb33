"""The secrets of a server: texts that sign links, and a text that hashes recipients.

Keys for more purposes are derived from these texts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pixel_server import files

FILE = "secrets.json"


class SecretsError(ValueError):
    """The secrets cannot be read or created. The message is one line for the operator."""

    is_loggable = True


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Keys of 32 bytes, each derived for one purpose.

    signing, cookies, sessions: keys that sign links, visitors' cookies and dashboard sessions, newest first.
    The first key signs, and all of them verify. recipient, visitor, withdrawn: keys that hash recipients, web
    visitors and withdrawn recipients. routing: key that hashes a web hit to its shard. evidence: key that
    hashes the addresses in traces (`counters.burst_window`). events: key that makes the ids of events of
    webhooks.
    """

    signing: tuple[bytes, ...]
    recipient: bytes
    visitor: bytes
    routing: bytes
    withdrawn: bytes
    evidence: bytes
    events: bytes
    cookies: tuple[bytes, ...]
    sessions: tuple[bytes, ...]

    @classmethod
    def derive(cls, signing: tuple[str, ...], recipient_secret: str) -> Secrets:
        """Returns the keys derived from texts that the operator has set or a data directory holds."""
        if not signing:
            raise SecretsError("at least one signing key is needed")
        return cls(
            signing=tuple(_derive(text, b"px-sign") for text in signing),
            recipient=_derive(recipient_secret, b"px-recipient"),
            visitor=_derive(recipient_secret, b"px-visitor"),
            routing=_derive(recipient_secret, b"px-routing"),
            withdrawn=_derive(recipient_secret, b"px-withdrawn"),
            evidence=_derive(recipient_secret, b"px-evidence"),
            events=_derive(recipient_secret, b"px-events"),
            cookies=tuple(_derive(text, b"px-cookie") for text in signing),
            sessions=tuple(_derive(text, b"px-session") for text in signing),
        )

    @classmethod
    def load(cls, data: Path, signing: tuple[str, ...] = (), recipient_secret: str | None = None) -> Secrets:
        """Returns the keys derived from the given secrets. Reads each missing secret from `data`.

        data: the server's data directory. Raises SecretsError if the directory has no secrets. Does not
        create secrets: a command that signs links must use the secrets that the server has.
        """
        if not signing or recipient_secret is None:
            stored_signing, stored_recipient_secret = _read_file(data)
            signing = signing or stored_signing
            recipient_secret = recipient_secret or stored_recipient_secret
        return cls.derive(signing, recipient_secret)

    @classmethod
    def load_or_create(
        cls, data: Path, signing: tuple[str, ...] = (), recipient_secret: str | None = None
    ) -> Secrets:
        """Creates missing secrets in the data directory (mode 0600), then does what `load` does."""
        if not signing or recipient_secret is None:
            _create_file(data)
        return cls.load(data, signing, recipient_secret)

    def recipient_key(self, recipient: str) -> bytes:
        """Returns the 8 bytes that stand for a recipient in every campaign."""
        return blake2b(recipient.encode(), digest_size=8, key=self.recipient).digest()

    def visitor_key(self, *parts: bytes) -> bytes:
        """Returns the 8 bytes that stand for a web visitor. (`a`, `bc`) and (`ab`, `c`) give two keys."""
        joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return blake2b(joined, digest_size=8, key=self.visitor).digest()

    def routing_key(self, address: bytes, agent: bytes) -> bytes:
        """Returns 4 bytes that choose the shard of a web hit. These bytes are not stored."""
        return blake2b(address + b"\0" + agent, digest_size=4, key=self.routing).digest()

    def withdrawal_mark(self, recipient: bytes) -> bytes:
        """Returns the 8 bytes that stand for a recipient key in the list of withdrawals, and nowhere else."""
        [mark] = self.withdrawal_marks([recipient])
        return mark

    def withdrawal_marks(self, recipients: Iterable[bytes]) -> list[bytes]:
        """Returns the `withdrawal_mark` of each recipient key, in half the time that single calls take."""
        copy = self.withdrawal_hash().copy
        marks = []
        for recipient in recipients:
            mark = copy()
            mark.update(recipient)
            marks.append(mark.digest())
        return marks

    def withdrawal_hash(self) -> blake2b:
        """Returns a hash object. A copy of the object, updated with a recipient key, gives the mark.

        Code that makes a mark for each hit keeps the object, because a copy is faster than a new object.
        """
        return blake2b(digest_size=8, key=self.withdrawn)

    def evidence_hash(self) -> blake2b:
        """Returns a hash object. A copy of the object, updated with a recipient key and an address, gives the
        hash of the address in a trace.
        """
        return blake2b(digest_size=4, key=self.evidence)

    def setting_fingerprint(self, value: bytes) -> str:
        """Returns a keyed hash of the value of a setting, by which hosts compare it."""
        return blake2b(value, digest_size=8, key=self.recipient, person=b"px-setting").hexdigest()

    def fingerprints(self) -> tuple[str, list[str]]:
        """Returns the fingerprint of the key that hashes recipients, and that of each signing key.

        Fingerprints show a mismatch of secrets, and reveal nothing else.
        """
        return _fingerprint(self.recipient), [_fingerprint(key) for key in self.signing]


def _derive(text: str, purpose: bytes) -> bytes:
    return blake2b(text.encode(), digest_size=32, person=purpose).digest()


def _fingerprint(key: bytes) -> str:
    return blake2b(key, digest_size=8, person=b"px-fingerprint").hexdigest()


def _create_file(data: Path) -> None:
    """Creates the file of secrets in the data directory. Leaves an existing file, even if unreadable."""
    import secrets  # noqa: PLC0415 - minting links does not need it

    path = data / FILE
    if os.path.lexists(path):
        return
    content = {"signing": [secrets.token_urlsafe(32)], "recipient": secrets.token_urlsafe(32)}
    try:
        data.mkdir(parents=True, exist_ok=True)
        # If another process creates the file first, that file stays.
        files.create(path, json.dumps(content).encode(), 0o600)
    except OSError as error:
        raise SecretsError(f"cannot write secrets to {data}: {error.strerror}") from None


def _read_file(data: Path) -> tuple[tuple[str, ...], str]:
    """Returns the signing keys and the recipient secret of the data directory. Raises SecretsError."""
    path = data / FILE
    if not os.path.lexists(path):
        raise SecretsError(
            f"there are no secrets in {data.absolute()}: name the server's data directory (PIXEL_DATA_DIR), "
            f"restore its {FILE}, or set PIXEL_SECRET and PIXEL_RECIPIENT_SECRET"
        )
    try:
        content = json.loads(path.read_bytes())
        signing, recipient = content["signing"], content["recipient"]
        if not signing or not isinstance(signing, list):
            raise ValueError
        for text in (*signing, recipient):
            if not isinstance(text, str) or not text.encode():
                raise ValueError
    except PermissionError as error:
        raise SecretsError(f"cannot read {path}: {error.strerror}; check its owner") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SecretsError(
            f"{path} cannot be read as secrets; restore it, or set PIXEL_SECRET and PIXEL_RECIPIENT_SECRET"
        ) from None
    return tuple(signing), recipient

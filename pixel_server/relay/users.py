"""The users who may send through the relay, in a file with lines such as `shop:9f8e...`.

The relay makes their passwords, with 192 random bits each. So the file holds plain hashes, as the store does
of API keys.
"""

from __future__ import annotations

import re
import secrets
from hmac import compare_digest
from pathlib import Path

from pixel_server import files
from pixel_server.auth.token_hash import token_hash
from pixel_server.settings import SettingsError

_PURPOSE = b"px-relay"
_is_name = re.compile(r"[A-Za-z0-9@._+-]{1,64}").fullmatch


class UsersError(SettingsError):
    """The file of users cannot be used. The message is one line for the operator."""


def read_users(path: Path) -> dict[str, str]:
    """Returns the hash of each user's password, by name. Raises UsersError."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise UsersError(f"PIXEL_RELAY_USERS: cannot read {path}: {why}") from None
    users = {}
    for number, line in enumerate(lines, start=1):
        name, _, stored_hash = line.partition(":")
        if not _is_name(name) or not re.fullmatch("[0-9a-f]{32}", stored_hash):
            raise UsersError(
                f"PIXEL_RELAY_USERS: line {number} of {path} is not a user: write it with "
                "`pixel-server relay-user NAME`"
            )
        users[name] = stored_hash
    return users


def is_password(path: Path, name: str, password: str) -> bool:
    """Returns whether a user has this password. Raises UsersError."""
    stored_hash = read_users(path).get(name, "")
    return compare_digest(stored_hash, token_hash(password, _PURPOSE))


def add_user(path: Path, name: str) -> str:
    """Adds a user, or gives a user a new password. Returns the password. Raises UsersError."""
    if not _is_name(name):
        raise UsersError("a user's name has 1 to 64 characters: letters, digits and @ . _ + -")
    users = read_users(path) if path.exists() else {}
    password = secrets.token_urlsafe(24)
    users[name] = token_hash(password, _PURPOSE)
    _write(path, users)
    return password


def remove_user(path: Path, name: str) -> None:
    """Removes a user. Raises UsersError if the user is unknown."""
    users = read_users(path)
    if name not in users:
        raise UsersError(f"there is no user {name[:64]!r} in {path}")
    del users[name]
    _write(path, users)


def _write(path: Path, users: dict[str, str]) -> None:
    text = "".join(f"{name}:{stored_hash}\n" for name, stored_hash in sorted(users.items()))
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        files.write(path, text.encode(), mode)
    except OSError as error:
        raise UsersError(f"PIXEL_RELAY_USERS: cannot write {path}: {error.strerror}") from None

"""The file that `pixel-server up` writes to its data directory, so that other commands find its server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pixel_server import files
from pixel_server.logs import Log
from pixel_server.settings import SettingsError

log = Log(__name__)

FILE = "up.json"
"""Name of the file in the data directory."""
RESTORING = ".restoring"
"""Name of the folder that `pixel-server restore` keeps in the data directory until the restore has ended."""
_FINGERPRINTS = "prints"
"""Name of `UpState.secret_fingerprints` in the file."""


@dataclass(frozen=True, slots=True)
class UpState:
    """The addresses and settings of a server that `pixel-server up` started.

    address: the URL of the web process, for example `http://127.0.0.1:8000`. base_url: the beginning of all
    links. secret_fingerprints: the fingerprint of the recipient secret, then the fingerprint of each signing
    key. settings: values by name; see `settings.exported_environment`. queue_url: PIXEL_QUEUE_URL, or "".
    """

    address: str
    base_url: str
    redis_url: str
    secret_fingerprints: list[str]
    settings: dict[str, str] = field(default_factory=dict)
    queue_url: str = ""


def read_up_state(data: Path) -> UpState | None:
    """Returns the state that the last `up` wrote to a data directory.

    Returns None if no `up` has run there. Raises SettingsError if this user is not allowed to read the file.
    """
    try:
        stored = json.loads((data / FILE).read_bytes())
        return UpState(
            address=str(stored["address"]),
            base_url=str(stored["base_url"]),
            redis_url=str(stored["redis_url"]),
            secret_fingerprints=[str(fingerprint) for fingerprint in stored[_FINGERPRINTS]],
            settings={str(name): str(value) for name, value in stored.get("settings", {}).items()},
            queue_url=str(stored.get("queue_url", "")),
        )
    except PermissionError as error:
        raise SettingsError(
            f"cannot read {error.filename}: {error.strerror}; does the file belong to another user?"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_up_state(data: Path, state: UpState) -> None:
    """Writes the state whole or not at all.

    Only logs an error if the file cannot be written, for example on a full disk: the server runs without the
    file.
    """
    stored = asdict(state)
    stored[_FINGERPRINTS] = stored.pop("secret_fingerprints")
    try:  # 0600: the URL of a Redis may contain a password
        files.write(data / FILE, json.dumps(stored).encode() + b"\n", 0o600)
    except OSError as error:
        log.error(
            "up-file-not-written",
            "cannot write %(path)s, so other commands may not find this server: %(error)s",
            path=data / FILE,
            error=error,
        )


def sign_in_bases(address: str, base_url: str) -> list[str]:
    """Returns the URLs at which a browser can sign in: the base URL, and `address` if signing in works there.

    The session cookie is Secure if the base URL is https. Over plain http, a browser stores a Secure
    cookie at most from this machine itself: Chromium does, as a test shows, and Safari does not.
    """
    host = urlsplit(address).hostname or ""
    is_loopback = host in ("localhost", "::1") or host.startswith("127.")
    local = address + urlsplit(base_url).path
    is_usable = local != base_url and (is_loopback or base_url.startswith("http:"))
    return [base_url, local] if is_usable else [base_url]

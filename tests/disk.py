"""Searching a whole directory for what should not be there, in every form in which it might be written."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from pathlib import Path


def forms(name: str, packed: bytes = b"", text: str = "") -> dict[str, bytes]:
    """Bytes to look for, by what they are. packed: also as hex, and as base64 however it is aligned."""
    found: dict[str, bytes] = {}
    if text:
        found[f"{name}: text"] = text.encode()
    if packed:
        found[f"{name}: packed"] = packed
        found[f"{name}: hex"] = packed.hex().encode()
        found[f"{name}: HEX"] = packed.hex().upper().encode()
        for shift in range(3):
            for encode in (b64encode, urlsafe_b64encode):
                # Characters that hold bits of these bytes alone.
                padded = encode(b"\0" * shift + packed)
                first = (shift * 8 + 5) // 6
                last = (shift + len(packed)) * 8 // 6
                found[f"{name}: {encode.__name__} at {shift}"] = padded[first:last]
    return found


def search(directory: Path, wanted: dict[str, bytes]) -> dict[str, set[str]]:
    """{form: files that hold it}, of all files there, whatever they are called."""
    found: dict[str, set[str]] = {}
    for path in directory.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue  # gone while we look
        for name, needle in wanted.items():
            if needle in data:
                found.setdefault(name, set()).add(str(path.relative_to(directory)))
    return found

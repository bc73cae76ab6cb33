"""Searches a directory for data that must not be there, in every form in which the data could be written."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from pathlib import Path


def forms(name: str, packed: bytes = b"", text: str = "") -> dict[str, bytes]:
    """Returns the forms of a value, each with its description: `{"ada: hex": b"0a..."}`.

    packed: bytes of the value; their forms are hex and base64, at each alignment. text: the value as text.
    """
    described: dict[str, bytes] = {}
    if text:
        described[f"{name}: text"] = text.encode()
    if packed:
        described[f"{name}: packed"] = packed
        described[f"{name}: hex"] = packed.hex().encode()
        described[f"{name}: HEX"] = packed.hex().upper().encode()
        for shift in range(3):
            for encode in (b64encode, urlsafe_b64encode):
                # Only the characters that hold no bits of other bytes.
                padded = encode(b"\0" * shift + packed)
                first = (shift * 8 + 5) // 6
                last = (shift + len(packed)) * 8 // 6
                described[f"{name}: {encode.__name__} at {shift}"] = padded[first:last]
    return described


def search(directory: Path, wanted: dict[str, bytes]) -> dict[str, set[str]]:
    """Returns the files of a directory that contain a wanted form, by the form's description."""
    found: dict[str, set[str]] = {}
    for path in directory.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue  # removed during the search
        for name, needle in wanted.items():
            if needle in data:
                found.setdefault(name, set()).add(str(path.relative_to(directory)))
    return found

"""The format number at the beginning of each packed value in Redis."""

from __future__ import annotations


class NewerFormat(ValueError):
    """A newer version of this server wrote the value. The value is left as it is."""

    is_loggable = True


def refuse_newer(value: bytes, newest_known: int, name: str) -> None:
    """Raises NewerFormat if a packed value has a format above `newest_known`.

    A packed value is a msgpack array that begins with its format, so its second byte is the format:
    `b"\\x92\\x01\\x80"` has format 1. name: noun for the message, such as "series".
    """
    if value[1] > newest_known:
        raise NewerFormat(f"{name} of format {value[1]}, this version reads {newest_known}")

"""References of consent: which notice a recipient agreed to, and when.

A list or a request gives a reference as text, `VERSION@TIME`: `"2026-05@2026-05-04T09:30:00Z"` is the consent
to the version 2026-05 of the sender's notice.
"""

from __future__ import annotations

from typing import NamedTuple

from pixel_server.one_line import has_control_characters
from pixel_server.times import InstantOutOfRangeError, iso, parse_instant

MAX_VERSION_CHARACTERS = 100


class ConsentRef(NamedTuple):
    """version: the sender's name of the notice. time: time of the consent, seconds since 1970."""

    version: str
    time: int

    def __str__(self) -> str:
        return f"{self.version}@{iso(self.time)}"


def parse(text: str) -> ConsentRef:
    """Returns the reference in a text. Raises ValueError, whose text is the end of a sentence about it."""
    version, _, time = text.rpartition("@")
    version = version.strip(" ")
    try:
        if not 1 <= len(version) <= MAX_VERSION_CHARACTERS or has_control_characters(version):
            raise ValueError
        return ConsentRef(version, parse_instant(time, None))
    except InstantOutOfRangeError:
        raise
    except ValueError:
        raise ValueError(
            "must be the version of the notice and the time of the consent with its offset, as "
            "2026-05@2026-05-04T09:30:00Z"
        ) from None

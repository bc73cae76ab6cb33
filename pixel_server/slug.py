"""Slugs: the spelling of campaign ids."""

from __future__ import annotations

import re
from unicodedata import normalize

PATTERN = "[a-z0-9][a-z0-9-]{0,62}"
MAX_LENGTH = 63
SLUG_RULE = "must be a to z, 0 to 9 and hyphens, up to 63 characters, and not begin with a hyphen"
"""The rule in words, for error messages about a field."""

is_slug = re.compile(PATTERN, re.ASCII).fullmatch
is_slug_bytes = re.compile(PATTERN.encode()).fullmatch


def from_name(name: str, number: int = 1) -> str:
    """Returns a slug made from a name: `"strasse"` for `"Straße"`, and `"strasse-2"` with the number 2.

    Returns "" if the name has no letter or digit that a slug can have. `static/slug.js` does the same for the
    number 1.
    """
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", name)).upper().lower()  # upper turns ß into SS
    end = f"-{number}" if number > 1 else ""
    slug = re.sub("[^a-z0-9]+", "-", plain).strip("-")[: MAX_LENGTH - len(end)].rstrip("-")
    return slug and slug + end

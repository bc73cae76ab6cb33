"""Campaign ids: the one spelling rule."""

from __future__ import annotations

import re
from unicodedata import normalize

PATTERN = "[a-z0-9][a-z0-9-]{0,62}"
IN_WORDS = "must be a to z, 0 to 9 and hyphens, up to 63, and not begin with a hyphen"
MOST = 63

is_slug = re.compile(PATTERN, re.ASCII).fullmatch
is_slug_bytes = re.compile(PATTERN.encode()).fullmatch


def of_name(name: str, number: int = 1) -> str:
    """A slug made of a name; of a number from 2 on, with it at the end. "": nothing of the name can stand in
    one. `static/slug.js` makes the same, without a number.
    """
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", name)).upper().lower()  # so that ß is ss
    end = f"-{number}" if number > 1 else ""
    made = re.sub("[^a-z0-9]+", "-", plain).strip("-")[: MOST - len(end)].rstrip("-")
    return made and made + end

"""Tags of campaigns: short texts by which campaigns are grouped and found. Pure.

Tags that differ only in upper and lower case are the same tag. A tag keeps the spelling that the sender gave.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_TAGS = 10
MAX_TAG_CHARACTERS = 40
SEPARATOR = ","
"""Character between tags in a form. No tag contains it."""

_RULE = f"of 1 to {MAX_TAG_CHARACTERS} characters, without commas and control characters"
_has_bad_characters = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff,]").search


def normalise(tags: Iterable[str]) -> tuple[str, ...]:
    """Returns the tags without white space at their ends, and without duplicates.

    Raises ValueError if a tag is empty, too long, or has a comma or a control character, or if there are too
    many tags.
    """
    by_key: dict[str, str] = {}
    for tag in tags:
        text = unicodedata.normalize("NFC", tag.strip())
        if not is_tag(text):
            raise ValueError(f"must be tags {_RULE}")
        by_key.setdefault(key(text), text)
    if len(by_key) > MAX_TAGS:
        raise ValueError(f"must be at most {MAX_TAGS} tags")
    return tuple(by_key.values())


def is_tag(text: str) -> bool:
    """Returns whether a campaign may have this tag."""
    return 1 <= len(text.strip()) <= len(text) <= MAX_TAG_CHARACTERS and not _has_bad_characters(text)


def query_errors(tag: str | None) -> list[dict[str, str]]:
    """Returns the errors of the parameter `tag` of a query."""
    return [] if tag is None or is_tag(tag) else [{"field": "tag", "message": f"must be a tag {_RULE}"}]


def key(tag: str) -> str:
    """Returns a text that is the same for all spellings of a tag: `"spring"` for `" Spring"`."""
    return unicodedata.normalize("NFC", tag.strip()).casefold()


def has_tag(tags: Iterable[str], wanted: str) -> bool:
    """Returns whether a tag is among the tags, in any spelling."""
    return key(wanted) in map(key, tags)

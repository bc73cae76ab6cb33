"""Reads PIXEL_OPERATOR: the name or the address of whoever runs this server, for pages that show it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\\@]+", re.I)


class OperatorName(NamedTuple):
    """The text of PIXEL_OPERATOR, "" if it is not set, and whether a page may link to it."""

    text: str
    is_link: bool


def parse(setting: str | None) -> OperatorName:
    """Returns the operator's name. Only an http(s) URL without a user is a link."""
    text = (setting or "").strip()
    try:
        is_link = bool(_URL.fullmatch(text) and urlsplit(text).hostname)
    except ValueError:
        is_link = False
    return OperatorName(text, is_link)

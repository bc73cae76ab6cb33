"""What kind of site a referrer is. (To be replaced by the list.)"""

from __future__ import annotations


def kind(host: str) -> str:
    return "other"

"""The classes of verdicts on hits. A verdict is only a label: it never deletes a hit."""

from __future__ import annotations

from typing import Literal, get_args

Class = Literal["person", "proxy", "prefetch", "scanner", "own", "unknown"]
CLASSES: tuple[Class, ...] = get_args(Class)
ELIGIBLE: frozenset[Class] = frozenset({"person", "proxy"})
"""Classes of opens that may come from a person. A proxy loads images on behalf of a person who reads."""

ClientClass = Literal["mail", "webkit", "bot", "browser", ""]
"""Class of a user agent. "webkit": a program that shows a mail by WebKit and does not name itself. "": an
agent that is not recognised."""

"""The classes of a verdict. A label: it never deletes a hit."""

from __future__ import annotations

from typing import Literal, get_args

Class = Literal["person", "proxy", "prefetch", "scanner", "own", "unknown"]
CLASSES: tuple[Class, ...] = get_args(Class)
ELIGIBLE: frozenset[Class] = frozenset({"person", "proxy"})
"""Human-eligible: an open that may be a person's."""

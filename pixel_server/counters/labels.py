"""Labels that counts stand under where there is no name of their own."""

from __future__ import annotations

UNKNOWN = "(unknown)"
"""Label of what could not be told."""
OTHER = "(other)"
"""Label of the names beyond those that are counted one by one."""

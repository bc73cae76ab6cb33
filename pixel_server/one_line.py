"""Control characters, which no text for people may contain: it is shown on one line, and written to logs."""

from __future__ import annotations

import re

has_control_characters = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search
"""Finds a control character, or half of a surrogate pair, which UTF-8 cannot encode."""

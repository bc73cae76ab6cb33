"""Campaign ids: the one spelling rule."""

from __future__ import annotations

import re

PATTERN = "[a-z0-9][a-z0-9-]{0,62}"

is_slug = re.compile(PATTERN, re.ASCII).fullmatch
is_slug_bytes = re.compile(PATTERN.encode()).fullmatch

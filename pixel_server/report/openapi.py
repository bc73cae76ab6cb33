"""The API described as OpenAPI 3.1. A test holds it against the routes."""

from __future__ import annotations

from typing import Any


def document(base_url: str | None) -> dict[str, Any]:
    return {}

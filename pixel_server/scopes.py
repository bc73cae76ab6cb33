"""Scopes: what an API key, or a user whom a proxy signed in, may do."""

from __future__ import annotations

from collections.abc import Iterable

from pixel_server.slug import is_slug

SCOPES = ("read", "write", "people")
"""Scopes that hold for all campaigns. Only `people` allows calls on single recipients and withdrawals."""
METRICS_SCOPE = "metrics"
"""Scope that allows to read `/metrics`, and nothing else. No other scope includes it."""
CAMPAIGN_SCOPE = "read:"
"""Prefix of a scope for one campaign: `read:docs` shows only the shared figures of the campaign
`docs` (see `figures.disclosure`)."""
MAX_SCOPES = 100
"""Largest number of scopes of one key."""


def is_scope(text: str) -> bool:
    """Returns whether a text has the form of a scope. Does not check that the campaign exists."""
    return text in (*SCOPES, METRICS_SCOPE) or (
        text.startswith(CAMPAIGN_SCOPE) and is_slug(text.removeprefix(CAMPAIGN_SCOPE)) is not None
    )


def shared_campaigns(scopes: Iterable[str]) -> list[str]:
    """Returns the ids in scopes for one campaign: `spring` for the scope `read:spring`."""
    return [scope.removeprefix(CAMPAIGN_SCOPE) for scope in scopes if scope.startswith(CAMPAIGN_SCOPE)]


def can_see_pages(scopes: Iterable[str]) -> bool:
    """Returns whether the scopes allow to see any page of the dashboard."""
    scopes = list(scopes)
    return "read" in scopes or bool(shared_campaigns(scopes))

"""The permissions of keys and users in the words of the pages, each with its scope in the API."""

from __future__ import annotations

from pixel_server.auth.sessions import Session
from pixel_server.problems import Problem
from pixel_server.scopes import METRICS_SCOPE

NAMES = {
    "read": "See all figures",
    "write": "Create and change",
    "people": "See recipients",
    METRICS_SCOPE: "Read metrics",
}
"""Names of the scopes on pages."""
MEANINGS = {
    "read": "Read campaigns, their figures and the list of keys, and see these pages.",
    "write": "Create, change and delete campaigns, links and keys.",
    "people": "Single recipients, withdrawals and the audit log. No other permission includes this.",
    METRICS_SCOPE: "Numbers for Prometheus at /metrics, and nothing else.",
}


def in_words(scope: str) -> str:
    """Returns a permission in words, with its scope: `"“Create and change” (write)"`."""
    return f"“{NAMES[scope]}” ({scope})"


class Lacking(Problem):
    """A session lacks a permission: status 403."""

    def __init__(self, session: Session, scope: str, action: str) -> None:
        """scope: the scope that the session lacks. action: what was refused, as `"create a campaign"`."""
        who = "the API key that you signed in with"
        if session.key_id is None:
            who = f"the user “{session.name}”"
        text = f"you need the permission {in_words(scope)} to {action}, and {who} does not have it"
        super().__init__(403, text)

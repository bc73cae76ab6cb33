"""The setting PIXEL_SIGN_IN_SCOPES: the scopes of the users whom a proxy signs in.

    anna=read,people; group:marketing=read; *=read:spring

gives `anna` the scopes `read` and `people`, members of the group `marketing` the scope `read`, and everybody
whom the proxy signs in the scope `read:spring`. All entries that fit a user add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pixel_server.scopes import CAMPAIGN_SCOPE, METRICS_SCOPE, SCOPES, is_scope

EVERYBODY = "*"
GROUP = "group:"
MAX_NAME_CHARACTERS = 256
_EXAMPLE = "anna=read,people; group:marketing=read; *=read:spring"


def is_name(text: str) -> bool:
    """Returns whether a text can be the name of a user or a group.

    A name has 1 to 256 printable characters, no space at either end, and neither `,` nor `;`, which separate
    names. Invisible characters are not printable.
    """
    return (
        0 < len(text) <= MAX_NAME_CHARACTERS
        and text.isprintable()
        and text == text.strip()
        and not set(text) & set(",;")
    )


@dataclass(frozen=True, slots=True)
class SignInScopes:
    """The scopes of each user, of each group, and of everybody.

    All are sorted, so that the same setting has the same `repr` in each process: hosts compare it.
    """

    users: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]
    everybody: tuple[str, ...]

    def of(self, user: str, groups: Iterable[str]) -> frozenset[str]:
        """Returns the scopes of a user. Names are compared exactly: `Anna` is not `anna`."""
        found = {*self.everybody, *self.users.get(user, ())}
        for group in groups:
            found.update(self.groups.get(group, ()))
        return frozenset(found)


def parse(text: str) -> SignInScopes:
    """Returns the scopes that the setting gives. Raises ValueError with the reason if it cannot be read."""
    users: dict[str, tuple[str, ...]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for entry in text.split(";"):
        if not entry.strip():
            continue
        name, equals, scopes = (part.strip() for part in entry.rpartition("="))
        is_group = name.startswith(GROUP)
        name = name.removeprefix(GROUP).strip() if is_group else name
        if not equals or not is_name(name) or (is_group and name == EVERYBODY):
            raise ValueError(f"{entry.strip()[:100]!r} is not NAME=SCOPES; write it as {_EXAMPLE!r}")
        named = groups if is_group else users
        if name in named:
            raise ValueError(f"{name[:100]!r} is named twice; write all its scopes in one place")
        named[name] = _parse_scopes(scopes)
    if not users and not groups:
        raise ValueError(f"names nobody; write it as {_EXAMPLE!r}")
    everybody = users.pop(EVERYBODY, ())
    return SignInScopes(dict(sorted(users.items())), dict(sorted(groups.items())), everybody)


def _parse_scopes(text: str) -> tuple[str, ...]:
    scopes = [scope.strip() for scope in text.split(",")]
    for scope in scopes:
        if scope == METRICS_SCOPE:
            raise ValueError(f"the scope {METRICS_SCOPE!r} is for API keys only")
        if not is_scope(scope):
            known = ", ".join((*SCOPES, f"{CAMPAIGN_SCOPE}CAMPAIGN"))
            raise ValueError(f"{scope[:100]!r} is not a scope; the scopes are: {known}")
    return tuple(sorted(set(scopes)))

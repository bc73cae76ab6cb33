"""The role of a Redis, and its identity, from its replies to ROLE and INFO."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_find_ids = re.compile(rb"^(?:run_id|master_replid):([0-9a-f]+)", re.M).findall


class Role(NamedTuple):
    """The role of a Redis.

    offset: number of bytes that a primary has sent to its replicas since it became a primary, or would have
    sent. replica_offsets: of these, the number of bytes that each connected replica has confirmed.
    """

    is_primary: bool
    offset: int = 0
    replica_offsets: tuple[int, ...] = ()


def parse_role(reply: Any) -> Role | None:
    """Returns the role in a reply to ROLE, None if the reply is an error: a user may be forbidden ROLE.

    `[b"master", 4200, [[b"10.0.0.2", b"6379", b"4186"]]]` is the reply of a primary whose one replica has not
    confirmed the last 14 bytes.
    """
    if not isinstance(reply, list) or not reply:
        return None
    if reply[0] != b"master":
        return Role(is_primary=False)
    return Role(True, int(reply[1]), tuple(int(offset) for _, _, offset in reply[2]))


def parse_identity(reply: Any) -> str:
    """Returns the identity of a Redis in a reply to `INFO server replication`, "" if it is not told.

    The identity changes when Redis is started again, and when a replica becomes a primary. So a primary with
    the same identity as before has lost none of its data.
    """
    ids: list[bytes] = _find_ids(reply) if isinstance(reply, bytes) else []
    return b" ".join(ids).decode() if len(ids) == 2 else ""

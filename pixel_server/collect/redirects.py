"""Replies by which a node of a cluster refuses a batch that belongs elsewhere, or that it cannot take now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from pixel_server.store_url import Address

_REDIRECTS = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING"})


class Redirected(Exception):
    """A node refused some batches, and stored nothing of them.

    replies: for each batch the reply of `store.producer.APPEND`, or a hiredis.ReplyError for which
    `is_redirect` returns True.
    """

    def __init__(self, replies: Sequence[Any]) -> None:
        super().__init__(next(str(reply) for reply in replies if is_redirect(reply)))
        self.replies = list(replies)


def is_redirect(reply: Any) -> bool:
    """Returns whether a reply says that the batch belongs elsewhere, or must be sent again a little later."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).partition(" ")[0] in _REDIRECTS


def moved_to(reply: Any, asked: Address) -> Address | None:
    """Returns the node that has the slot now, from `MOVED 866 10.0.0.1:7000`. Returns None for other replies.

    asked: the node that replied.
    """
    return _target("MOVED", reply, asked)


def ask_at(reply: Any, asked: Address) -> Address | None:
    """Returns the node that takes this one command after ASKING. Returns None if the reply is not ASK."""
    return _target("ASK", reply, asked)


def _target(kind: str, reply: Any, asked: Address) -> Address | None:
    words = str(reply).split()
    if words[0] != kind:
        return None
    host, _, port = words[2].rpartition(":")
    return host or asked[0], int(port)  # a node that does not know its own host leaves it out

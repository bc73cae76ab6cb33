"""Encodes the commands that append batches, in Redis's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.redis_connection import encode_command, encode_word
from pixel_server.store import keys, producer

_SHA = sha1(producer.APPEND.encode(), usedforsecurity=False).hexdigest().encode()
_FIELD = str(hit.FORMAT).encode()
_AFTER_NONE = encode_word(b"0")
_MAX_HEADS = 1024
"""Maximum number of pairs of shard and producer whose first words are kept. Producers come and go."""


class AppendEncoder:
    """Encodes calls of `producer.APPEND`. is_before_wait: whether WAIT follows the calls."""

    def __init__(self, is_before_wait: bool) -> None:
        self._heads: dict[tuple[int, str], bytes] = {}
        self._word_count = 12 if is_before_wait else 11
        self._last_word = encode_word(b"1") if is_before_wait else b""

    def encode(self, batches: Sequence[Batch], mark: bytes) -> bytes:
        """Returns a command for each batch. mark: the mark of the store, or b""."""
        end = encode_word(mark) + self._last_word
        return b"".join([self._encode(batch) + end for batch in batches])

    def _encode(self, batch: Batch) -> bytes:
        """Returns the command without its last words."""
        head = self._heads.get((batch.shard, batch.producer))
        if head is None:
            if len(self._heads) > _MAX_HEADS:
                self._heads.clear()
            stream, producers = keys.hits(batch.shard).encode(), keys.producers(batch.shard).encode()
            words = (b"EVALSHA", _SHA, b"2", stream, producers, batch.producer.encode())
            head = b"*%d\r\n" % self._word_count + b"".join(map(encode_word, words))
            self._heads[batch.shard, batch.producer] = head
        after = encode_word(b"%d" % batch.after) if batch.after else _AFTER_NONE
        return head + b"$%d\r\n%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            len(str(batch.sequence)),
            batch.sequence,
            len(_FIELD),
            _FIELD,
            len(batch.data),
            batch.data,
            after,
        )


def encode_wait(replicas: int, timeout_seconds: float) -> bytes:
    """Returns the command that waits until so many replicas have confirmed the writes before."""
    return encode_command(b"WAIT", b"%d" % replicas, b"%d" % max(1, int(timeout_seconds * 1000)))

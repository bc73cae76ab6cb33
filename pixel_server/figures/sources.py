"""Where figures are read: in all shards, or with many shards in the values merged over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pixel_server.store import merged, producer
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.store.script import GLOBAL


@dataclass(frozen=True, slots=True)
class Sources:
    """The tags of the keys to read. The sum of their values is the value of all shards.

    merged_as_of: time (ms) until which all hits are in the merged values, None if the shards are read.
    """

    tags: Sequence[Tag]
    merged_as_of: int | None = None

    def queue_as_of(self, pipe: Pipeline) -> None:
        """Queues the commands for `unpack_as_of`. Call it before any other command is queued."""
        if self.merged_as_of is None:
            for tag in self.tags:
                producer.queue_counted_until(pipe, tag)

    def unpack_as_of(self, answers: Iterator[Any]) -> int:
        """Returns an instant in ms since 1970. Takes the answers to `queue_as_of`.

        Sums read after these answers include every hit that reached the stream before this instant.
        """
        if self.merged_as_of is not None:
            return self.merged_as_of
        return min(int(next(answers)) for _ in self.tags)


async def find(store: AsyncRedis, shards: int) -> Sources:
    """Returns where to read figures now. shards: number of shards."""
    as_of = await merged.read_as_of(store) if merged.is_merged(shards) else None
    return Sources(range(shards)) if as_of is None else Sources((GLOBAL,), as_of)

"""Cuts batches of the spool into runs, each of which goes to the sink in one call."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_server.collect.batch import Batch

RUN_BYTES, RUN_BATCHES = 256 << 10, 256
"""Maximum bytes and batches of a run. The batches of a run are sent to the sink in one call."""


def cut(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Cuts batches into runs, within the bounds RUN_BYTES and RUN_BATCHES.

    Sets `after` of each batch to the sequence number of the previous batch in the run that has the same
    producer and shard. Sets it to 0 if no batch of the run precedes it.
    """
    runs: list[list[Batch]] = []
    last: dict[tuple[str, int], int] = {}
    size = 0
    for batch in batches:
        size += len(batch.data)
        if not runs or size > RUN_BYTES or len(runs[-1]) >= RUN_BATCHES:
            runs.append([])
            last.clear()
            size = len(batch.data)
        key = batch.producer, batch.shard
        after = last.get(key, 0)
        runs[-1].append(batch._replace(after=after))
        last[key] = max(after, batch.sequence)
    return runs

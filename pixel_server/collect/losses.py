"""Losses: batches that Redis had acknowledged and then lost, as when a replica is promoted.

Each loss is stored in the store (`px:{all}:losses`) and in `losses.json` in the data directory, so that it is
reported after a restart of either, until `pixel-server losses acknowledge`. A loss is named after the missing
batches, so every process that finds it stores it under the same name; see `loss_storage`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pixel_server.collect.acknowledged import MissingBatches

FORMAT = 1
REPORTED_UNTIL = "acknowledged"
"""A field beside the stored losses: losses found until this time (ms) are not reported any more."""

StoredLosses = dict[str, str]
"""Losses as JSON, by name, and REPORTED_UNTIL. Example of a name: `"01a0...b2:3:391-400"` for batches 391 to
400 of producer `01a0...b2` in shard 3."""


class Loss(NamedTuple):
    """A loss. at: ms at which it was found. hits: at least so many, unless `is_exact`.

    commits: commits of the roll-up by which the shard's counters went back.
    """

    at: int
    shard: int
    batches: int
    hits: int
    is_exact: bool
    commits: int = 0


class LossReport(NamedTuple):
    """The sum of losses that are not acknowledged. since: ms of the first loss. shards: batches by shard."""

    batches: int = 0
    hits: int = 0
    is_exact: bool = True
    since: int | None = None
    shards: Mapping[int, int] = {}
    commits: int = 0

    def describe(self) -> str:
        """Returns one line for the operator."""
        shards = ", ".join(f"{shard}" for shard in sorted(self.shards))
        if not self.batches:
            return (
                f"the counters of shards {shards} went back by {self.commits} commits: Redis came back as it "
                "was before; see `pixel-server losses list`"
            )
        at_least = "" if self.is_exact else "at least "
        hits = f"{at_least}{self.hits} hits" if self.hits else "with an unknown number of hits"
        return (
            f"{self.batches} batches were lost, {hits} (shards {shards}): Redis came back without them; see "
            "`pixel-server losses list`"
        )


def pack_missing(missing: MissingBatches, at: int) -> tuple[str, str]:
    """Returns the name and the stored form of the loss of these batches. at: ms."""
    name = f"{missing.producer}:{missing.shard}:{missing.first}-{missing.last}"
    batches = missing.last - missing.first + 1
    return name, _pack(Loss(at, missing.shard, batches, missing.hits, missing.is_exact))


def pack_fallen_generation(shard: int, before: int, now: int, at: int) -> tuple[str, str]:
    """Returns the name and the stored form of the loss when a shard's generation fell. at: ms.

    The generation fell from `before` to `now`, so the counters went back by their difference.
    """
    return f"turn:{shard}:{now}-{before}", _pack(Loss(at, shard, 0, 0, True, before - now))


def unpack_losses(stored: StoredLosses) -> list[Loss]:
    """Returns the losses that are not acknowledged, oldest first. Leaves out losses that cannot be read."""
    until = reported_until(stored)
    losses = []
    for name, text in stored.items():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if name != REPORTED_UNTIL:
                fields = json.loads(text)
                at, shard, batches, hits = (
                    int(fields[field]) for field in ("at", "shard", "batches", "hits")
                )
                loss = Loss(at, shard, batches, hits, bool(fields["is_exact"]), int(fields.get("commits", 0)))
                if loss.at > until:
                    losses.append(loss)
    return sorted(losses)


def merge(first: StoredLosses, second: StoredLosses) -> StoredLosses:
    """Returns the losses of both, with the later of the two acknowledgements."""
    return {**first, **second, REPORTED_UNTIL: str(max(reported_until(first), reported_until(second)))}


def summarize(losses: Iterable[Loss]) -> LossReport:
    """Returns the sum of losses."""
    shards: dict[int, int] = {}
    batches = hits = commits = 0
    is_exact, since = True, None
    for loss in losses:
        batches += loss.batches
        hits += loss.hits
        commits += loss.commits
        is_exact &= loss.is_exact
        since = loss.at if since is None else min(since, loss.at)
        shards[loss.shard] = shards.get(loss.shard, 0) + loss.batches
    return LossReport(batches, hits, is_exact, since, shards, commits)


def reported_until(stored: StoredLosses) -> int:
    """Returns the time (ms) of the last acknowledgement, 0 if there is none."""
    try:
        return int(stored.get(REPORTED_UNTIL) or 0)
    except ValueError:
        return 0


def found_at(text: str) -> int:
    """Returns when a stored loss was found (ms), 0 if it cannot be read."""
    try:
        return int(json.loads(text)["at"])
    except (ValueError, KeyError, TypeError):
        return 0


def _pack(loss: Loss) -> str:
    return json.dumps({"format": FORMAT, **loss._asdict()})

"""Losses: hits that were answered as recorded and then lost.

Redis may lose batches that it had acknowledged, for example when a replica is promoted. Somebody may remove
files from the spool before Redis has their batches. Each loss is stored in the store (`px:{all}:losses`) and
in `losses.json` in the data directory, so that it is reported until `pixel-server losses acknowledge`, also
after a restart. A loss is named after the missing batches or the removed file, so every process that finds it
stores it under the same name; see `loss_storage`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pixel_server.collect.acknowledged import MissingBatches

FORMAT = 1
BY_REDIS, BY_REMOVAL = "redis", "removed"
"""Causes of a loss: Redis came back without batches or commits; files were removed from the spool."""
ACKNOWLEDGED_AT = "acknowledged"
"""Name of an entry beside the stored losses: the time (ms) of the last acknowledgement. Losses that were
found before are not reported any more."""

_SEE = "see `pixel-server losses list`"

StoredLosses = dict[str, str]
"""Losses as JSON, by name, and ACKNOWLEDGED_AT. The name `"01a0...b2:3:391-400"` means batches 391 to 400
of producer `01a0...b2` in shard 3, `"spool:01a0...b2-00000001.seg"` means a file of the spool, and
`"turn:3:70-75"` means that the generation of shard 3 (see `store.checkpoint`) fell from 75 to 70."""


class Loss(NamedTuple):
    """A loss. at: ms at which it was found. hits: number of lost hits, a lower bound if `is_exact` is false.

    shard: None if the hits are of several shards, as the hits of a file are. commits: number of the roll-up's
    commits by which the shard's counters went back. cause: BY_REDIS or BY_REMOVAL.
    """

    at: int
    shard: int | None
    batches: int
    hits: int
    is_exact: bool
    commits: int = 0
    cause: str = BY_REDIS


class RemovedFile(NamedTuple):
    """A file that somebody removed from the spool, and the number of hits that were lost with it."""

    name: str
    hits: int


class LossReport(NamedTuple):
    """The sum of losses that are not acknowledged. since: ms at which the first of these losses was found.

    batches, hits, commits: numbers that Redis lost. shards: lost batches by shard. removed_hits: number of
    hits that were lost with files of the spool. is_exact: whether `hits` is exact, not a lower bound.
    """

    batches: int = 0
    hits: int = 0
    is_exact: bool = True
    since: int | None = None
    shards: Mapping[int, int] = {}
    commits: int = 0
    removed_hits: int = 0

    def describe(self) -> list[str]:
        """Returns lines for the operator, [] if nothing was lost."""
        lines = []
        shards = ", ".join(f"{shard}" for shard in sorted(self.shards))
        if self.batches:
            at_least = "" if self.is_exact else "at least "
            hits = f"{at_least}{self.hits} hits" if self.hits else "with an unknown number of hits"
            lines.append(
                f"{self.batches} batches were lost, {hits} (shards {shards}): Redis came back without them; "
                f"{_SEE}"
            )
        elif self.commits:
            lines.append(
                f"the counters of shards {shards} went back by {self.commits} commits: Redis came back as it "
                f"was before; {_SEE}"
            )
        if self.removed_hits:
            lines.append(
                f"{self.removed_hits} hits were lost: files were removed from the spool before Redis had "
                f"them; {_SEE}"
            )
        return lines


def pack_missing(missing: MissingBatches, at: int) -> tuple[str, str]:
    """Returns the name and the stored form of the loss of these batches. at: ms."""
    name = f"{missing.producer}:{missing.shard}:{missing.first}-{missing.last}"
    batches = missing.last - missing.first + 1
    return name, _pack(Loss(at, missing.shard, batches, missing.hits, missing.is_exact))


def pack_fallen_generation(shard: int, before: int, after: int, at: int) -> tuple[str, str]:
    """Returns the name and the stored form of the loss when a shard's generation fell. at: ms.

    The generation fell from `before` to `after`, so the counters went back by their difference.
    """
    return f"turn:{shard}:{after}-{before}", _pack(Loss(at, shard, 0, 0, True, before - after))


def pack_removed_file(removed: RemovedFile, at: int) -> tuple[str, str]:
    """Returns the name and the stored form of the loss of a file of the spool. at: ms."""
    return f"spool:{removed.name}", _pack(Loss(at, None, 0, removed.hits, True, cause=BY_REMOVAL))


def unpack_losses(stored: StoredLosses) -> list[Loss]:
    """Returns the losses that are not acknowledged, oldest first. Leaves out losses that cannot be read."""
    acknowledged_ms = acknowledged_at(stored)
    losses = []
    for name, text in stored.items():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if name != ACKNOWLEDGED_AT and (loss := _unpack(json.loads(text))).at > acknowledged_ms:
                losses.append(loss)
    return sorted(losses, key=lambda loss: loss.at)


def merge(first: StoredLosses, second: StoredLosses) -> StoredLosses:
    """Returns the losses of both, with the later of the two acknowledgements."""
    return {**first, **second, ACKNOWLEDGED_AT: str(max(acknowledged_at(first), acknowledged_at(second)))}


def summarize(losses: Iterable[Loss]) -> LossReport:
    """Returns the sum of losses."""
    shards: dict[int, int] = {}
    batches = hits = commits = removed_hits = 0
    is_exact, since = True, None
    for loss in losses:
        since = loss.at if since is None else min(since, loss.at)
        if loss.cause == BY_REMOVAL:
            removed_hits += loss.hits
            continue
        batches += loss.batches
        hits += loss.hits
        commits += loss.commits
        is_exact &= loss.is_exact
        if loss.shard is not None:
            shards[loss.shard] = shards.get(loss.shard, 0) + loss.batches
    return LossReport(batches, hits, is_exact, since, shards, commits, removed_hits)


def acknowledged_at(stored: StoredLosses) -> int:
    """Returns the time (ms) of the last acknowledgement, 0 if there is none."""
    try:
        return int(stored.get(ACKNOWLEDGED_AT) or 0)
    except ValueError:
        return 0


def found_at(text: str) -> int:
    """Returns the ms at which a stored loss was found, 0 if the loss cannot be read."""
    try:
        return int(json.loads(text)["at"])
    except (ValueError, KeyError, TypeError):
        return 0


def _pack(loss: Loss) -> str:
    return json.dumps({"format": FORMAT, **loss._asdict()})


def _unpack(fields: dict[str, Any]) -> Loss:
    """Returns a loss. Raises ValueError, KeyError or TypeError if it cannot be read.

    Earlier versions stored no `commits` and no `cause`.
    """
    return Loss(
        at=int(fields["at"]),
        shard=None if fields["shard"] is None else int(fields["shard"]),
        batches=int(fields["batches"]),
        hits=int(fields["hits"]),
        is_exact=bool(fields["is_exact"]),
        commits=int(fields.get("commits", 0)),
        cause=str(fields.get("cause", BY_REDIS)),
    )

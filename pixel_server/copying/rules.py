"""How a copy treats each kind of key, by the kind's pattern. A test checks that each kind has a rule."""

from __future__ import annotations

from typing import Literal

from pixel_server.store import keys
from pixel_server.store.client import StoreError

Rule = Literal[
    "skip",
    "whole",
    "counts",
    "cells",
    "labels",
    "names",
    "sketch",
    "salt",
    "recipients",
    "letters",
    "producers",
    "newest",
]
"""skip: not copied. whole: as it is; of several shards, their fields and members together. counts: a hash of
numbers, summed. cells, labels, names: packed sums, see `counters.series`, `open_breakdown`, `web_breakdown`.
sketch: a HyperLogLog, united. salt: to each shard that takes visitors of its shard. recipients: a hash by
recipient, each to the recipient's shard. letters: a stream, in the order of the ids. producers: see
`copier`. newest: of the checkpoint only the time of the newest hit, because the target's streams are new."""

_SKIPPED = {
    keys.STORE: "written last",
    keys.WORKERS: "the source's workers",
    keys.HOSTS: "the source's processes",
    keys.CLOCKS: "the source's clock",
    keys.REWRITE: "the source's append-only file",
    keys.SWEEP: "retention begins anew",
    keys.NONE: "never made",
    keys.MERGED: "made again from the shards",
    keys.REPLICATED: "the source's replicas",
    keys.COURIER: "the source's worker",
}
"""Single keys that are not copied, each with the reason."""

_OF_SHARDS: dict[str, Rule] = {
    keys.hits.pattern: "skip",  # all are counted
    keys.lead.pattern: "skip",
    keys.stop.pattern: "skip",
    keys.none.pattern: "skip",
    keys.changed.pattern: "skip",  # the target merges all values anew
    keys.replicated.pattern: "skip",
    keys.producers.pattern: "skip",  # the fence
    keys.moved_producers.pattern: "producers",
    keys.checkpoint.pattern: "newest",
    keys.visits.pattern: "whole",
    keys.visit_times.pattern: "whole",
    keys.visiting.pattern: "counts",
    keys.drops.pattern: "counts",
    keys.dead.pattern: "letters",
    keys.outbox.pattern: "letters",
    keys.evidence.pattern: "recipients",
    keys.salt.pattern: "salt",
    keys.last.pattern: "recipients",
    keys.total.pattern: "counts",
    keys.rules.pattern: "counts",
    keys.breakdown.pattern: "labels",
    keys.months.pattern: "cells",
    keys.addresses.pattern: "sketch",
    keys.visitors.pattern: "sketch",
    keys.daily_visitors.pattern: "sketch",
    keys.web.pattern: "names",
    keys.sample.pattern: "whole",
    keys.buckets.pattern: "cells",
    keys.people.pattern: "recipients",
    keys.listed.pattern: "recipients",
    keys.names.pattern: "recipients",
    keys.deliveries.pattern: "recipients",
    keys.consents.pattern: "recipients",
}


def rule_of_name(name: str) -> Rule:
    """Returns the rule of a key by its name. Raises StoreError if the table does not have the key."""
    kind = keys.kind_of(name)
    if kind is None:
        raise StoreError(f"the store holds {name}, a key of a newer version: update this version")
    if name.startswith("px:{all}:") and not kind.pattern.startswith("px:{all}:"):
        return "skip"  # a value that is merged over all shards
    return rule(kind.pattern)


def rule(pattern: str) -> Rule:
    """Returns the rule of a kind of key. Raises LookupError if it has none."""
    if pattern.startswith("px:{all}:"):
        return "skip" if pattern in _SKIPPED else "whole"
    return _OF_SHARDS[pattern]

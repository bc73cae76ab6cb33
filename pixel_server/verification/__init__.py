"""Verifies a store: reads it and checks what must agree. Writes nothing.

`store_check.verify` reads every key once. `stored_values` checks each key's name and type, and decodes its
values. Then `shard_check` compares what a shard holds of its stream, producers and visits, `campaign_check`
the counts of each campaign, and `merged_check` the values that are merged over all shards.

The store may be in use. A difference that a concurrent change could explain is read again until nothing has
changed meanwhile (`steady`).

Retention and erasure remove values, and leave the totals as they are. So a total may be higher than the
values that are still stored of it, but never lower. `campaign_check` says when both must be equal. After N
erasures in the whole store, a shard of a campaign may lack N recipients before that counts as a fault.
"""

"""Copies a store to another Redis, also to another number of shards. The steps, in order:

1. `fence` closes the source. Web processes notice that its mark has changed: they send hits to their
   spools, and answer pages with 503. Then no batch is accepted any more, not even from a process that
   noticed nothing.
2. The caller counts all hits that are in the streams (`pixel_server.cli.copy`). No worker may run.
3. `copier` clears the target, and copies each key by the rule of its kind (`rules`). If the number of shards
   changes, data of recipients goes to the recipient's shard, and sums go to any shard (`merge`).
4. `copier` writes the target's store record, with the source's mark. Before that, no server uses the target.
   Afterwards servers that know the mark use it, and send it the hits in their spools.

Each step can be repeated. A copy that was killed is run again, and begins with step 1. Until step 4 the copy
can be cancelled (`fence.lift`): then the source is used again.
"""

"""Backups: the store, the spool and the secrets of a data directory in one file.

The file is a tar archive and one more line, see `archive`. It holds the state of one instant, so that no hit
is lost and none is counted twice after a restore. That works as follows:

1. The files of the spool are opened. An open file keeps its content, even if the drain deletes it.
2. Valkey forks (BGSAVE). The fork is the instant of the store.
3. The files of the spool that are new since step 1 are opened, and the length of each file is noted.

A hit that was answered before the instant was in the store at step 2, or in the spool at step 1 or 3. If its
batch was in both, the restored store refuses the repeat: it takes each (producer, shard, sequence) once. If
the batch was in the spool at step 1, and the drain moved it to the store after step 2, the open file still
has it. To the spool and the store a restore looks like a crash at that instant, after which a start finds
both in this state.

Why BGSAVE. A replica's connection would give the same bytes, but while a replica is connected, web processes
wait for it before they answer. The append-only file would hold the addresses of hits that were counted long
ago, until its next rewrite. The snapshot holds what the store holds.

Not in the file: what was lost before (`acknowledged/`), the lock files, and the address of the running `up`.
"""

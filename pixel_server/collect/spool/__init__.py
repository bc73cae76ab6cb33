"""The spool: batches that wait on disk while Redis does not accept them. This is its specification.

Files (directories have mode 0700, files 0600; numbers are big-endian):

    <data>/spool/<writer>.lock              locked (flock) by the writer, or by a process that drains for it
                 <writer>-<8 digits>.seg    a segment; a writer numbers its segments upwards
                 aside/<segment>-<offset>.bad                    damaged bytes, as they were read
                 aside/<producer>-<shard>-<sequence>.batch       the payload of a batch that Redis refused

    segment = head, record...
    head    = "PXSPOOL\\n", u32 format, u64 ms since 1970 at its beginning, u32 checksum of these fields
    record  = marker, u32 length, u32 checksum of the payload, u32 checksum of these fields; payload
    payload = u8 format, u16 shard, u32 hits, u64 sequence, u8 length of producer; producer; batch

Checksums. Every checksum is a CRC-32 whose initial value is the CRC-32 of the segment's name. So bytes inside
a batch cannot pass for a record: a stranger chose some of these bytes, but cannot know the name. Bytes of
another segment cannot pass for a record either. A record's head has a checksum of its own, so that a torn
tail can be told from a damaged length.

Writer. A process becomes a writer when it opens the spool, or at its first append if that is earlier. Before
that, it has no files. A writer's name is made like a producer's id: 12 hex digits of the time in ms, then 16
random digits. An open spool always has an empty segment ready, and its process has file descriptors in
reserve: hits can be appended even when connections have used up all other descriptors. Status and bounds
ignore empty segments. Only its writer writes to a segment, at the end, and a writer has one growing segment
at a time. A sealed segment never grows again. A segment is sealed when it is full (8 MiB), on request, at
close, and after any failure. All records of a producer are in segments of one writer, in the order of their
sequence numbers.

Append. The batches of a group are one write, then one fdatasync, and for a new file an fsync of the
directory. Only then are the batches acknowledged: their hits may be answered 2xx. If any step fails, the
segment is sealed and cut back to its acknowledged bytes (removed, if it has none). Until this cut is on disk,
the spool accepts nothing more, and the writer drains only the acknowledged bytes of this segment. Otherwise a
part of the failed group could be drained. When the group is appended again, batches with lower numbers
than this part would count as repeats and be lost. A writer that dies before the cut may leave in its segment
a group that was never acknowledged. So a group that failed is appended again unchanged or not at all, and its
sequence numbers are never used for other hits. A repeat is harmless, as Redis accepts each (producer, shard,
sequence) once.

Draining. A writer drains its own sealed segments. Any process drains segments of a writer whose lock is
free, and holds that lock meanwhile. So processes that share a directory never drain the same segment. The
holder of a lock removes the lock file if it finds no segments. A process that gets a lock checks that the
lock file still has its name. Segments of a writer are drained in the order of their numbers. A failure stops
the draining of this writer's segments: otherwise a producer's later number would overtake an earlier number.

Deletion. A segment may be deleted when each of its batches is in Redis or in aside/, and all of its damaged
bytes are in aside/, fsynced. Late deletion is harmless: a second draining only repeats batches.

Removal. Somebody may remove or move the directory, or the growing segment, during use. The next append sees
that the file has lost its name. A new writer then makes the spool anew, and appends again the acknowledged
batches of the lost file, before the group in hand. Segments that disappear before they are drained are
reported as losses, also those of a writer that has ended (`losses`).

Torn tail: bytes at the end of a segment that are shorter than a record's head, or a good head whose payload
is cut short. The write was interrupted there, so the record was never acknowledged: it is logged and skipped.
Whole records of the same group, if any, are drained: more hits may be stored than were promised.

Damage: any other bytes that are not a good record. The bytes up to the next good record, or to the end, are
set aside whole, logged and counted; all other records are kept. A damaged head of a segment costs no record.
Blocks that a crash left empty at the end look like damage, too.

Later formats. These never change: the places of magic ("PXSPOOL\\n"), format and checksum, a record's head,
and the first byte of its payload. The formats of segment and payload also rise when `hit.FORMAT` rises. A
segment or record of an unknown format stops the draining of its writer: everything from there on stays, is
reported, and waits for a version that knows the format.

Bounds. The segments of all writers together stay below the limit. Each process measures the segments of other
processes once a second, so the limit can be exceeded by the bytes that they add within that second. The files
in aside/ are not counted. They are kept for the operator as long as dead letters are (`Spool.drop_aside`).
"""

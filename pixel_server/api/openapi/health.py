"""Whether this server is alive, and well."""

from __future__ import annotations

from pixel_server.api.openapi.operation import call, ok
from pixel_server.api.openapi.schema import answer, array, choice, count, instant, or_null, ref, text

PATHS = {
    "/healthz": {
        "get": call(
            "healthz",
            None,
            "Is this process alive",
            (),
            {200: ok("It is.", answer(status={"const": "ok"}))},
        )
    },
    "/readyz": {
        "get": call(
            "readyz",
            None,
            "Is everything behind it well",
            (),
            {
                200: ok("Hits can be stored.", ref("Readiness")),
                503: ok("A hit could be stored nowhere.", ref("Readiness")),
            },
        )
    },
}

SCHEMAS = {
    "Readiness": answer(
        (
            "workers",
            "wrong_clocks",
            "retention_waits",
            "oldest_uncounted_seconds",
            "stream_entries",
            "dead_letters",
            "drops",
            "stopped",
        ),
        status=choice(("ok", "degraded", "failing"), "`failing`: hits are not stored."),
        warnings=array(text("A line for the operator.")),
        recorder=answer(
            failing_since=or_null(instant(""), "Null: it is not failing."),
            pending_bytes=count("Memory held by hits that are not stored yet."),
        ),
        redis=answer(
            ("durability", "eviction", "used_memory", "maxmemory", "full", "error"),
            answers={"type": "boolean"},
            durability=text("What a crash of it may cost."),
            eviction=text("Its `maxmemory-policy`; it should be `noeviction`."),
            used_memory=count("Bytes of memory it uses."),
            maxmemory=count("Bytes it may use; 0: no limit of its own."),
            full=text("How full it is, where too little is free: hits then go to the spool."),
            error=text("Why it does not answer."),
        ),
        spool=answer(
            ("segments", "hits", "bytes", "waiting_since", "set_aside", "trouble"),
            segments=count("Files of hits that wait on disk, for Redis was away."),
            hits=count("Hits in them."),
            bytes=count("Their size."),
            waiting_since=or_null(instant(""), "Since when the oldest waits; null: none does."),
            set_aside=count("Files that cannot be replayed."),
            trouble=text("Why hits could hardly be kept there now; if it cannot be read, nothing else is."),
        ),
        workers=count("Seen within 10 s."),
        wrong_clocks={
            "type": "object",
            "additionalProperties": {
                "type": "integer",
                "description": "Seconds that the clock of a process is ahead of Redis's; below 0: behind.",
            },
        },
        retention_waits={
            "type": "object",
            "additionalProperties": count("What is not removed before `pixel-server retention run --yes`."),
        },
        oldest_uncounted_seconds=or_null({"type": "number"}, "Age of that hit; null: all are counted."),
        stream_entries=count("Batches that wait to be counted."),
        dead_letters=count("Hits set aside because they cannot be read."),
        drops={"type": "object", "additionalProperties": count("Hits not counted, by reason.")},
        stopped={"type": "object", "additionalProperties": text("Why a shard stands still, by shard.")},
    ),
}

"""Health of this server: `/healthz` and `/readyz`."""

from __future__ import annotations

from typing import Any

from pixel_server.api.openapi.operation import ok
from pixel_server.api.openapi.schema import answer, array, mapping, ref
from pixel_server.api.openapi.values import Schema, choice, count, flag, instant_or_null, or_null, text


def _get(name: str, summary: str, responses: dict[str, Any]) -> Schema:
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


PATHS = {
    "/healthz": _get(
        "healthz",
        "Whether this process is alive",
        {"200": ok("The process is alive.", answer(status={"const": "ok"}))},
    ),
    "/readyz": _get(
        "readyz",
        "Whether this process can store hits, and what needs attention",
        {
            "200": ok("Hits can be stored.", ref("Readiness")),
            "503": ok("Hits cannot be stored anywhere.", ref("Readiness")),
        },
    ),
}

SCHEMAS = {
    "Readiness": answer(
        (
            *("workers", "wrong_clocks", "retention_waits", "oldest_uncounted_seconds", "stream_entries"),
            *("dead_letters", "drops", "stopped"),
        ),
        status=choice(("ok", "degraded", "failing"), "`failing`: hits are not stored."),
        warnings=array(text("A line for the operator.")),
        recorder=answer(
            failing_since=instant_or_null("Null if the recorder is not failing."),
            pending_bytes=count("Bytes of memory that hits take which are not stored yet."),
        ),
        redis=answer(
            ("durability", "eviction", "used_memory", "maxmemory", "full", "error"),
            answers=flag("Whether Redis answers."),
            durability=text("What a crash of Redis may cost."),
            eviction=text("Its `maxmemory-policy`; it should be `noeviction`."),
            used_memory=or_null({"type": "integer"}, "Bytes of memory that it uses, if it says so."),
            maxmemory=or_null(
                {"type": "integer"}, "Bytes of memory that it may use. 0 without a limit of its own."
            ),
            full=text("How full it is, if too little is free; hits then go to the spool."),
            error=text("Why it does not answer."),
        ),
        spool=answer(
            ("segments", "hits", "bytes", "waiting_since", "set_aside", "trouble"),
            segments=count("Files of hits that wait on disk because Redis was away."),
            hits=count("Hits in these files."),
            bytes=count("Size of these files."),
            waiting_since=instant_or_null("Time of the oldest hit that waits; null if none waits."),
            set_aside=count("Files that cannot be replayed."),
            trouble=text(
                "Why the spool can hardly take hits now. If it cannot be read, it is the only field."
            ),
        ),
        workers=count("Workers seen within 10 s."),
        wrong_clocks=mapping(
            {"type": "integer", "description": "Seconds ahead of Redis's clock; below 0: behind."},
            "Processes with a wrong clock.",
        ),
        retention_waits=mapping(
            count("Number of entries."), "Data that only `pixel-server retention run --yes` removes, by kind."
        ),
        oldest_uncounted_seconds=or_null(
            {"type": "number"},
            "Seconds since the oldest hit that is not counted came; null if all are counted.",
        ),
        stream_entries=count("Batches of hits that wait to be counted."),
        dead_letters=count("Hits set aside because they cannot be read."),
        drops=mapping(count("Number of hits."), "Hits that were not counted, by reason."),
        stopped=mapping(text("Why the shard stands still."), "Shards that stand still, by number."),
    ),
}

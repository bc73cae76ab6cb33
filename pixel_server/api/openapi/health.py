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
        {
            "200": ok("The process is alive.", answer(status={"const": "ok"})),
            "503": ok(
                "Only with `?stores`: this process can store hits neither in Redis nor in the spool.",
                answer(status={"const": "failing"}, error=text("Why not.")),
            ),
        },
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
            *(
                "rewrite_waits",
                "dead_letters",
                "drops",
                "stopped",
                "store",
                "losses",
                "hosts",
                "host_warnings",
                "webhook_warnings",
                "newest_version",
            ),
        ),
        status=choice(
            ("ok", "degraded", "failing"), "`failing`: hits are not stored. `degraded`: see `warnings`."
        ),
        warnings=array(text("A line for the operator.")),
        recorder=answer(
            failing_since=instant_or_null(
                "Time since which Redis stores no hits; null if Redis stores hits."
            ),
            pending_bytes=count("Bytes of memory that hits take until they are stored."),
            stored=count("Hits that this process stored, in Redis or in the spool."),
            spooled=count("Hits of `stored` that went to the spool."),
            late=count("Hits that were answered 503 before they were stored."),
            refused=count("Hits that were answered 503 because too many hits were waiting."),
            gaps=count("Batches of hits that Redis lost."),
            removed=count("Hits that were lost because somebody removed files from the spool."),
        ),
        redis=answer(
            (
                *("role", "replication", "replicas", "stops_without_replicas"),
                *("durability", "aof", "fsync", "eviction"),
                *("used_memory", "maxmemory", "full", "away", "error"),
            ),
            answers=flag("Whether Redis answers."),
            role=text("`master`, or `slave` for a replica."),
            replication=text("What may be lost if a replica is promoted."),
            replicas=array(
                answer(
                    address=text("Address and port."),
                    state=text("`online` if the replica follows."),
                    lag_seconds=or_null({"type": "integer"}, "Seconds since the replica last answered."),
                )
            ),
            stops_without_replicas=flag(
                "Whether Redis refuses writes while too few replicas follow it (`min-replicas-to-write`)."
            ),
            durability=text("What may be lost if Redis crashes."),
            aof=text("The setting `appendonly` of Redis, or `unknown`."),
            fsync=text("The setting `appendfsync` of Redis, or `unknown`."),
            eviction=text("The `maxmemory-policy` of Redis, which should be `noeviction`."),
            used_memory=or_null({"type": "integer"}, "Bytes of memory that Redis uses; null if not known."),
            maxmemory=or_null(
                {"type": "integer"},
                "Bytes of memory that Redis may use; 0 if no limit is set, null if not known.",
            ),
            full=text(
                "How full Redis is, shown only if too little memory is free. Hits then go to the spool."
            ),
            away=array(
                text("A node and its error."), description="Nodes of a cluster that do not answer, if any."
            ),
            error=text("Why Redis does not answer."),
        ),
        store=answer(
            is_known=flag("Whether the store is the one that this server used before."),
            unreadable_campaigns=array(
                ref("CampaignId"), maxItems=100, description="Campaigns whose records cannot be read."
            ),
            unreadable_withdrawals=count("Withdrawals that cannot be read. They still take effect."),
        ),
        losses=answer(
            batches=count("Batches of hits that Redis had acknowledged and lost."),
            hits=count("Hits in these batches."),
            hits_are_exact=flag("Whether `hits` is exact; otherwise at least `hits` were lost."),
            since=instant_or_null("Time at which the first loss was found; null if nothing was lost."),
            shards=mapping(count("Number of batches."), "Lost batches, by number of the shard."),
            commits=count("Commits of counters that Redis had acknowledged and lost."),
            removed_hits=count("Hits in files that somebody removed from the spool."),
        ),
        network_list_days=mapping(
            count("Age in days."), "Age of each list of networks that its owner publishes, by name."
        ),
        spool=answer(
            ("segments", "hits", "bytes", "waiting_since", "set_aside", "newer_format", "trouble"),
            segments=count("Files of hits that wait on disk because Redis was away."),
            hits=count("Hits in these files."),
            bytes=count("Size of these files."),
            waiting_since=instant_or_null("Time of the oldest hit that waits; null if none waits."),
            set_aside=count("Files of hits that cannot be replayed, set aside."),
            newer_format=count("Files of hits that wait for a newer version of this server."),
            trouble=text(
                "Why the spool can probably not store hits. The only field if the spool cannot be read."
            ),
        ),
        newest_version=or_null(
            text("A version."), "Newest version of this server that has used the store; null if not known."
        ),
        workers=count("Workers that sent a heartbeat within the last 10 s."),
        hosts=array(
            answer(
                id=text("Id of the host's spool."),
                name=text("Name of the host."),
                is_away=flag("Whether the host has stopped, or was not seen for 20 s."),
                seen_seconds_ago={"type": "number", "description": "Seconds since its last sign of life."},
                spool_hits=or_null(
                    {"type": "integer"}, "Hits that waited in its spool then; null if it could not be read."
                ),
            ),
            description="Hosts of web processes with a spool.",
        ),
        host_warnings=array(text("A spool of a host that is away, or a setting that differs.")),
        webhook_warnings=array(text("A webhook that needs attention.")),
        wrong_clocks=mapping(
            {"type": "integer", "description": "Seconds ahead of Redis's clock; negative if behind."},
            "Processes with a wrong clock, by name.",
        ),
        retention_waits=mapping(
            count("Number of entries."), "Data that only `pixel-server retention run --yes` removes, by kind."
        ),
        rewrite_waits=or_null(
            text("Append-only files of Redis."),
            "Files that may still hold removed data, and why they could not be rewritten; or null.",
        ),
        oldest_uncounted_seconds=or_null(
            {"type": "number"},
            "Age in seconds of the oldest hit that is not counted yet; null if all hits are counted.",
        ),
        stream_entries=count("Batches of hits that wait to be counted."),
        dead_letters=count("Hits set aside because they cannot be read."),
        drops=mapping(count("Number of hits."), "Hits that were not counted, by reason."),
        stopped=mapping(
            text("Why its hits are no longer counted."), "Shards whose hits are no longer counted, by number."
        ),
    ),
}

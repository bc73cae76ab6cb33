"""The table of all metrics.

No label takes a value that a stranger or a campaign can multiply: shards, nodes, routes, lists of networks,
endpoints of webhooks and reasons are all bounded.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """A metric. source: numbers of the processes of a host, or of the store, which all hosts share."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    source: Literal["host", "store"]
    help: str
    labels: tuple[str, ...] = ()


_PROCESS, _WEBHOOK = ("process",), ("webhook",)
# fmt: off
TABLE = (
    # Web processes.
    Family("pixel_requests_total", "counter", "host",
        "Requests for pixels, by the outcome in the header X-Pixel.", ("outcome", "reason")),
    Family("pixel_group_commit_seconds", "histogram", "host",
        "Seconds from the departure of a group of hits until it is stored, in Redis or in the spool."),
    Family("pixel_hits_stored_total", "counter", "host", "Hits stored, in Redis or in the spool."),
    Family("pixel_hits_spooled_total", "counter", "host", "Hits stored in the spool."),
    Family("pixel_hits_late_total", "counter", "host", "Hits answered 503 before they were stored."),
    Family("pixel_hits_refused_total", "counter", "host", "Hits answered 503 for lack of memory."),
    Family("pixel_hits_waiting", "gauge", "host", "Hits in memory that are not stored yet."),
    Family("pixel_hits_waiting_bytes", "gauge", "host", "Memory of the hits that are not stored yet."),
    Family("pixel_processes_without_redis", "gauge", "host",
        "Processes whose hits Redis does not store at the moment."),
    Family("pixel_spool_bytes", "gauge", "host", "Bytes of the hits that wait on disk for Redis."),
    Family("pixel_spool_limit_bytes", "gauge", "host", "Bytes that the spool may take (PIXEL_SPOOL_BYTES)."),
    Family("pixel_spool_segments", "gauge", "host", "Files of the spool that wait."),
    Family("pixel_spool_oldest_seconds", "gauge", "host", "Age of the oldest file of the spool, 0 if none."),
    Family("pixel_lost_hits", "gauge", "host",
        "Hits that were answered as recorded and then lost, until `pixel-server losses acknowledge`."),
    Family("pixel_lost_batches", "gauge", "host", "Batches of hits that Redis lost, until acknowledged."),
    Family("pixel_api_seconds", "histogram", "host",
        "Seconds until the answer to a call of the API begins.", ("method", "route")),
    Family("pixel_reported_events_total", "counter", "host",
        "Events that mail services reported, and requests of theirs that were refused.",
        ("provider", "outcome")),
    Family("pixel_network_list_age_seconds", "gauge", "host",
        "Age of a list of networks that its source publishes.", ("list",)),
    # Workers and the schedule.
    Family("pixel_hits_counted_total", "counter", "host", "Hits that the roll-up has counted."),
    Family("pixel_burst_hits_total", "counter", "host", "Hits that were a person's until a burst was seen."),
    Family("pixel_rollup_pass_seconds", "histogram", "host", "Seconds of a pass of the roll-up."),
    Family("pixel_rollup_passes_total", "counter", "host", "Passes of the roll-up.", ("outcome",)),
    Family("pixel_jobs_total", "counter", "host", "Jobs that workers have ended.", ("result",)),
    Family("pixel_schedule_without", "gauge", "host",
        "Schedules to which Redis (store) or the job queue (queue) does not answer.", ("missing",)),
    # The SMTP relay.
    Family("pixel_relay_mails_total", "counter", "host",
        "Mails that the next server took, with or without a pixel, and why without.", ("outcome", "reason")),
    Family("pixel_relay_bytes_total", "counter", "host", "Bytes of the mails that the next server took."),
    Family("pixel_relay_refusals_total", "counter", "host",
        "Commands and mails refused, by the relay itself or by the next server (by).", ("by", "reply")),
    Family("pixel_relay_next_failures_total", "counter", "host",
        "Times that the next server could not be reached, or broke off."),
    Family("pixel_relay_connections", "gauge", "host", "Clients that are connected to the relay."),
    Family("pixel_relay_connections_total", "counter", "host",
        "Connections that the relay has taken, or refused for PIXEL_RELAY_CONNECTIONS.", ("outcome",)),
    # All processes.
    Family("pixel_processes", "gauge", "host", "Running processes.", _PROCESS),
    Family("pixel_process_cpu_seconds_total", "counter", "host", "Processor time.", _PROCESS),
    Family("pixel_process_resident_memory_bytes", "gauge", "host", "Resident memory.", _PROCESS),
    Family("pixel_process_open_fds", "gauge", "host", "Open file descriptors.", _PROCESS),
    Family("pixel_build_info", "gauge", "host", "Version of this server.", ("version", "python")),
    # The store. Every host shows the same.
    Family("pixel_store_info", "gauge", "store",
        "Format of the store, and newest version of this server that has used it.", ("format", "version")),
    Family("pixel_redis_up", "gauge", "store", "Whether Redis answers, by node.", ("node",)),
    Family("pixel_redis_memory_bytes", "gauge", "store", "Memory that Redis uses.", ("node",)),
    Family("pixel_redis_memory_limit_bytes", "gauge", "store", "maxmemory of Redis, 0 if unset.", ("node",)),
    Family("pixel_backlog_oldest_seconds", "gauge", "store",
        "Age of the oldest hit that is not counted, 0 if all are counted.", ("shard",)),
    Family("pixel_backlog_entries", "gauge", "store", "Entries that are not counted.", ("shard",)),
    Family("pixel_shard_stopped", "gauge", "store", "1 if the shard stands still.", ("shard",)),
    Family("pixel_dead_letters", "gauge", "store", "Hits set aside because they cannot be read."),
    Family("pixel_hits_dropped_total", "counter", "store", "Hits not counted, by reason.", ("reason",)),
    Family("pixel_workers", "gauge", "store", "Workers with a heartbeat in the last 10 seconds."),
    Family("pixel_campaigns", "gauge", "store", "Campaigns."),
    Family("pixel_withdrawals", "gauge", "store", "Recipients who have withdrawn, now or earlier."),
    Family("pixel_webhook_outbox_entries", "gauge", "store",
        "Events of webhooks that are in no queue yet.", ("shard",)),
    Family("pixel_webhook_waiting", "gauge", "store", "Requests that wait for a webhook.", _WEBHOOK),
    Family("pixel_webhook_aside", "gauge", "store",
        "Requests set aside, because no try of a day succeeded.", _WEBHOOK),
    Family("pixel_webhook_late_seconds", "gauge", "store",
        "Seconds by which the first request is late, 0 if none is late.", _WEBHOOK),
    Family("pixel_webhook_failing_seconds", "gauge", "store",
        "Seconds for which a webhook has failed, 0 if the last try succeeded.", _WEBHOOK),
    Family("pixel_webhook_events_sent_total", "counter", "store", "Events delivered.", _WEBHOOK),
    Family("pixel_webhook_tries_failed_total", "counter", "store", "Tries that failed.", _WEBHOOK),
    Family("pixel_webhook_events_dropped_total", "counter", "store",
        "Events dropped because too many waited.", _WEBHOOK),
)
# fmt: on

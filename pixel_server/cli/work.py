"""`pixel-server work`"""

from __future__ import annotations

import os
import socket

import click

from pixel_server import lifeline, logs
from pixel_server.commands.metrics_option import metrics_option
from pixel_server.commands.startup import check_startup, log_start, warn_of_unknown_settings
from pixel_server.metrics.process_file import Publisher
from pixel_server.run import uvicorn_parts
from pixel_server.run.supervisor import Child, keep_running
from pixel_server.settings import Settings
from workers.schedule import Schedule
from workers.worker import run_worker


@click.command()
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Number of worker processes.",
)
@metrics_option
@click.option("--metrics-handle", type=int, hidden=True, help="File descriptor of the socket of --metrics.")
@click.option("--one", "is_single", is_flag=True, hidden=True, help="Run one worker in this process.")
def work(
    processes: int, metrics: tuple[str, int] | None, metrics_handle: int | None, is_single: bool
) -> None:
    """Run the workers, which count hits, and their schedule."""
    logs.set_process("worker" if is_single else "schedule")
    is_child = lifeline.hold()
    if metrics or metrics_handle:
        uvicorn_parts.check()
    if metrics_handle is not None:
        logs.set_process("metrics")
        _answer_metrics(metrics_handle)
        return
    settings = Settings.from_env()
    if is_single:
        run_worker(settings)
        return
    if not is_child:
        warn_of_unknown_settings()
    check_startup()
    children = [Child(f"worker {i + 1}", ["work", "--one"], os.environ) for i in range(processes)]
    if metrics is not None:
        from pixel_server.run import metrics_process  # noqa: PLC0415 - only after `uvicorn_parts.check`

        children.append(metrics_process.metrics_child(*metrics))
    if not is_child:
        log_start(f"workers ({processes})", settings)
    schedule = Schedule(settings)
    publisher = Publisher(settings.data, schedule.gather)
    publisher.start_thread()
    keep_running(children, settings.hang_seconds, schedule.tick)
    publisher.close()


def _answer_metrics(handle: int) -> None:
    """Answers `/metrics` until SIGTERM. handle: file descriptor of the listening socket."""
    from pixel_server.run import web_process  # noqa: PLC0415

    web_process.serve(socket.socket(fileno=handle), web_process.PLAIN_PROTOCOL, web_process.METRICS_APP)

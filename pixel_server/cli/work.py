"""`pixel-server work`"""

from __future__ import annotations

import os

import click

from pixel_server import lifeline, logs
from pixel_server.commands.startup import check_startup, log_start, warn_of_unknown_settings
from pixel_server.metrics.process_file import Publisher
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
@click.option("--one", "is_single", is_flag=True, hidden=True, help="Run one worker in this process.")
def work(processes: int, is_single: bool) -> None:
    """Run the workers, which count hits, and their schedule."""
    logs.set_process("worker" if is_single else "schedule")
    is_child = lifeline.hold()
    settings = Settings.from_env()
    if is_single:
        run_worker(settings)
        return
    if not is_child:
        warn_of_unknown_settings()
    check_startup()
    if not is_child:
        log_start(f"workers ({processes})", settings)
    schedule = Schedule(settings)
    publisher = Publisher(settings.data, schedule.gather)
    publisher.start_thread()
    workers = [Child(f"worker {i + 1}", ["work", "--one"], os.environ) for i in range(processes)]
    keep_running(workers, settings.hang_seconds, schedule.tick)
    publisher.close()

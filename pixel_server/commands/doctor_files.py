"""The checks of `doctor` of files: lists of networks, rules, the spool, the disk, secrets, the backup."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pixel_server.api.network_health import MAX_AGE_DAYS
from pixel_server.backups.record import read_record
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.networks import NetworkList, NetworksError, list_names, load_networks
from pixel_server.classify.rule_file import RulesError
from pixel_server.classify.rules import load_rules
from pixel_server.collect.spool.status import NEWER_TEXT, find_trouble, read_status
from pixel_server.commands.findings import Finding, counted
from pixel_server.run.up_state import FILE as UP_STATE
from pixel_server.secret import FILE as SECRETS
from pixel_server.settings import Settings
from pixel_server.times import DAY

AOF_DAYS = 7
"""Days for which the disk should have room for what is written to the append-only file."""
_MIN_RATE_SECONDS = 600.0
"""Seconds to which writes are related at least: right after a rewrite, a burst would look like the rule."""


def networks(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks the age of each list of networks, and that each file has the name of a list."""
    directory = settings.networks_directory
    for path in sorted(directory.glob("*.txt")):
        if path.stem not in list_names():
            yield Finding("networks", path.stem, "problem", f"{path} is not read: no list has this name")
    try:
        lists = load_networks(settings).lists
    except NetworksError as error:
        yield Finding("networks", "lists", "problem", str(error))
        return
    for network_list in lists:
        days = network_list.age_days(today)
        age = f"{counted(network_list.ranges, 'range')} of {network_list.date}, {counted(days, 'day')} old"
        refresh = f"run `pixel-server networks refresh {network_list.name}`"
        if network_list.name not in PUBLISHED:
            yield Finding("networks", network_list.name, "ok", age)
        elif network_list.owner == "operator" and (days > MAX_AGE_DAYS or _was_fetched(network_list)):
            own = directory / f"{network_list.name}.txt"
            text = f"{age}; it is your own list: update {own}, or remove it to use the refreshed list"
            yield Finding("networks", network_list.name, "advice", text)
        elif not network_list.ranges:
            yield Finding("networks", network_list.name, "advice", f"empty; {refresh}")
        elif days > MAX_AGE_DAYS:
            yield Finding("networks", network_list.name, "advice", f"{age}; {refresh}")
        else:
            yield Finding("networks", network_list.name, "ok", age)


def _was_fetched(own: NetworkList) -> bool:
    """Returns whether `networks refresh` of an earlier version fetched this list.

    That version stored the lists that it fetched as the operator's own.
    """
    return own.source.removesuffix(" (from a file)") in (
        "https://mask-api.icloud.com/egress-ip-ranges.csv",
        "https://developers.google.com/static/search/apis/ipranges/",
    )


def aof(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the disk of the bundled Valkey has room for what is written in AOF_DAYS at today's rate.

    Today's rate is that since the last rewrite of the append-only file. Rewrites shorten the file, but they
    fail while the disk is full.
    """
    directory = settings.data / "valkey" / "appendonlydir"
    bases = [path.stat().st_mtime for path in directory.glob("*.base.*")]
    if not bases:  # another Redis, or Valkey has not started yet
        return
    written = sum(path.stat().st_size for path in directory.glob("*.incr.*"))
    rate = written / max(time.time() - max(bases), _MIN_RATE_SECONDS)
    needed, free = int(rate * AOF_DAYS * DAY), shutil.disk_usage(directory).free
    text = (
        f"{free >> 20:,} MB are free in {directory}; {needed >> 20:,} MB are written to the append-only file "
        f"in {AOF_DAYS} days at today's rate"
    )
    if free >= needed:
        yield Finding("disk", "aof", "ok", text)
    else:
        yield Finding("disk", "aof", "advice", f"{text}: make room in case it cannot be rewritten")


def readable_secrets(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that only this user can read the files with secrets: of the server, of `up`, the last backup."""
    last = read_record(settings.data)
    names = {"server": settings.data / SECRETS, "up": settings.data / UP_STATE}
    for thing, path in {**names, **({"backup": Path(last.file)} if last else {})}.items():
        if not path.exists():
            continue
        mode, mend = path.stat().st_mode, f"run `chmod 600 {path}`"
        if mode & stat.S_IRWXO:
            text = f"the mode of {path} lets every user read it: {mend}"
            yield Finding("secrets", thing, "problem", text)
        elif mode & stat.S_IRWXG:
            text = f"the mode of {path} lets its group read it: {mend}, unless the group is the server's own"
            yield Finding("secrets", thing, "advice", text)
        else:
            yield Finding("secrets", thing, "ok", f"only its owner can read {path}")


def backup(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that a backup of the data directory was made."""
    if not any((settings.data / name).exists() for name in (SECRETS, "valkey")):
        return
    last = read_record(settings.data)
    if last is None:
        yield Finding("backup", "last", "advice", "none was made yet: run `pixel-server backup FILE`")
    else:
        yield Finding("backup", "last", "ok", f"{last.at}, in {last.file}")


def rules(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the rules can be read."""
    try:
        yield Finding("rules", "rules", "ok", f"{load_rules(settings.rules_file).ruleset}")
    except RulesError as error:
        yield Finding("rules", "rules", "problem", str(error))


def spool(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that hits can be stored on disk while Redis is away, and that no file was set aside."""
    if not settings.spool_bytes:
        yield Finding("spool", "disk", "advice", "PIXEL_SPOOL_BYTES=0: while Redis is away, hits are lost")
        return
    if trouble := find_trouble(settings.data / "spool"):
        yield Finding("spool", "disk", "problem", f"{trouble}: while Redis is away, hits may be lost")
        return
    status = read_status(settings.data / "spool")
    yield Finding("spool", "disk", "ok", f"{counted(status.hits, 'hit')} waiting for Redis")
    if status.aside:
        where = settings.data / "spool" / "aside"
        yield Finding("spool", "aside", "problem", f"{counted(status.aside, 'file')} set aside in {where}")
    if status.newer:
        yield Finding("spool", "format", "problem", f"{counted(status.newer, 'file')} {NEWER_TEXT}")

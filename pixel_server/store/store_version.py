"""The format of a store, and the newest version of this server that has used it.

Each packed value and each batch has a format of its own, and is read in all its earlier formats. The format
of the store is raised only for a change that this cannot express, such as another layout of keys; see
`migration`. The version is only for messages: it names what an operator must start if this version meets
something that it cannot read.
"""

from __future__ import annotations

import re

from pixel_server import __version__

FORMAT = 1
"""Format of a store that this version writes. It migrates a store of an earlier format at its start."""
VERSION_FIELD = "version"
"""Field of the store's record: the newest version of this server that has used the store."""


def newer_version(stored: str) -> str:
    """Returns the stored version if it is newer than this version, otherwise ""."""
    return stored if _numbers(stored) > _numbers(__version__) else ""


def is_newer_format(stored: str) -> bool:
    """Returns whether a store of this format needs a newer version of this server."""
    return stored.isdigit() and int(stored) > FORMAT


def describe_newer_format(stored: str, version: str) -> str:
    """Returns one line for the operator on a store of a newer format. version: "" if it is not known."""
    return (
        f"the store has format {stored}, and this version ({__version__}) reads format {FORMAT}: hits go to "
        f"the spool and nothing is counted until you start {version or 'the version that wrote it'} or newer "
        "here"
    )


def describe_needed_version(stored: str) -> str:
    """Returns what a worker needs that cannot read what it met. stored: the store's version, "" if none."""
    if version := newer_version(stored):
        return f"version {version} has used this store: start workers of {version} or newer"
    return "written by a newer version: update the workers"


def _numbers(version: str) -> list[int]:
    """Returns the numbers of a version: `[1, 10, 0]` of `1.10.0`."""
    return [int(number) for number in re.findall(r"\d+", version)]

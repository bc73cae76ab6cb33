"""The refused form of a campaign's page, which shows it again beside the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pixel_server.problems import Problem


class Refused(NamedTuple):
    """The refused form: that of a note, or that of the range and the filters. Empty if nothing was refused.

    note, problem: the fields of a note's form, and the reason. note_id: the note that it changes, or "" if it
    adds one. range_errors, submitted: the messages on a range or filter, and the form's fields as sent.
    """

    note: Mapping[str, str] | None = None
    problem: Problem | None = None
    note_id: str = ""
    range_errors: Sequence[str] = ()
    submitted: Mapping[str, str] = {}


NOTHING_REFUSED = Refused()

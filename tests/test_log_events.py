"""Each line of the log has the name of an event, and docs/logs.md lists the events."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from pixel_server.logs import HEAD
from tests import log_events

HOW_TO_LOG = """

How to write a line of the log:

    from pixel_server.logs import Log

    log = Log(__name__)

    log.warning("redis-away", "Redis does not answer: %(error)s", error=error)

The name of the event is new and in kebab-case, and the sentence is one literal text. Give an exception itself
(`error=error`), never its text, and no address, user agent, token or key. `exc=error` adds the traceback.
An exception class whose text is for the operator, and quotes nothing, has `is_loggable = True`.
Then run `python -m tests.log_events`, which updates the table in docs/logs.md."""


@pytest.fixture(scope="module")
def calls() -> list[log_events.LogCall]:
    """Returns all calls of `log`."""
    return log_events.all_calls()


def faults(call: log_events.LogCall) -> list[str]:
    """Returns what is wrong with a call."""
    if call.level not in log_events.LEVELS:
        return [f"use log.error(..., exc=error) in place of log.{call.level}"]
    if call.event is None or call.sentence is None:
        return ["event and sentence must be literal texts, and all else fields by name"]
    found = []
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", call.event):
        found.append("the event must be in kebab-case")
    if taken := call.fields & {*HEAD, "exception", "traceback", "logger", "left_out"}:
        found.append(f"a field cannot be called {', '.join(taken)}")
    named = set(re.findall(r"%\((\w+)\)", call.sentence))
    if missing := named - call.fields:
        found.append(f"the sentence has no field {', '.join(missing)}")
    if call.fields:
        try:
            call.sentence % dict.fromkeys(named, 1)
        except (TypeError, ValueError) as error:
            found.append(f"the sentence cannot be filled in: {error}")
    return found


def test_log_calls_have_an_event_a_sentence_and_fields(calls: list[log_events.LogCall]):
    assert len(calls) > 100
    found = [f"{call.place}: {fault}" for call in calls for fault in faults(call)]
    assert not found, "\n".join(found) + HOW_TO_LOG


def test_log_events_each_has_one_sentence(calls: list[log_events.LogCall]):
    by_event = defaultdict(set)
    for call in calls:
        by_event[call.event].add((call.level, call.sentence))
    assert [event for event, meanings in by_event.items() if len(meanings) > 1] == [], HOW_TO_LOG


def test_log_modules_none_but_logs_uses_logging_itself():
    own = log_events.ROOT / "pixel_server" / "logs.py"
    users = [
        str(path.relative_to(log_events.ROOT))
        for path in log_events.sources()
        if path != own and re.search(r"^\s*(import|from) logging\b", path.read_text(), re.MULTILINE)
    ]
    assert users == [], HOW_TO_LOG


def test_log_events_are_the_table_of_the_documents(calls: list[log_events.LogCall]):
    text = log_events.DOCS.read_text()
    assert text == log_events.replace_table(text, log_events.table(calls)), HOW_TO_LOG


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('log.error("redis-away: %s", error)', "literal"),
        ('log.exception("redis-away", "Redis is away")', "exc=error"),
        ('log.error(f"{name}-away", "Redis is away")', "literal"),
        ('log.error("Redis away", "Redis is away")', "kebab-case"),
        ('log.error("redis-away", "away: %(error)s")', "no field error"),
        ('log.error("redis-full", "98 % full: %(error)s", error=error)', "filled in"),
        ('log.error("redis-full", "full", event=1)', "called event"),
    ],
)
def test_log_call_wrong_is_seen(source: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_events, "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(source)
    [call] = log_events.calls_in(tmp_path / "module.py")
    assert fault in " ".join(faults(call))

"""Short runs of `make chaos`, by fixed seeds."""

from __future__ import annotations

from tests.chaos import cluster, senders
from tests.chaos.story import run


def test_story_everything_killed_loses_and_doubles_no_hit():
    result = run(seed=20, kills=12)
    assert not result.failed, result.table()
    assert result.answered > 100, result.table()
    assert result.answered <= result.counted <= result.sent, result.table()


def test_cluster_parts_fail_in_turn_loses_and_doubles_no_hit():
    """This seed kills a primary, cuts a host off, moves shards in both ways, and loses a host."""
    result = cluster.run(seed=68, failures=4)
    assert not result.failed, result.table()
    assert 100 < result.answered <= result.counted <= result.sent, result.table()


def test_senders_relay_and_workers_killed_loses_no_mail_and_doubles_no_event():
    """This seed kills the relay and the workers."""
    result = senders.run(seed=138, kills=4, mails=60)
    assert not result.failed, result.table()
    assert result.events["workers killed while they send"], result.table()
    assert result.events["relay killed at a step of a mail"], result.table()

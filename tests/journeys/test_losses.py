"""Losses: hits that Redis acknowledged and lost are reported with their number, also after a restart."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager

import pytest

from pixel_server.collect import loss_watch
from pixel_server.collect.acknowledged import AcknowledgedFiles
from pixel_server.collect.spool.status import read_status
from pixel_server.store import keys, producer
from tests.journeys.test_emptied_store import ask, run_command, serving, warnings
from tests.stack import until


def set_back(client, shards, batches):
    """Removes the last batches of each producer, as if a replica without them was promoted."""
    for shard in range(shards):
        for name, value in client.hgetall(keys.producers(shard)).items():
            if name != b"mark":
                sequence, at = value.split()
                client.hset(keys.producers(shard), name, b"%d %b" % (int(sequence) - batches, at))


def test_losses_while_web_is_down_are_reported_at_its_start(settings, secrets, client):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(3)] == ["recorded"] * 3
    set_back(client, settings.shards, 2)
    for _ in range(2):
        with serving(settings, secrets) as web:
            until(lambda: "2 batches were lost, 2 hits" in warnings(web))
            losses = web.get("/readyz").json()["losses"]
            assert (losses["batches"], losses["hits"], losses["hits_are_exact"]) == (2, 2, True)
            until(lambda: client.hlen(keys.LOSSES) == 1)
    client.delete(keys.LOSSES)
    with serving(settings, secrets) as web:
        until(lambda: "2 batches were lost, 2 hits" in warnings(web))
    (settings.data / "losses.json").unlink()
    with serving(settings, secrets) as web:
        until(lambda: "2 batches were lost, 2 hits" in warnings(web))


def test_losses_under_live_web_without_hits_are_reported(settings, secrets, client):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(3)] == ["recorded"] * 3
        set_back(client, settings.shards, 1)
        until(lambda: "1 batches were lost, 1 hits" in warnings(web))


def test_losses_of_another_process_that_runs_are_left_to_it(settings, secrets, client, monkeypatch):
    """It may still send the missing batches again, because it keeps them in a tail of its own."""
    monkeypatch.setattr(loss_watch, "ALL_FILES_EVERY", 2)
    looks, has_running_owner = [], AcknowledgedFiles.has_running_owner
    monkeypatch.setattr(
        AcknowledgedFiles,
        "has_running_owner",
        lambda files, producer: looks.append(producer) or has_running_owner(files, producer),
    )
    other, id_of_other = AcknowledgedFiles(settings.data, settings.shards), producer.new_id(time.time())
    other.note([(id_of_other, 0, 1, 7)])
    with serving(settings, secrets) as web:
        until(lambda: looks == [id_of_other])
        assert web.get("/readyz").json()["losses"]["batches"] == 0
        other.close([])
        until(lambda: "1 batches were lost, 7 hits" in warnings(web))


def test_losses_counters_that_went_back_are_reported(settings, secrets, client, count):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(2)] == ["recorded"] * 2
        count()
        generations = settings.data / "acknowledged" / "turns.json"
        until(lambda: generations.exists() and any(json.loads(generations.read_bytes())["turns"]))
    for shard in range(settings.shards):
        if client.exists(keys.checkpoint(shard)):
            client.hset(keys.checkpoint(shard), "n", 0)
    with serving(settings, secrets) as web:
        until(lambda: "went back by 1 commits" in warnings(web))


@contextmanager
def emptied(client):
    """Empties the store, so that hits go to the spool. Puts the data back at the end."""
    kept = {key: client.dump(key) for key in client.scan_iter("px:*")}
    client.flushall()
    yield
    for key, value in kept.items():
        client.restore(key, 0, value)


def all_are_sealed(spool, hits):
    """Returns whether so many hits wait in the spool, and none of them in a growing segment."""
    newest = {path.name.partition("-")[0]: path for path in sorted(spool.glob("*.seg"))}
    return not any(path.stat().st_size for path in newest.values()) and read_status(spool).hits == hits


@pytest.mark.parametrize("what", ["directory", "files"])
def test_losses_files_removed_from_spool_are_reported_until_acknowledged(
    settings, secrets, client, monkeypatch, what
):
    lost = "1 hits were lost: files were removed from the spool"
    spool = settings.data / "spool"
    with serving(settings, secrets) as web, serving(settings, secrets) as other:
        assert ask(web, secrets, "mail", "ada") == "recorded"
        with emptied(client):
            # A second hit would stay in the growing segment if the drain has sealed the first already.
            assert ask(web, secrets, "mail", "ada") == "recorded"
            until(lambda: all_are_sealed(spool, 1))
            if what == "directory":
                # renamed first: a process may make a lock file while its directory is being emptied
                shutil.rmtree(spool.rename(settings.data / "removed"))
            else:
                for segment in spool.glob("*.seg"):
                    if segment.stat().st_size:
                        segment.unlink()
            until(lambda: lost in warnings(web))
        until(lambda: lost in warnings(other))  # by way of the store
        assert web.get("/readyz").json()["losses"]["removed_hits"] == 1
        names = client.hkeys(keys.LOSSES)
    for _ in range(2):
        with serving(settings, secrets) as web:
            until(lambda: lost in warnings(web))
    client.delete(keys.LOSSES)
    with serving(settings, secrets) as web:
        until(lambda: client.hkeys(keys.LOSSES) == names)
    (settings.data / "losses.json").unlink()
    with serving(settings, secrets) as web:
        until(lambda: lost in warnings(web))
        for name, value in (
            ("REDIS_URL", settings.redis_url),
            ("PIXEL_DATA_DIR", str(settings.data)),
            ("PIXEL_SECRET", "signing-key-of-the-tests"),
            ("PIXEL_RECIPIENT_SECRET", "recipient-secret-of-the-tests"),
        ):
            monkeypatch.setenv(name, value)
        assert "hits, with a file that was removed" in run_command("losses", "list").output
        assert lost in run_command("doctor").output
        assert run_command("losses", "acknowledge").exit_code == 0
        until(lambda: lost not in warnings(web))
    with serving(settings, secrets) as web:
        assert lost not in warnings(web)


def test_losses_data_directory_not_writable_are_stored_in_the_store(settings, secrets, client):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(3)] == ["recorded"] * 3
        until(lambda: list((settings.data / "acknowledged").glob("*.ack")))
        (settings.data / "losses.json.lock").mkdir()
        set_back(client, settings.shards, 1)
        until(lambda: client.hlen(keys.LOSSES) == 1)
        assert "1 batches were lost, 1 hits" in warnings(web)
    (settings.data / "losses.json.lock").rmdir()
    with serving(settings, secrets) as web:
        until(lambda: "1 batches were lost, 1 hits" in warnings(web))

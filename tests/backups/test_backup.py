"""`pixel-server backup` and `restore`: one instant, whole or not at all, bad files refused in one line."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from pixel_server import hit
from pixel_server.backups import archive
from pixel_server.backups.spool_files import SpoolFiles
from pixel_server.cli import main
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.spool import Spool
from pixel_server.counters import recipient_record
from pixel_server.hit import Hit
from pixel_server.mail.links import Minter
from pixel_server.run.up_state import RESTORING
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.store import keys, producer
from pixel_server.store.client import connect
from pixel_server.store.shards import shard_of
from pixel_server.tokens import verify
from tests.chaos.ledger import CAMPAIGN, SHARDS, Ledger
from tests.stack import PROGRAM, Stack, until


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Returns a backup of a server whose Redis is its operator's own: it has secrets, a mark and a spool."""
    home = Path(tempfile.mkdtemp(prefix="px-"))
    data = home / "data"
    Secrets.load_or_create(data)
    with_spool(data, [hit.encode(Hit(1, "news", hit.EMAIL, "GET"))])
    done = run("backup", home / "made", PIXEL_DATA_DIR=data, REDIS_URL="redis://127.0.0.1:1/0")
    assert done.exit_code == 0, done.output
    yield home / "made"
    shutil.rmtree(home)


def run(*arguments: object, **environ: object):
    return CliRunner().invoke(
        main, [str(word) for word in arguments], env={k: str(v) for k, v in environ.items()}
    )


def with_spool(data: Path, hits: list[bytes], shard: int = 0) -> Batch:
    """Writes a batch to the spool of a data directory, as a web process that is killed then."""
    batch = Batch(shard, producer.new_id(1_790_000_000), 1, hit.encode_batch(hits))
    spool = Spool(data / "spool", 1 << 24)
    spool.append([batch])
    spool.close()
    return batch


def one_line(done) -> str:
    """Returns the only line of a command that failed."""
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


def test_backup_without_own_valkey_has_all_but_the_store_and_says_so(made, tmp_path):
    done = run(
        "backup", tmp_path / "again", PIXEL_DATA_DIR=made.parent / "data", REDIS_URL="redis://127.0.0.1:1/0"
    )
    assert "the store is not in the file: it is in a Redis of your own" in done.stdout
    assert stat.S_IMODE((tmp_path / "again").stat().st_mode) == 0o600
    assert run("restore", made, "--data", tmp_path / "new").exit_code == 0
    assert Secrets.load(tmp_path / "new") == Secrets.load(made.parent / "data")
    assert stat.S_IMODE((tmp_path / "new" / "secrets.json").stat().st_mode) == 0o600
    [segment] = (tmp_path / "new" / "spool").glob("*.seg")
    assert segment.read_bytes() == (made.parent / "data" / "spool" / segment.name).read_bytes()


def test_backup_file_cut_or_flipped_anywhere_is_refused(made, tmp_path):
    content, draw, bad = made.read_bytes(), random.Random(1), tmp_path / "bad"
    for size in [0, 1, 511, len(content) - 1, *(draw.randrange(len(content)) for _ in range(20))]:
        bad.write_bytes(content[:size])
        assert "is not a whole backup: it was cut, or is another file" in one_line(
            run("backup", "--verify", bad)
        )
    for _ in range(40):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        bad.write_bytes(flipped)
        line = one_line(run("restore", bad, "--data", tmp_path / "new"))
        assert "damaged" in line or "not a whole backup" in line or "newer version" in line
        assert not (tmp_path / "new").exists()


def test_backup_file_of_a_newer_version_is_refused(made, tmp_path, monkeypatch):
    manifest = archive.check(made)
    for name, newer in {"FORMAT": archive.FORMAT + 1, "store": 2}.items():
        with monkeypatch.context() as patch, (tmp_path / name).open("wb") as file:
            if name == "FORMAT":
                patch.setattr(archive, name, newer)
            else:
                manifest = archive.Manifest(**{**as_dict(manifest), "store_format": newer})
            archive.Writer(file, manifest).finish()
        line = one_line(run("restore", tmp_path / name, "--data", tmp_path / "new"))
        assert "a newer version (format 2, this one reads 1)" in line
    assert not (tmp_path / "new").exists()


def as_dict(manifest: archive.Manifest) -> dict[str, object]:
    return {name: getattr(manifest, name) for name in manifest.__slots__}


def test_restore_with_other_secrets_or_into_a_used_directory_is_refused(made, tmp_path):
    other = {"PIXEL_RECIPIENT_SECRET": "another-recipient-secret"}
    line = one_line(run("restore", made, "--data", tmp_path / "new", **other))
    assert "was made with other secrets than PIXEL_SECRET and PIXEL_RECIPIENT_SECRET" in line
    assert not (tmp_path / "new").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("kept")
    assert "used is not empty; nothing was changed" in one_line(
        run("restore", made, "--data", tmp_path / "used")
    )
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_backup_and_restore_full_disk_leave_nothing(made, tmp_path):
    environ = {
        **os.environ,
        "PIXEL_DATA_DIR": str(made.parent / "data"),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    for words in (
        ["backup", str(tmp_path / "file")],
        ["restore", str(made), "--data", str(tmp_path / "new")],
    ):
        done = subprocess.run(
            [PROGRAM, *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "File too large" in line
        assert list(tmp_path.iterdir()) == []


def test_backup_valkey_cannot_write_its_snapshot_leaves_nothing(tmp_path):
    home = Path(tempfile.mkdtemp(prefix="px-"))
    valkey = Valkey(home)
    valkey.start()
    valkey.wait_ready()
    try:
        Secrets.load_or_create(home)
        (home / "valkey" / "dump.rdb" / "in-the-way").mkdir(parents=True)
        line = one_line(run("backup", tmp_path / "file", PIXEL_DATA_DIR=home))
        assert "Valkey cannot write its snapshot" in line
        assert list(tmp_path.iterdir()) == []
        shutil.rmtree(home / "valkey" / "dump.rdb")
        assert run("backup", tmp_path / "file", PIXEL_DATA_DIR=home).exit_code == 0
        store = archive.check(tmp_path / "file")
        assert (store.has_store, store.counts["campaigns"]) == (True, 0)
    finally:
        valkey.stop()
        valkey.wait(60)
        shutil.rmtree(home)


def test_backup_and_restore_killed_anywhere_leave_nothing_that_looks_whole(made, tmp_path, monkeypatch):
    for words in (("backup", tmp_path / "file"), ("restore", made, "--data", tmp_path / "new")):
        finished = 0
        for step in range(1, 40):
            status = killed_at(step, words, made.parent / "data", monkeypatch)
            is_whole = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
            if words[0] == "backup":
                # The note of the last backup is written afterwards, so the file may be whole already.
                assert (
                    not (tmp_path / "file").exists()
                    or run("backup", "--verify", tmp_path / "file").exit_code == 0
                )
                (tmp_path / "file").unlink(missing_ok=True)
            elif not is_whole and (tmp_path / "new").exists() and any((tmp_path / "new").iterdir()):
                is_unfinished = (tmp_path / "new" / RESTORING).exists()
                assert is_unfinished or (tmp_path / "new" / "secrets.json").exists()
                if is_unfinished:
                    line = one_line(run("up", "--port", "0", "--data", tmp_path / "new"))
                    assert "was not finished: remove everything in it" in line
                    assert "not finished" in one_line(run("restore", made, "--data", tmp_path / "new"))
            shutil.rmtree(tmp_path / "new", ignore_errors=True)
            finished += is_whole
            if is_whole:
                break
        assert finished == 1
        assert step > 3
    leftovers = [path.name for path in tmp_path.iterdir()]
    assert leftovers == [], "the next backup removes the drafts of those that were killed"


def killed_at(step: int, words: tuple[object, ...], data: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a command in a process that dies at its n-th sync, rename or new directory. Returns its status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    count = 0

    def dying(function):
        def act(*arguments, **options):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return act

    for name in ("fsync", "rename", "replace", "mkdir", "rmdir"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    done = run(*words, PIXEL_DATA_DIR=data, REDIS_URL="redis://127.0.0.1:1/0")
    os._exit(done.exit_code)


def test_spool_files_segment_drained_between_two_looks_is_kept_or_noticed(tmp_path):
    data = [hit.encode(Hit(1, "news", hit.EMAIL, "GET"))]
    spool = Spool(tmp_path / "spool", 1 << 24)
    spool.open()
    spool.append([Batch(0, producer.new_id(1_790_000_000), 1, hit.encode_batch(data))])
    opened = SpoolFiles(tmp_path / "spool")
    assert opened.open()
    spool.seal()
    [segment] = spool.drainable_segments()
    list(spool.read(segment))
    spool.delete(segment)
    assert opened.open(), "the drained segment was open"
    assert opened.segments() == 1
    spool.append([Batch(0, producer.new_id(1_790_000_001), 1, hit.encode_batch(data))])
    spool.seal()
    assert opened.open()
    for number in range(2):  # the second segment of these is made and drained unseen
        spool.append([Batch(0, producer.new_id(1_790_000_002 + number), 1, hit.encode_batch(data))])
        spool.seal()
    for segment in spool.drainable_segments():
        list(spool.read(segment))
        spool.delete(segment)
    assert not opened.open()
    opened.close()
    spool.close()


def test_backup_under_load_restored_elsewhere_has_every_answered_hit_once(tmp_path):
    home = Path(tempfile.mkdtemp(prefix="px-"))
    old, new = Stack(home / "old", PIXEL_API_KEY="key-of-the-backup-test"), Stack(home / "new")
    old.start()
    secrets = Secrets.load(old.data)
    ledger = Ledger(1, old.address, secrets, lambda: [old.port], pause=0.05)
    try:
        with ledger:
            until(lambda: sum(request.answer.stored for request in ledger.requests) > 300)
            # This hit is in the spool, and its writer lives, so that nobody drains it: as if Redis hung.
            token = urlsplit(Minter(old.address, secrets).url(CAMPAIGN, "only-in-the-spool")).path[3:-4]
            flags, minted_at, recipient, _ = verify(token.encode(), secrets.signing)
            spooled = Hit(ms(old), CAMPAIGN, hit.EMAIL, "GET", flags, minted_at, recipient)
            shard = shard_of(recipient, SHARDS)
            batch = Batch(shard, producer.new_id(ms(old) / 1000), 1, hit.encode_batch([hit.encode(spooled)]))
            spool = Spool(old.data / "spool", 1 << 24)
            spool.append([batch])
            before = answered(ledger, secrets)
            old.run("backup", str(home / "file"))
            sent = Counter(key_of(request, secrets) for request in ledger.requests if request.answer.sent)
            spool.close()
        assert old.stop() == 0
        done = new.run("restore", str(home / "file"), "--data", str(new.data))
        assert done.stdout.endswith("verified: 0 faults\n"), done.stdout
        new.start()
        url = json.loads((new.data / "up.json").read_text())["redis_url"]
        with connect(url) as client:
            until(lambda: not any(client.xlen(keys.hits(shard)) for shard in range(SHARDS)))
            until(lambda: opens(client, recipient) == 1)
            for key, number in before.items():
                assert number <= opens(client, key) <= sent[key]
        assert new.run("verify", check=False).stdout.endswith(" keys read, 0 faults\n")
        assert new.totals(CAMPAIGN)["opens"] >= before.total() + 1
        assert new.call("GET", "/readyz")[1]["losses"]["batches"] == 0
        stopped = new.stop()
        again = new.run("backup", str(home / "again"))
        assert (stopped, again.stdout.startswith("made: ")) == (0, True)
        assert not list((new.data / "valkey").glob("*.rdb"))
        assert not new.pids("valkey")
    finally:
        for stack in (old, new):
            if stack.process is not None:
                stack.stop()
        shutil.rmtree(home)


def ms(stack: Stack) -> int:
    with connect(Valkey(stack.data).url) as client:
        return client.time()[0] * 1000


def key_of(request, secrets: Secrets) -> bytes:
    return verify(urlsplit(request.url).path[3:-4].encode(), secrets.signing)[2]


def answered(ledger: Ledger, secrets: Secrets) -> Counter[bytes]:
    return Counter(key_of(request, secrets) for request in list(ledger.requests) if request.answer.stored)


def opens(client, key: bytes) -> int:
    name = keys.people(shard_of(key, SHARDS), CAMPAIGN, recipient_record.people_bucket(key))
    return recipient_record.unpack(client.hget(name, key)).opens

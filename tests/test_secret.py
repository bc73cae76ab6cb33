"""The secrets: created once, private, and read whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pixel_server.mail.links import Minter
from pixel_server.secret import FILE, Secrets, SecretsError
from pixel_server.tokens import verify

KEYS = ("a-signing-key-of-16", "an-older-signing-key")


def test_load_or_create_new_directory_creates_the_file_once_for_its_owner(tmp_path: Path):
    data = tmp_path / "not" / "yet"
    made = Secrets.load_or_create(data)
    assert (data / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in data.iterdir()] == [FILE]
    assert Secrets.load(data) == Secrets.load_or_create(data) == made
    assert Secrets.load_or_create(tmp_path / "another") != made


@pytest.mark.parametrize("given", [(), (KEYS,), ((), "a-recipient-secret")])
def test_load_missing_file_raises_and_creates_nothing(given, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SecretsError, match=f"there are no secrets in {tmp_path}/data: ") as raised:
        Secrets.load(Path("data"), *given)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "data").exists()


def test_load_or_create_racing_processes_get_the_same_secrets(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from pixel_server.secret import Secrets; "
        "print('ready', flush=True); sys.stdin.read(); "
        "print(Secrets.load_or_create(Path(sys.argv[1])).fingerprints())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    assert {racer.stdout.readline() for racer in racers} == {"ready\n"}
    for racer in racers:
        racer.stdin.close()
    found = {racer.stdout.read() for racer in racers}
    assert [racer.wait(60) for racer in racers] == [0] * 6
    assert found == {f"{Secrets.load(tmp_path / 'data').fingerprints()}\n"}
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FILE]


def test_load_or_create_draft_of_a_crash_is_ignored(tmp_path: Path):
    (tmp_path / f".{FILE}.0").write_text("{")
    assert Secrets.load_or_create(tmp_path) == Secrets.load_or_create(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"signing": ["a"]}',
        b'{"recipient": "a"}',
        b'{"signing": [], "recipient": "a"}',
        b'{"signing": "abc", "recipient": "a"}',
        b'{"signing": {"a": 1}, "recipient": "a"}',
        b'{"signing": [""], "recipient": "a"}',
        b'{"signing": ["a"], "recipient": ""}',
        b'{"signing": [1], "recipient": "a"}',
        b'{"signing": ["a"], "recipient": null}',
        b'{"signing": ["\\ud800"], "recipient": "a"}',
        b'{"signing": ["\xff"], "recipient": "a"}',
        b"[" * 100_000,
        b"\0" * 100,
    ],
    ids=range(18),
)
def test_load_or_create_damaged_file_raises_one_line_and_keeps_it(content: bytes, tmp_path: Path):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SecretsError, match=f"{tmp_path / FILE} cannot be read as secrets") as raised:
        Secrets.load_or_create(tmp_path)
    assert "\n" not in str(raised.value)
    assert (tmp_path / FILE).read_bytes() == content


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_load_or_create_impossible_directory_raises_one_line(name: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SecretsError, match="cannot write secrets to") as raised:
        Secrets.load_or_create(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_load_or_create_all_secrets_given_creates_no_directory(tmp_path: Path):
    assert Secrets.load_or_create(tmp_path / "data", KEYS, "a-recipient-secret") == Secrets.derive(
        KEYS, "a-recipient-secret"
    )
    assert not (tmp_path / "data").exists()


def test_load_some_secrets_given_takes_the_others_from_the_directory(tmp_path: Path):
    Secrets.load_or_create(tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    assert Secrets.load(tmp_path, KEYS) == Secrets.derive(KEYS, kept["recipient"])
    assert Secrets.load(tmp_path, (), "a-recipient-secret") == Secrets.derive(
        tuple(kept["signing"]), "a-recipient-secret"
    )


def test_derive_two_signing_keys_newest_signs_and_both_verify():
    def token(*keys: str) -> bytes:
        minter = Minter("http://x", Secrets.derive(keys, "recipient"))
        return minter.url("spring", "ada", now=0).rpartition("/")[2].removesuffix(".gif").encode()

    new, old = KEYS
    rotated = Secrets.derive((new, old), "recipient")
    assert token(new, old) == token(new) != token(old)
    assert verify(token(new), rotated.signing) == verify(token(old), rotated.signing)


def test_derive_same_text_twice_gives_different_keys_and_shows_none():
    secrets = Secrets.derive(("the-same-text-twice",), "the-same-text-twice")
    keys = [*secrets.signing, *secrets.cookies, secrets.recipient, secrets.visitor, secrets.routing]
    assert len({*keys}) == 5
    shown = repr(secrets) + str(secrets.fingerprints())
    assert "the-same-text" not in shown
    assert not any(key.hex() in shown or repr(key) in shown for key in keys)


def test_visitor_key_parts_cut_elsewhere_give_another_key():
    secrets = Secrets.derive(KEYS, "recipient")
    assert secrets.visitor_key(b"a", b"bc") != secrets.visitor_key(b"ab", b"c")
    assert secrets.visitor_key(b"a", b"") != secrets.visitor_key(b"a")


def test_fingerprints_other_secret_gives_another_fingerprint():
    recipient, signers = Secrets.derive(KEYS, "recipient").fingerprints()
    assert Secrets.derive(KEYS[1:], "recipient").fingerprints() == (recipient, signers[1:])
    assert Secrets.derive(KEYS, "another").fingerprints()[0] != recipient

"""The file up.json, and the addresses at which a browser can sign in."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from pixel_server import files
from pixel_server.run.up_state import UpState, read_up_state, sign_in_bases, write_up_state


def test_up_state_disk_full_keeps_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    first, second = (UpState(address, "http://pixel.test", "unix:///one", []) for address in ("one", "two"))
    write_up_state(tmp_path, first)

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    write_up_state(tmp_path, second)
    assert read_up_state(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["up.json"]
    assert "so other commands may not find this server" in caplog.text


def test_up_state_file_is_private_to_this_user(tmp_path: Path):
    write_up_state(tmp_path, UpState("one", "http://pixel.test", "redis://:password@redis/0", []))
    assert (tmp_path / "up.json").stat().st_mode & 0o77 == 0


def test_up_state_fingerprints_are_stored_under_their_first_name(tmp_path: Path):
    state = UpState(
        "one",
        "http://pixel.test",
        "unix:///one",
        ["recipient", "signer"],
        {"PIXEL_SHARDS": "4"},
        "unix:///two",
    )
    write_up_state(tmp_path, state)
    assert json.loads((tmp_path / "up.json").read_bytes()) == {
        "address": "one",
        "base_url": "http://pixel.test",
        "redis_url": "unix:///one",
        "queue_url": "unix:///two",
        "settings": {"PIXEL_SHARDS": "4"},
        "prints": ["recipient", "signer"],
    }
    assert read_up_state(tmp_path) == state


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"address": "one", "prints": 1}'])
def test_up_state_file_damaged_reads_none(tmp_path: Path, content: bytes):
    (tmp_path / "up.json").write_bytes(content)
    assert read_up_state(tmp_path) is None


@pytest.mark.parametrize(
    ("address", "base_url", "others"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", []),
        ("http://127.0.0.1:8000", "https://a.example/px", ["http://127.0.0.1:8000/px"]),
        ("http://[::1]:8000", "https://a.example", ["http://[::1]:8000"]),
        ("http://localhost:8000", "https://a.example", ["http://localhost:8000"]),
        ("http://192.0.2.7:8000", "https://a.example", []),
        ("http://192.0.2.7:8000", "http://a.example", ["http://192.0.2.7:8000"]),
    ],
)
def test_sign_in_bases_own_address_is_added_where_its_session_lasts(
    address: str, base_url: str, others: list[str]
):
    assert sign_in_bases(address, base_url) == [base_url, *others]

"""`pixel-server link --recipients`, which adds links to a list."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess

import pytest

from pixel_server.mail.csv_rows import MAX_ROW_BYTES
from pixel_server.secret import Secrets
from pixel_server.tokens import decode_unverified
from tests.commands.conftest import BASE_URL
from tests.stack import PROGRAM

NEW = ["pixel_url", "pixel_html", "privacy_url"]


@pytest.fixture
def link(offline, tmp_path):
    """Runs `link` on a list. Returns (result, content of --out or None, content of the .bad file or None)."""

    def run(content: bytes, *more: str, name: str = "list.csv"):
        source, out = tmp_path / name, tmp_path / "out"
        source.write_bytes(content)
        done = offline("link", "spring", "--recipients", source, "--out", out, *more)
        bad = tmp_path / "out.bad"
        return done, *(path.read_bytes() if path.exists() else None for path in (out, bad))

    return run


def test_link_list_keeps_all_columns_and_adds_three(link, minter):
    content = 'name,recipient,note\r\n"Byron, Ada", ada@example.org ,"says ""hi"""\r\n'
    content += "Bob,bob@example.org,Zürich\r\n"
    done, out, bad = link(content.encode())
    assert (done.exit_code, done.output, bad) == (0, "", None)
    lines = content.splitlines()
    assert [
        line.startswith(was + ",") for line, was in zip(out.decode().splitlines(), lines, strict=True)
    ] == [True] * 3
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert [list(row) for row in rows] == [["name", "recipient", "note", *NEW]] * 2
    for row, recipient in zip(rows, ("ada@example.org", "bob@example.org"), strict=True):
        token = decode_unverified(row["pixel_url"].rpartition("/")[2].removesuffix(".gif").encode())
        made = minter.link("spring", recipient, now=token.time)
        assert [row[name] for name in NEW] == [made.url, made.html, made.privacy_url]
        assert made.url.startswith(BASE_URL)


def test_link_list_ndjson_adds_three_fields(link):
    rows = [{"a": [1, {"b": None}], "recipient": "ada@example.org"}, {"recipient": "Zürich", "c": "}"}]
    content = "\n".join(json.dumps(row, ensure_ascii=False) + " " for row in rows) + "\n\n"
    done, out, bad = link(content.encode())
    assert (done.exit_code, bad) == (0, None)
    made = [json.loads(line) for line in out.splitlines()]
    assert [{name: row[name] for name in row if name not in NEW} for row in made] == rows
    assert [list(row)[-3:] for row in made] == [NEW] * 2


@pytest.mark.parametrize(("delimiter", "mark"), [(";", b"\xef\xbb\xbf"), ("\t", b""), ("|", b"")])
def test_link_list_delimiter_of_a_spreadsheet_is_found(link, delimiter, mark):
    content = mark + f"Name{delimiter}E-Mail\r\nAda{delimiter}ada@example.org".encode()
    done, out, _ = link(content, "--column", "E-Mail")
    assert done.exit_code == 0
    assert out.startswith(mark + f"Name{delimiter}E-Mail{delimiter}pixel_url".encode())
    assert len(list(csv.reader(out.decode().splitlines(), delimiter=delimiter))[1]) == 5


def test_link_list_column_in_other_case_is_found(link):
    assert link(b"Name,Recipient\nAda,ada@example.org\n")[0].exit_code == 0


@pytest.mark.parametrize("header", ["RECIPIENT,recipient", "recipient,recipient", "recipient,a,A"])
def test_link_list_two_columns_of_one_name_are_refused(link, header):
    done, out, _ = link(f"{header}\nada@example.org,b,c\n".encode())
    assert (done.exit_code, out, "two columns" in done.stderr) == (1, None, True)


@pytest.mark.parametrize("header", ['"recipient";"name, first"', "recipient;Name, Vorname", "a,b\trecipient"])
def test_link_list_comma_in_a_column_name_is_kept(link, header):
    mark = "\t" if "\t" in header else ";"
    row = mark.join(["ada@example.org"] * 2)
    done, out, _ = link(f"{header}\n{row}\n".encode())
    assert (done.exit_code, done.stderr) == (0, "")
    assert out.startswith(f"{header}{mark}pixel_url".encode())


@pytest.mark.parametrize("command", [("embed", "spring"), ("link", "spring", "--recipients", "-")])
def test_links_for_mails_that_only_this_machine_reaches_are_warned_of(offline, tmp_path, command):
    rest, stdin = (
        (("--out", tmp_path / "out"), b"recipient\nada\n") if "-" in command else (("ada",), b"<p>Hi")
    )
    for base_url, is_warned in (("http://localhost:8000", True), ("https://img.example.org", False)):
        done = offline(*command, *rest, stdin=stdin, PIXEL_BASE_URL=base_url)
        assert (done.exit_code, "only this machine can reach" in done.stderr) == (0, is_warned)


def test_link_list_from_standard_input_gets_links(offline, tmp_path):
    out = tmp_path / "out"
    done = offline("link", "spring", "--recipients", "-", "--out", out, stdin=b"recipient\nada\n")
    assert (done.exit_code, done.output) == (0, "")
    assert out.read_text().startswith("recipient,pixel_url")
    done = offline("link", "spring", "--recipients", "-", "--out", out, stdin=b"name\nada\n")
    assert "standard input: its first line has no column" in done.stderr


def test_link_list_bad_rows_are_named_and_left_out(link):
    long = b"x" * MAX_ROW_BYTES
    content = (
        b"recipient,note\nada@example.org,a\n,empty\nbob@example.org,a,b\n\xc3\xa4@example.org,c\n\xff,b\n\n"
        b'eve@example.org,"two\nlines"\njim@example.org,"never closed\njoe@example.org,"a, b"\n'
        b"kim@example.org,c\n" + long * 2 + b"\na\x07b,d\nleo@example.org\n"
    )
    done, out, bad = link(content)
    assert done.exit_code == 1
    assert done.stderr.startswith("pixel-server: 6 rows done, 6 left out: see ")
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert [row["recipient"][:3] for row in rows] == ["ada", "ä@e", "eve", "joe", "kim", "leo"]
    assert [row["note"] for row in rows] == ["a", "c", "two\nlines", "a, b", "c", ""]
    assert all(row["pixel_url"].startswith(BASE_URL) for row in rows)
    assert bad.decode().splitlines() == [
        "3: recipient must not be empty",
        "4: has 3 fields, not 2",
        "6: is not in UTF-8",
        "10: is not CSV: its quotes are broken",
        "13: has more than 1 MB",
        "14: recipient must not contain control characters",
    ]
    content = b'{"recipient":"ada"}\n[1]\n{"recipient":1}\n{"a":1}\n{"recipient":"b","pixel_url":""}\nnot\n'
    done, out, bad = link(content, "--json")
    assert json.loads(done.stdout) == {"rows": 1, "bad": 5}
    assert [line.split(b": ")[0] for line in bad.splitlines()] == [b"2", b"3", b"4", b"5", b"6"]
    assert link(b"recipient\nada\n")[2] is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"email\nada@example.org\n", "no column 'recipient'; it names email"),
        (b"recipient,pixel_url\n", "a column 'pixel_url' already"),
        ("mail\n".encode("utf-16"), "no column 'recipient'; it names mail"),
        (b"recipient\xff\n", "no column 'recipient'"),
        (b'"recipient\nada\n', "is not CSV"),
    ],
)
def test_link_list_unreadable_is_one_line(link, content, why):
    done, out, bad = link(content)
    assert (done.exit_code, out, bad) == (1, None, None)
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_link_list_failure_keeps_the_previous_file(link, offline, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("from an earlier run")
    monkeypatch.setattr("pixel_server.mail.recipient_files.RecipientFile.with_fields", lambda *_: 1 / 0)
    done, out, _ = link(b"recipient\nada\n")
    assert isinstance(done.exception, ZeroDivisionError)
    assert out == b"from an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "list.csv", "out"]
    done = offline("link", "spring", "--recipients", tmp_path / "list.csv", "--out", tmp_path / "no" / "out")
    assert done.exit_code == 1
    assert "No such file" in done.stderr


def test_link_list_may_replace_itself(link, offline, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"recipient\nada\n")
    assert offline("link", "spring", "--recipients", path, "--out", path).exit_code == 0
    assert path.read_bytes().startswith(b"recipient,pixel_url")


def test_link_options_that_exclude_each_other_are_refused(offline, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"recipient\nada\n")
    for more in (
        [],
        ["ada", "--out", "x"],
        ["ada", "--recipients", path, "--out", "x"],
        ["--recipients", path],
    ):
        assert offline("link", "spring", *more).exit_code == 2
    assert offline("link", "No", "--recipients", path, "--out", tmp_path / "x").exit_code == 1


def test_link_list_shows_progress_on_a_terminal_only(tmp_path):
    Secrets.load_or_create(tmp_path / "data")
    path = tmp_path / "list.csv"
    path.write_bytes(b"recipient\n" + b"ada@example.org\n" * 3000)
    arguments = [PROGRAM, "link", "spring", "--recipients", path, "--out", tmp_path / "out"]
    environ = {"PIXEL_DATA_DIR": str(tmp_path / "data"), "PIXEL_BASE_URL": BASE_URL, "TERM": "xterm"}
    ours, theirs = pty.openpty()
    done = subprocess.run(arguments, env={**os.environ, **environ}, stderr=theirs, check=True)
    shown = os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    assert b"list.csv" in shown
    assert b"100%" in shown
    done = subprocess.run(arguments, env={**os.environ, **environ}, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize(
    "recipient", ["Eve@example.org", "mailto:eve@example.org", "Eve <eve@example.org>", "eve\u200b"]
)
def test_link_odd_recipient_gets_a_link_and_a_warning(offline, link, recipient):
    done = offline("link", "spring", recipient)
    assert (done.exit_code, "as two people" in done.stderr) == (0, True)
    assert "as two people" in offline("embed", "spring", recipient, stdin=b"<p>Hi").stderr
    done, out, bad = link(f"recipient\neve@example.org\n{recipient}\n".encode())
    assert (done.exit_code, bad, len(out.splitlines())) == (0, None, 3)
    assert "list.csv: line 3: the recipient has" in done.stderr


def test_link_list_many_odd_recipients_warns_of_the_first(link):
    done, _, _ = link(b"recipient\n" + b"Eve@example.org\n" * 100)
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.endswith("and 80 more such lines\n")

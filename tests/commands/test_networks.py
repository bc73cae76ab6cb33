"""The output and exit codes of `pixel-server networks`."""

from __future__ import annotations

import datetime
import json

import pytest

from pixel_server.classify import network_refresh
from pixel_server.classify.network_store import ListCopies
from pixel_server.classify.networks import list_names
from pixel_server.secret import Secrets
from tests.publishers import ROWS, csv, prefixes

HEAD = "# source: a test\n# date: {}\n"


def assert_one_line(done, *words: str) -> None:
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pixel-server: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_networks_list_prints_a_table_or_json(run, lists):
    (lists / "google.txt").write_text(HEAD.format("2026-09-01") + "192.0.2.0/24\n")
    rows = run("networks", "list").stdout.splitlines()
    assert rows[0].split() == ["NAME", "RANGES", "DATE", "OWNER", "SOURCE"]
    assert [row.split()[0] for row in rows[1:]] == list(list_names())
    assert "google         1       2026-09-01  the operator's  a test" in rows
    items = json.loads(run("networks", "list", "--json").stdout)
    assert items["next"] is None
    by_name = {item.pop("name"): item for item in items["items"]}
    assert by_name["google"] == {
        "ranges": 1,
        "source": "a test",
        "date": "2026-09-01",
        "licence": "",
        "own": True,
        "refreshed": False,
    }
    assert by_name["barracuda"]["own"] is False


def test_networks_list_unreadable_is_one_line(run, lists):
    (lists / "google.txt").write_text("nonsense")
    assert_one_line(run("networks", "list"), f"{lists}/google.txt:1: 'nonsense' is not a network")


@pytest.fixture
def refresh(run, tmp_path, redis_url):
    """Returns a function that runs `networks refresh` with the store."""
    Secrets.load_or_create(tmp_path)
    return lambda *arguments: run("networks", "refresh", *map(str, arguments), REDIS_URL=redis_url)


def test_networks_refresh_from_a_file_replaces_the_list(refresh, run, tmp_path):
    path = csv(tmp_path / "egress.csv", ROWS)
    day = datetime.datetime.now(datetime.UTC).date()
    done = refresh("apple", "--from", path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("apple: 60,000 rows, ")
    [item] = json.loads(refresh("apple", "--from", path, "--json").stdout)["items"]
    assert (item["name"], item["rows"]) == ("apple", 60_000)
    assert item["date"] in (str(day), str(day + datetime.timedelta(1)))
    row = next(row for row in run("networks", "list").stdout.splitlines() if row.startswith("apple"))
    assert " refreshed " in row


def test_networks_refresh_reaches_every_host(refresh, tmp_path, client):
    assert refresh("apple", "--from", csv(tmp_path / "egress.csv", ROWS)).exit_code == 0
    other = tmp_path / "other-host"
    ListCopies(other).update(client)
    assert (other / "apple.txt").read_bytes() == (tmp_path / "networks-refreshed" / "apple.txt").read_bytes()


def test_networks_refresh_beside_an_own_list_says_so(refresh, lists, tmp_path):
    (lists / "apple.txt").write_text("nonsense")
    done = refresh("apple", "--from", csv(tmp_path / "egress.csv", ROWS))
    assert done.exit_code == 0
    assert (
        done.stderr == f"{lists}/apple.txt is your own list and is used instead: remove it to use this one\n"
    )
    assert (lists / "apple.txt").read_text() == "nonsense"


def test_networks_refresh_from_several_files_joins_them(refresh, tmp_path):
    for number in range(2):
        networks = [f"66.249.{n}.{32 * number}/27" for n in range(64)]
        (tmp_path / f"{number}.json").write_bytes(prefixes(*networks))
    files = [word for number in range(2) for word in ("--from", tmp_path / f"{number}.json")]
    assert refresh("google", *files).stdout.startswith("google: 128 rows, 64 ranges of ")


def test_networks_refresh_failure_is_one_line(refresh, tmp_path, lists):
    few = csv(tmp_path / "few.csv", ROWS[:9])
    bad = csv(tmp_path / "bad.csv", [*ROWS[:9], "x"])
    assert_one_line(refresh("apple", "--from", few), "9 rows", "50,000")
    assert_one_line(refresh("apple", "--from", bad), "bad.csv: row 10: 'x' is not a network")
    assert_one_line(refresh("apple", "--from", f"{few}x"), "No such file")
    assert_one_line(refresh("--from", few), "one list")
    assert_one_line(refresh("apple", "google", "--from", few), "one list")
    assert_one_line(refresh("../apple"), "no list '../apple'", "barracuda, cisco")
    assert_one_line(refresh("cisco"), "cisco", f"{lists}/cisco.txt")
    assert list(lists.iterdir()) == []
    assert not (tmp_path / "networks-refreshed").exists()


def test_networks_refresh_much_smaller_list_needs_the_operators_word(refresh, tmp_path):
    for name, count in (("all", 100), ("half", 50)):
        networks = [f"20.171.{2 * n}.0/28" for n in range(count)]
        (tmp_path / f"{name}.json").write_bytes(prefixes(*networks))
    assert refresh("openai", "--from", tmp_path / "all.json").exit_code == 0
    half = ("openai", "--from", tmp_path / "half.json")
    assert_one_line(refresh(*half), "only 50 ranges, and the list in use has 100", "--accept-smaller")
    assert refresh(*half, "--accept-smaller").stdout.startswith("openai: 50 rows")


def test_networks_refresh_without_a_store_is_one_line(run, tmp_path):
    assert_one_line(run("networks", "refresh"), "pixel-server does not run with", "pixel-server up")


def test_networks_refresh_one_failure_refreshes_the_others(refresh, publishers, monkeypatch, tmp_path):
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish_all()
    publishers.answers["/apple.csv"] = (503, {}, b"")
    done = refresh()
    assert done.exit_code == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "google",
        "microsoft-eop",
        "openai",
    ]
    assert done.stderr.count("\n") == 1
    assert "apple.csv: HTTP Error 503" in done.stderr
    assert not (tmp_path / "networks-refreshed" / "apple.txt").exists()
    assert refresh("google", "google").stdout.count("google: ") == 1

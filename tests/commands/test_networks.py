"""The output and exit codes of `pixel-server networks`."""

from __future__ import annotations

import datetime
import json

from pixel_server.classify import network_feeds
from pixel_server.classify.networks import NetworksError, list_names
from tests.classify.test_network_feeds import ROWS, csv, google

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
    }
    assert by_name["barracuda"]["own"] is False


def test_networks_list_unreadable_is_one_line(run, lists):
    (lists / "google.txt").write_text("nonsense")
    assert_one_line(run("networks", "list"), f"{lists}/google.txt:1: 'nonsense' is not a network")


def test_networks_refresh_from_a_file_replaces_the_list(run, lists, tmp_path):
    path = str(csv(tmp_path / "egress.csv", ROWS))
    day = datetime.datetime.now(datetime.UTC).date()
    done = run("networks", "refresh", "apple", "--from", path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("apple: 60,000 rows, ")
    [item] = json.loads(run("networks", "refresh", "apple", "--from", path, "--json").stdout)["items"]
    assert (item["name"], item["rows"]) == ("apple", 60_000)
    assert item["date"] in (str(day), str(day + datetime.timedelta(1)))
    row = next(row for row in run("networks", "list").stdout.splitlines() if row.startswith("apple"))
    assert "the operator's" in row


def test_networks_refresh_replaces_an_unreadable_list(run, lists, tmp_path):
    (lists / "apple.txt").write_text("nonsense")
    path = csv(tmp_path / "egress.csv", ROWS)
    assert run("networks", "refresh", "apple", "--from", str(path)).exit_code == 0
    assert run("networks", "list").exit_code == 0


def test_networks_refresh_from_several_files_joins_them(run, tmp_path):
    for number in range(2):
        networks = [f"66.249.{n}.{32 * number}/27" for n in range(64)]
        (tmp_path / f"{number}.json").write_bytes(google(*networks))
    files = [word for number in range(2) for word in ("--from", str(tmp_path / f"{number}.json"))]
    assert run("networks", "refresh", "google", *files).stdout.startswith("google: 128 rows, 64 ranges of ")


def test_networks_refresh_failure_is_one_line(run, tmp_path, lists):
    few = str(csv(tmp_path / "few.csv", ROWS[:9]))
    bad = str(csv(tmp_path / "bad.csv", [*ROWS[:9], "x"]))
    assert_one_line(run("networks", "refresh", "apple", "--from", few), "9 rows", "50,000")
    assert_one_line(
        run("networks", "refresh", "apple", "--from", bad), "bad.csv: row 10: 'x' is not a network"
    )
    assert_one_line(run("networks", "refresh", "apple", "--from", few + "x"), "No such file")
    assert_one_line(run("networks", "refresh", "--from", few), "one list")
    assert_one_line(run("networks", "refresh", "apple", "google", "--from", few), "one list")
    assert_one_line(run("networks", "refresh", "../apple"), "no list '../apple'", "barracuda, cisco")
    assert_one_line(run("networks", "refresh", "cisco"), "cisco", f"{lists}/cisco.txt")
    assert list(lists.iterdir()) == []


def test_networks_refresh_one_failure_refreshes_the_others(run, lists, monkeypatch):
    def fetch(url: str) -> bytes:
        if "icloud" in url:
            raise NetworksError(f"{url}: timed out")
        return google(*(f"66.249.{n}.0/27" for n in range(64)))

    monkeypatch.setattr(network_feeds, "fetch", fetch)
    done = run("networks", "refresh")
    assert done.exit_code == 1
    assert done.stdout.startswith("google: 256 rows, ")
    assert done.stderr.count("\n") == 1
    assert "egress-ip-ranges.csv: timed out" in done.stderr
    assert [path.name for path in lists.iterdir()] == ["google.txt"]
    assert run("networks", "refresh", "google", "google").stdout.count("google: ") == 1

"""The command line: each command as text and as JSON, and one line for each error."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixel_server import settings
from pixel_server.commands.recipients import verdict_of
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.run.up_state import read_up_state
from pixel_server.secret import Secrets, SecretsError
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.tokens import decode_unverified
from tests.in_process import StackInProcess, run_command
from tests.stack import NOBODY_ASKED, PROGRAM, Stack, running, until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Starts one stack for this file. Each test has its own campaigns."""
    with running(StackInProcess) as made:
        yield made


def cli(*arguments: str | bytes, data: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, on a data directory."""
    return run_command(*arguments, PIXEL_DATA_DIR=str(data), **environ)


def program(*arguments: str | bytes, data: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as a process of its own, on a data directory, with an empty stdin."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env={**os.environ, "PIXEL_DATA_DIR": str(data), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("pixel-server: ")
    for word in words:
        assert word in done.stderr


def as_json(stack: Stack, *arguments: str) -> Any:
    """Returns the JSON of a command, which prints one line."""
    printed = stack.run(*arguments, "--json").stdout
    assert printed.count("\n") == 1
    return json.loads(printed)


def test_cli_campaign_create_show_list_and_delete(stack: Stack):
    assert (
        stack.run("campaign", "create", "spring", "--sent", "1234").stdout
        == "created email campaign spring\n"
    )
    made = as_json(stack, "campaign", "create", "site", "--kind", "web", "--name", "Our site")
    assert (made["id"], made["kind"], made["name"], made["sent"]) == ("site", "web", "Our site", None)

    listed = stack.run("campaign", "list").stdout.splitlines()
    assert [line.split() for line in listed if line.startswith("spring ")] == [
        ["spring", "email", "1234", "sent", "spring"]
    ]
    items = as_json(stack, "campaign", "list")
    assert items["next"] is None
    assert made in items["items"]
    assert as_json(stack, "campaign", "show", "site").items() >= made.items()

    assert stack.run("campaign", "delete", "site", "--yes").stdout == "deleted site\n"
    assert as_json(stack, "campaign", "delete", "spring", "--yes") == {"deleted": "spring"}
    left_over = {item["id"] for item in as_json(stack, "campaign", "list")["items"]}
    assert not left_over & {"site", "spring"}
    again = program("campaign", "create", "spring", data=stack.data)
    assert_one_line(again, "spring", "belonged to a deleted campaign")


def test_cli_campaign_change_sets_fields(stack: Stack):
    stack.run("campaign", "create", "june", "--bounced", "0", "--min-cell", "3")
    said = stack.run("campaign", "set", "june", "--sent", "40", "--bounced", "2", "--gpc", "drop").stdout
    assert said == "changed sent, bounced, gpc of june\n"
    found = as_json(stack, "campaign", "set", "june", "--gpc", "none", "--sent-at", "2026-11-24T09:00:00Z")
    assert (found["sent"], found["bounced"], found["gpc"]) == (40, 2, None)
    assert found["sent_at"] == "2026-11-24T09:00:00Z"
    assert as_json(stack, "campaign", "set", "june", "--sent", "none")["sent"] is None
    audited = stack.run("audit").stdout
    assert "campaign.changed" in audited
    assert "gpc,sent_at" in audited

    def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
        return cli("campaign", "set", *arguments, data=stack.data)

    assert_one_line(refused("june", "--sent", "many"), "--sent must be a whole number", "or none")
    assert_one_line(refused("june", "--sent", "9" * 20), "--sent must be a whole number")
    assert_one_line(refused("june", "--time-zone", "Mars"), "--time-zone must be a name")
    assert_one_line(refused("june", "--identity", "cookie"), "web campaigns")
    assert_one_line(refused("june", "--name", "none"), "--name must be text")
    assert_one_line(refused("june", "--sent", "3", "--bounced", "4"), "no more mails can come back")
    assert_one_line(refused("june", "--keep", "names"), "--keep names must be a whole number")
    assert_one_line(refused("june", "--keep", "all=3"), "--keep must be days by")
    assert as_json(stack, "campaign", "set", "june", "--keep", "names=30")["keep"] == {"names": 30}
    assert as_json(stack, "campaign", "set", "june", "--keep", "none")["keep"] == {}
    assert_one_line(refused("july", "--sent", "1"), "there is no campaign 'july'")
    assert refused("june").returncode == 2
    assert as_json(stack, "campaign", "show", "june")["sent"] is None, "nothing of what was refused holds"

    assert stack.get(stack.run("link", "june", "ada").stdout.strip()) == (200, "recorded")
    until(lambda: stack.totals("june")["opens"] == 1)
    assert_one_line(refused("june", "--mode", "identified"), "the mode can only be lowered")
    assert stack.run("campaign", "set", "june", "--mode", "count").stdout == "changed mode of june\n"

    made = as_json(
        stack, "campaign", "create", "shop", "--kind", "web", "--origin", "https://shop.example.org"
    )
    assert made["origins"] == ["https://shop.example.org"]
    assert as_json(stack, "campaign", "set", "shop", "--origin", "none")["origins"] == []
    assert_one_line(refused("shop", "--sent", "4"), "mail campaigns")
    until(lambda: stack.get("/p/shop.gif") == (200, "recorded"))
    until(lambda: stack.totals("shop")["views"] == 1)
    changes = stack.run("audit").stdout.count("campaign.changed")
    assert_one_line(refused("shop", "--identity", "cookie"), "identity cannot change")
    assert stack.run("audit").stdout.count("campaign.changed") == changes, "what is refused is not noted"


def test_cli_campaign_upload_stores_the_list(stack: Stack, tmp_path: Path):
    stack.run("campaign", "create", "listed", "--mode", "identified")
    (tmp_path / "list.csv").write_text("name;recipient\nAda;ada@example.org\nBob;bob@example.org\n")
    (tmp_path / "more.ndjson").write_text(
        '{"recipient": "bob@example.org"}\n{"recipient": "eve@example.org"}\n'
    )
    upload = ("campaign", "upload", "listed")
    assert stack.run(*upload, str(tmp_path / "list.csv")).stdout == "2 new, 0 known, 0 withdrawn\n"
    done = as_json(stack, *upload, str(tmp_path / "more.ndjson"))
    assert done == {"lines": 2, "new": 1, "known": 1, "withdrawn": 0, "bad": 0, "errors": [], "warnings": []}
    _, unopened = stack.call("GET", "/api/campaigns/listed/recipients?state=unopened")
    assert {item["name"] for item in unopened["items"]} == {None, "Ada", "Bob"}, "Bob came again without"
    rows = [f"person-{i}" for i in range(20_000)]
    (tmp_path / "long.csv").write_text("\n".join(["recipient", *rows, " ", "x" * 2000]))
    long = cli(*upload, str(tmp_path / "long.csv"), data=stack.data)
    assert (long.returncode, long.stdout) == (1, "20,000 new, 0 known, 0 withdrawn\n")
    assert "long.csv: lines left out: 1; line 20003: recipient " in long.stderr

    (tmp_path / "windows.ndjson").write_bytes(b'\xef\xbb\xbf{"recipient": "fay"}\n')
    (tmp_path / "pipes.csv").write_text("recipient|name\nguy|Guy\n")
    for name in ("windows.ndjson", "pipes.csv"):
        assert stack.run(*upload, str(tmp_path / name)).stdout == "1 new, 0 known, 0 withdrawn\n"

    (tmp_path / "crm.csv").write_text("id,E-Mail\n7,hal@example.org\n")
    taken = stack.run(*upload, str(tmp_path / "crm.csv"), "--column", "E-Mail").stdout
    assert taken == "1 new, 0 known, 0 withdrawn\n"
    (tmp_path / "empty.csv").write_text("recipient\n")
    assert_one_line(cli(*upload, str(tmp_path / "empty.csv"), data=stack.data), "no recipient in it")

    (tmp_path / "bad.csv").write_text("mail\nada@example.org\n")
    assert_one_line(
        cli(*upload, str(tmp_path / "bad.csv"), data=stack.data), "bad.csv", "'recipient'", "nothing"
    )
    none = cli("campaign", "upload", "nobody", str(tmp_path / "list.csv"), data=stack.data)
    assert_one_line(none, "there is no campaign 'nobody'")
    stack.run("campaign", "create", "counted", "--mode", "count")
    kept = cli("campaign", "upload", "counted", str(tmp_path / "list.csv"), data=stack.data)
    assert_one_line(kept, "only an email campaign of mode")
    assert "recipients.uploaded" in stack.run("audit").stdout


def test_cli_sign_in_link_signs_in(stack: Stack):
    link = stack.run("sign-in").stdout.strip()
    assert link.startswith(f"{stack.address}/sign-in/")
    made = as_json(stack, "sign-in")
    assert (made["url"].startswith(f"{stack.address}/sign-in/"), made["seconds"]) == (True, 600)
    assert made["url"] != link
    assert made["local_url"] is None
    assert stack.run("sign-in").stderr == ""
    key = stack.run("key", "create", "reader", "--scope", "read").stdout.strip()
    assert key
    assert_one_line(cli("sign-in", "--key", "0" * 12, data=stack.data), "there is no key")


def test_cli_stats_table_equals_json(stack: Stack):
    stack.run("campaign", "create", "figures", "--name", "All of them", "--sent", "3")
    for recipient in ("ada", "ada", "bob"):
        url = stack.run("link", "figures", recipient).stdout.strip()
        assert stack.get(url) == (200, "recorded")
    until(lambda: stack.totals("figures")["opens"] == 3)
    stats = as_json(stack, "campaign", "show", "figures")["stats"]
    assert stats["totals"] == {
        **NOBODY_ASKED,
        **{"hits": 3, "opens": 3, "unique_opens": 2, "unique_opens_person": 2, "unique_ips": 1},
    }

    table = stack.run("campaign", "show", "figures").stdout
    rows = {line[:20].strip(): line[21:] for line in table.splitlines()}
    assert rows.pop("counted up to").startswith("20")
    assert rows == {
        "campaign": "figures (email) All of them",
        "hits": "3",
        "opens": "3",
        "unique opens": "2",
        "unique opens person": "2",
        "unique ips": "1 (estimate, ±0.8%)",
        "sent": "3",
        "open rate": "66.7%",
    }


def test_cli_stats_without_sent_show_no_rate(stack: Stack):
    stack.run("campaign", "create", "no-sent")
    assert (
        "open rate            not known, as `sent` is not set\n"
        in stack.run("campaign", "show", "no-sent").stdout
    )
    stack.run("campaign", "create", "over", "--sent", "1")
    for recipient in ("ada", "bob"):
        stack.get(stack.run("link", "over", recipient).stdout.strip())
    until(lambda: stack.totals("over")["unique_opens"] == 2)
    assert (
        "open rate            more openers than delivered\n" in stack.run("campaign", "show", "over").stdout
    )


def test_cli_stats_of_a_web_site(stack: Stack):
    stack.run("campaign", "create", "web-figures", "--kind", "web")
    until(lambda: stack.get("/p/web-figures.gif") == (200, "recorded"))
    until(lambda: stack.totals("web-figures")["views"] == 1)
    table = stack.run("campaign", "show", "web-figures").stdout
    assert "views                1\n" in table
    assert "unique visitors      1 (estimate, ±0.8%)\n" in table
    assert "open rate" not in table


def test_cli_keys_create_list_and_revoke(stack: Stack):
    key = stack.run("key", "create", "for the reader", "--scope", "read").stdout.strip()
    other = as_json(stack, "key", "create", "for the sender")
    assert other["scopes"] == ["read", "write", "people"]

    reader = Stack(stack.data, stack.port)
    reader.key = key
    body = {"id": "by-key", "name": "By key", "kind": "web"}
    assert reader.call("GET", "/api/campaigns")[0] == 200
    assert reader.call("POST", "/api/campaigns", body)[0] == 403
    reader.key = other["key"]
    assert reader.call("POST", "/api/campaigns", body)[0] == 201

    partner = as_json(stack, "key", "create", "for a partner", "--scope", "read:by-key")
    assert partner["scopes"] == ["read:by-key"]
    reader.key = partner["key"]
    assert reader.call("GET", "/api/campaigns/by-key/stats")[0] == 200
    assert reader.call("GET", "/api/campaigns")[0] == 403
    for wrong in ("read:by-kez", "admin", "read:"):
        refused = stack.run("key", "create", "for a partner", "--scope", wrong, check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith("pixel-server: --scope")
    reader.key = other["key"]

    line = next(
        line for line in stack.run("key", "list").stdout.splitlines() if line.endswith("  for the reader")
    )
    assert line.split()[1] == "read"
    records = {record["name"]: record for record in as_json(stack, "key", "list")["items"]}
    assert records["for the reader"]["last_used"]
    assert all("key" not in record for record in records.values())
    for printed in (stack.run("key", "list").stdout, stack.run("key", "list", "--json").stdout):
        assert key not in printed

    name = records["for the reader"]["id"]
    assert stack.run("key", "revoke", name).stdout == f"revoked {name}\n"
    assert as_json(stack, "key", "revoke", other["id"]) == {"revoked": other["id"]}
    assert reader.call("GET", "/api/campaigns")[0] == 401


def test_cli_dead_letters_list_and_retry(stack: Stack):
    found = read_up_state(stack.data)
    assert found is not None
    with connect(found.redis_url) as client:
        for shard in (0, 3):
            client.xadd(keys.dead(shard), {"reason": f"hit: no sense in {shard}", "data": b"\xff\x00"})
    lines = stack.run("dead-letters", "list").stdout.splitlines()
    assert [line.split("  ")[0::2] for line in lines] == [
        ["0", "hit: no sense in 0"],
        ["3", "hit: no sense in 3"],
    ]
    items = as_json(stack, "dead-letters", "list")["items"]
    assert [(item["shard"], item["data"]) for item in items] == [(0, "ff00"), (3, "ff00")]
    assert cli("dead-letters", "drop", data=stack.data).returncode == 1, "nobody said yes"
    assert len(as_json(stack, "dead-letters", "list")["items"]) == 2
    assert stack.run("dead-letters", "drop", "--yes").stdout == "dropped 2 dead letters\n"
    assert as_json(stack, "dead-letters", "drop", "--yes") == {"dropped": 0}


def test_cli_spool_shows_its_state(stack: Stack):
    status = dict(line.rsplit(maxsplit=1) for line in stack.run("spool", "status").stdout.splitlines())
    assert status.pop("waiting since") == "-"
    assert status == dict.fromkeys(["segments", "hits", "bytes", "set aside", "newer format"], "0")
    waiting = as_json(stack, "spool", "status")
    assert (waiting["hits"], waiting["waiting_since"]) == (0, None)
    assert stack.run("spool", "drain").stdout == "drained 0 batches\n"
    assert as_json(stack, "spool", "drain") == {"batches": 0}


def test_cli_settings_work_without_redis(tmp_path: Path):
    printed = cli("settings", data=tmp_path)
    assert printed.returncode == 0
    assert [line.split()[0] for line in printed.stdout.splitlines()] == [
        name for name, _, _ in settings.table()
    ]
    listed = json.loads(cli("settings", "--json", data=tmp_path).stdout)
    assert [(row["name"], row["default"], row["help"]) for row in listed] == settings.table()
    assert {row["name"]: row["value"] for row in listed if row["value"]} == {
        "PIXEL_DATA_DIR": str(tmp_path),
        "PIXEL_NETWORKS_REFRESH": "off",  # see tests/conftest.py
    }


def test_cli_commands_use_the_settings_of_up(tmp_path: Path):
    """The settings are in the environment of `up`, and not in that of another terminal."""
    made = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_MAX_MODE="count", PIXEL_SHARDS="2")
    made.start()
    try:
        assert "PIXEL_MAX_MODE" not in os.environ
        refused = cli("campaign", "create", "x", "--mode", "identified", data=made.data)
        assert_one_line(refused, "more than this server keeps, count")
        rows = json.loads(cli("settings", "--json", data=made.data).stdout)
        shown = {row["name"]: row["value"] for row in rows}
        assert (shown["PIXEL_MAX_MODE"], shown["PIXEL_SHARDS"]) == ("count", "2")
        assert shown["REDIS_URL"].startswith("unix://")
        assert cli("settings", data=made.data, PIXEL_MAX_MODE="last").stdout.count("=last") == 1
    finally:
        made.stop()
        shutil.rmtree(made.data)


def sent(stack: Stack, campaign: str) -> int | None:
    return stack.call("GET", f"/api/campaigns/{campaign}/stats")[1]["sent"]


def test_cli_lists_give_the_campaign_its_sent_unless_told(stack: Stack, tmp_path: Path):
    source, out = tmp_path / "list.csv", tmp_path / "out.csv"
    source.write_text("recipient,name\n" + "".join(f"p{n}@example.org,P {n}\n" for n in range(5)) + ",x\n")
    take = ("--recipients", str(source), "--out", str(out))
    for campaign in ("linked", "uploaded"):
        stack.run("campaign", "create", campaign)
    for more in (("--no-sent",), ("--test",)):
        assert cli("link", "linked", *take, *more, data=stack.data).returncode == 1, "a row is bad"
        assert sent(stack, "linked") is None
    for more in ((), ("--sent",), ("--sent-at", "2026-11-29")):
        assert "5 rows done" in cli("link", "linked", *take, *more, data=stack.data).stderr
        assert sent(stack, "linked") == 5, "the same mails count once"
    stack.run("link", "linked", "another@example.org", "--sent")
    stack.run("link", "linked", "trial@example.org")
    assert sent(stack, "linked") == 6
    with out.open(newline="") as file:
        url = next(csv.DictReader(file))["pixel_url"]
    token = decode_unverified(url.partition("/o/")[2].removesuffix(".gif").encode())
    assert (token.is_sending_time, token.time) == (True, 1795910400)

    taken = cli("campaign", "upload", "uploaded", str(source), data=stack.data)
    assert "5 new" in taken.stdout
    assert taken.stderr.count("names are not stored") == 1
    assert sent(stack, "uploaded") == 5
    refused = cli("link", "linked", *take, "--test", "--sent", data=stack.data)
    assert (refused.returncode, "leave out --sent" in refused.stderr) == (2, True)
    assert cli("link", "nobody", *take, "--sent", data=stack.data).returncode == 1
    assert "are not counted as sent" in cli("link", "nobody", *take, data=stack.data).stderr


@pytest.mark.parametrize(("mode", "wanted"), [("count", 3), ("pseudonymous", 2), ("off", None)])
def test_cli_embed_list_counts_mails_as_the_mode_says(
    stack: Stack, tmp_path: Path, mode: str, wanted: int | None
):
    campaign = f"embedded-{mode}"
    stack.run("campaign", "create", campaign, "--mode", mode)
    source = tmp_path / "list.csv"
    source.write_text("recipient\nann@example.org\nann@example.org\nben@example.org\n")
    arguments = [PROGRAM, "embed", campaign, "--recipients", str(source), "--out", str(tmp_path / "mails")]
    for more in (["--test"], []):
        subprocess.run(
            [*arguments, *more], env=stack.environ, input=b"<p>Hi", check=True, capture_output=True
        )
        shutil.rmtree(tmp_path / "mails")
    assert sent(stack, campaign) == wanted


def test_cli_recipients_join_writes_the_opens_beside_each_row(stack: Stack, tmp_path: Path):
    stack.run("campaign", "create", "joined")
    people = ["ann", "ben", "cat", "dan", "eve"]
    source, out = tmp_path / "list.csv", tmp_path / "out.csv"
    source.write_bytes(
        b"Kunde;recipient\r\n" + b"".join(b"Zo\xeb;%b\r\n" % person.encode() for person in people)
    )
    links = tmp_path / "links.csv"
    cli("link", "joined", "--recipients", str(source), "--out", str(links), data=stack.data)
    rows = list(csv.DictReader(io.StringIO(links.read_bytes().decode("cp1252"), newline=""), delimiter=";"))
    thunderbird = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"
    for row, agent in zip(rows, (thunderbird, "curl/8.5", "no such program"), strict=False):
        request = urllib.request.Request(row["pixel_url"], headers={"User-Agent": agent})
        urllib.request.urlopen(request, timeout=60).close()
    stack.call("POST", "/api/withdrawals", {"recipients": ["dan"]})
    until(lambda: stack.totals("joined")["unique_opens"] == 3)

    def join(*more: str) -> list[dict[str, str]]:
        done = cli("recipients", "joined", "--join", str(source), "--out", str(out), *more, data=stack.data)
        assert done.returncode == 0, done.stderr
        text = out.read_bytes().decode("cp1252")
        assert text.startswith("Kunde;recipient;first_open;last_open;opens;verdict\r\n")
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))

    found = join()
    assert [(row["Kunde"], row["recipient"]) for row in found] == [("Zoë", person) for person in people]
    assert [row["opens"] for row in found] == ["1", "1", "1", "0", "0"]
    verdicts = [row["verdict"] for row in found]
    assert verdicts == ["person", "machine_only", "machine_only", "withdrawn", "unopened"]
    assert verdict_of(RecipientRecord(opens=2, prefetch=1)) == "opened"
    _, listed = stack.call("GET", "/api/campaigns/joined/recipients?state=opened")
    times = {item["key"]: (item["first_open"], item["last_open"]) for item in listed["items"]}
    assert sorted((row["first_open"], row["last_open"]) for row in found[:3]) == sorted(times.values())
    assert (found[3]["first_open"], found[4]["last_open"]) == ("", "")
    by_state = {"person": ["ann"], "machine_only": ["ben", "cat"], "opened": ["ann", "ben", "cat"]}
    for state, wanted in {**by_state, "unopened": ["eve"]}.items():
        assert [row["recipient"] for row in join("--state", state)] == wanted

    lines = tmp_path / "list.ndjson"
    lines.write_text('{"recipient": "ann", "n": [1]}\n{"recipient": "eve"}\n')
    stack.run("recipients", "joined", "--join", str(lines), "--out", str(out))
    ann, eve = (json.loads(line) for line in out.read_text().splitlines())
    assert (ann["n"], ann["opens"], ann["verdict"]) == ([1], 1, "person")
    assert (eve["first_open"], eve["opens"], eve["verdict"]) == (None, 0, "unopened")

    stack.run("recipients", "joined", "--out", str(out))
    assert len(list(csv.DictReader(out.open(newline="")))) == 3
    stack.run("recipients", "joined", "--state", "unopened", "--out", str(out))
    assert len(list(csv.DictReader(out.open(newline="")))) == 1
    assert stack.run("audit").stdout.count("recipients.read") >= 7
    stack.run("campaign", "create", "only-counted", "--mode", "count")
    for campaign in ("only-counted", "none"):
        refused = cli("recipients", campaign, "--join", str(source), "--out", str(out), data=stack.data)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)


def test_cli_audience_counts_and_writes_a_file(stack: Stack, tmp_path: Path):
    source = tmp_path / "list.csv"
    source.write_text("recipient\nann\nben\n")
    for campaign in ("first", "second"):
        stack.run("campaign", "create", campaign)
    stack.run("campaign", "upload", "first", str(source))
    _, made = stack.call("POST", "/api/campaigns/second/links", {"recipients": ["ann"]})
    stack.get(made["links"][0]["url"].removeprefix(stack.address))
    until(lambda: json.loads(stack.run("audience", "second", "--json").stdout)["opened"] == [0, 1])
    counts = json.loads(stack.run("audience", "first", "second", "--json").stdout)
    assert (counts["recipients"], counts["opened"], counts["without_list"]) == (2, [1, 1, 0], ["second"])
    printed = cli("audience", "first", "second", data=stack.data)
    assert [line.split() for line in printed.stdout.splitlines()[1:]] == [
        [str(n), "of", "2", str(count)] for n, count in enumerate(counts["opened"])
    ]
    assert printed.stderr.startswith("pixel-server: second has no list")
    for opened, name in (("none", "out.csv"), ("any", "out.ndjson")):
        stack.run("audience", "first", "second", "--opened", opened, "--out", str(tmp_path / name))
    [ben] = csv.DictReader((tmp_path / "out.csv").open(newline=""))
    ann = json.loads((tmp_path / "out.ndjson").read_text())
    assert (ben["campaigns"], ben["opened"], ben["last_open"]) == ("1", "0", "")
    assert (ann["campaigns"], ann["opened"], ann["opens"]) == (2, 1, 1)
    missing = tmp_path / "missing.csv"
    refused = cli("audience", "second", "--opened", "none", "--out", str(missing), data=stack.data)
    assert_one_line(refused, "upload the list")
    assert not missing.exists()


def test_cli_upload_ctrl_c_ends_at_once(stack: Stack, tmp_path: Path):
    stack.run("campaign", "create", "endless")
    for wait in (0.0, 0.1, 0.3, 0.6):
        read, write = os.pipe()
        process = subprocess.Popen(
            [PROGRAM, "campaign", "upload", "endless", "-"],
            env={**os.environ, "PIXEL_DATA_DIR": str(stack.data)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
            stdin=read,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(read)
        with contextlib.suppress(BrokenPipeError), open(write, "w") as out:
            out.write("recipient\n")
            people = "".join(f"person-{n}\n" for n in range(2000))
            for _ in range(10):  # more than the pipe holds: it reads
                out.write(people)
            began, is_sent = time.monotonic(), False
            while process.poll() is None:
                out.write(people)
                if not is_sent and time.monotonic() > began + wait:
                    process.send_signal(signal.SIGINT)
                    is_sent = True
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert errors.strip() == "Aborted!"


def test_cli_settings_show_values_without_secrets(tmp_path: Path):
    chosen = {
        "PIXEL_TOKEN_DAYS": "30",
        "PIXEL_SECRET": "a-signing-key-of-mine",
        "REDIS_URL": "redis://127.0.0.1:6379/3?%70assword=hush",
        "PIXEL_QUEUE_URL": "redis://127.0.0.1:6379/4",
        "PIXEL_TOKEN_DAY": "30",
    }
    printed = program("settings", data=tmp_path, **chosen)
    warning = "PIXEL_TOKEN_DAY is not a setting and has no effect; did you mean PIXEL_TOKEN_DAYS?"
    assert warning in printed.stderr
    rows = {line.split()[0]: line.split(maxsplit=2)[1] for line in printed.stdout.splitlines()}
    assert rows["PIXEL_TOKEN_DAYS"] == "=30"
    assert rows["PIXEL_SHARDS"] == "4"
    assert rows["PIXEL_SECRET"] == rows["REDIS_URL"] == "=(set)"
    assert rows["PIXEL_QUEUE_URL"] == "=redis://127.0.0.1:6379/4"
    assert "hush" not in printed.stdout
    assert "signing-key" not in printed.stdout


def test_cli_link_works_offline(stack: Stack, tmp_path: Path):
    stack.run("campaign", "create", "offline")
    shutil.copy(stack.data / "secrets.json", tmp_path)
    assert_one_line(cli("link", "offline", "ada", data=tmp_path), "PIXEL_BASE_URL")

    by_setting = cli("link", "offline", "ada", data=tmp_path, PIXEL_BASE_URL=stack.address + "/")
    assert by_setting.stdout.startswith(f"{stack.address}/o/")
    shutil.copy(stack.data / "up.json", tmp_path)
    by_up = cli("link", "offline", "bob", "--json", data=tmp_path, REDIS_URL="redis://nobody.invalid:1/0")
    made = json.loads(by_up.stdout)
    assert made["recipient"] == "bob"
    assert f'src="{made["url"]}"' in made["html"]
    tag = cli("link", "offline", "eve", "--html", data=tmp_path).stdout.strip()
    assert tag.startswith(f'<img src="{stack.address}/o/')

    for url in (by_setting.stdout.strip(), made["url"], tag.split('"')[1]):
        assert stack.get(url) == (200, "recorded")
    until(lambda: stack.totals("offline")["unique_opens"] == 3)


def test_cli_link_with_unknown_secrets_is_refused(stack: Stack):
    other = {"PIXEL_SECRET": "another-signing-key-of-somebody"}
    assert_one_line(cli("link", "offline", "ada", data=stack.data, **other), "PIXEL_SECRET")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["campaign", "create", "Spring"], ["id", "a to z"]),
        (["campaign", "create", "spr\u0456ng"], ["id", "a to z"]),
        (["campaign", "create", b"\xff"], ["id", "a to z"]),
        (["campaign", "create", "x", "--name", ""], ["name"]),
        (["campaign", "create", "x", "--name", b"\xff"], ["name"]),
        (["campaign", "create", "x", "--sent", "-1"], ["sent"]),
        (["campaign", "create", "x", "--sent", "9" * 30], ["sent"]),
        (["campaign", "create", "x", "--time-zone", "../../etc/passwd"], ["--time-zone"]),
        (["campaign", "create", "x", "--base-url", "ftp://x"], ["--base-url"]),
        (["campaign", "show", "nobody"], ["no campaign 'nobody'"]),
        (["campaign", "show", b"\xff"], ["no campaign"]),
        (["campaign", "delete", "nobody", "--yes"], ["no campaign 'nobody'"]),
        (["audience", "nobody"], ["no campaign 'nobody'"]),
        (["audience", "a", "a", "--opened", "0"], ["CAMPAIGN names a campaign twice; --opened must be any"]),
        (["audience", "a", "--min-opens", "0", "--since", "x"], ["--since must be a day", "--min-opens"]),
        (["link", "Spring", "ada"], ["campaign", "a to z"]),
        (["link", "spring", ""], ["recipient", "must not be empty"]),
        (["link", "spring", "a" * 257], ["recipient", "at most 256"]),
        (["link", "spring", "a\nb"], ["recipient", "control characters"]),
        (["link", "spring", b"\xff"], ["recipient"]),
        (["key", "create", ""], ["name"]),
        (["key", "create", b"\xff"], ["name"]),
        (["key", "revoke", "nobody"], ["no key nobody"]),
        (["key", "revoke", b"\xff"], ["no key"]),
        (
            ["explain", "--ua", "x", "--ip", "192.0.2.1", "--header", "Referer"],
            ["--header 'Referer'", "value"],
        ),
    ],
)
def test_cli_bad_input_prints_one_line(stack: Stack, arguments: list[str | bytes], words: list[str]):
    run = program if any(isinstance(argument, bytes) for argument in arguments) else cli
    assert_one_line(run(*arguments, data=stack.data), *words)


def test_cli_refused_commands_change_nothing(stack: Stack):
    cli("campaign", "create", "left-nothing", "--sent", "-1", data=stack.data)
    assert "left-nothing" not in stack.run("campaign", "list").stdout


@pytest.mark.parametrize(
    "arguments", [["campaign", "create", "x", "--kind", "fax"], ["link"], ["key", "crate"]]
)
def test_cli_unknown_command_shows_usage(stack: Stack, arguments: list[str]):
    done = cli(*arguments, data=stack.data)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: pixel-server ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIXEL_SHARDS", "0"),
        ("PIXEL_TOKEN_DAYS", "many"),
        ("PIXEL_TRUSTED_PROXIES", "10.0.0.0/99"),
        ("PIXEL_BASE_URL", "example.org"),
        ("REDIS_URL", "example.org:6379"),
        ("PIXEL_SECRET", "short"),
        ("PIXEL_RECIPIENT_SECRET", "short"),
        ("PIXEL_API_KEY", "short"),
    ],
)
def test_cli_bad_setting_prints_one_line(tmp_path: Path, name: str, value: str):
    done = cli("campaign", "list", data=tmp_path, **{name: value})
    assert_one_line(done, name)
    assert "short" not in done.stderr


@pytest.mark.parametrize(
    "command", ["serve", "work", "up", "link a b", "key list", "settings", "spool status"]
)
def test_cli_every_command_refuses_a_bad_setting(tmp_path: Path, command: str):
    assert_one_line(program(*command.split(), data=tmp_path, PIXEL_SHARDS="0"), "PIXEL_SHARDS")


def test_cli_redis_absent_prints_one_line(tmp_path: Path):
    Secrets.load_or_create(tmp_path)
    for command in (["campaign", "list"], ["key", "list"], ["spool", "drain"]):
        done = cli(*command, data=tmp_path, REDIS_URL="redis://127.0.0.1:1/0")
        assert_one_line(done, "127.0.0.1:1", "does not answer")


@pytest.mark.parametrize(
    "command", [["link", "spring", "ada"], ["campaign", "list"], ["demo", "add"]], ids=lambda one: one[0]
)
def test_cli_missing_secrets_print_one_line(stack: Stack, tmp_path: Path, command: list[str]):
    wanted = {"PIXEL_BASE_URL": stack.address, "REDIS_URL": read_up_state(stack.data).redis_url}
    done = cli(*command, data=tmp_path / "elsewhere", **wanted)
    assert_one_line(done, f"no secrets in {tmp_path}/elsewhere", "PIXEL_DATA_DIR", "PIXEL_SECRET")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("command", ["settings", "--help", "networks list", "link spring ada"])
def test_cli_full_disk_at_stdout_prints_one_line(tmp_path: Path, command: str):
    Secrets.load_or_create(tmp_path)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, *command.split()],
            env={**os.environ, "PIXEL_DATA_DIR": str(tmp_path), "PIXEL_BASE_URL": "http://127.0.0.1:1"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "pixel-server: cannot write: No space left on device\n")


def test_cli_closed_pipe_is_silent(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [PROGRAM, "settings"], stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
    )
    os.close(write)
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["spool status", "check /dev/null"])
def test_cli_invalid_data_directory_prints_one_line(tmp_path: Path, command: str):
    done = cli(*command.split(), data=tmp_path / ("x" * 300))
    assert_one_line(done, "x" * 300, "File name too long")


def test_cli_unreadable_file_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "up.json").write_text("{}")
    (tmp_path / "secrets.json").write_text("{}")

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(settings.SettingsError, match=r"cannot read .*up\.json: Permission denied"):
        read_up_state(tmp_path)
    with pytest.raises(SecretsError, match=r"cannot read .*secrets\.json: Permission denied"):
        Secrets.load(tmp_path)


def test_cli_demo_without_store_creates_no_secrets(tmp_path: Path):
    assert_one_line(cli("demo", "add", data=tmp_path), "does not run with")
    assert list(tmp_path.iterdir()) == []


def test_cli_unreadable_secrets_print_one_line(tmp_path: Path):
    (tmp_path / "secrets.json").write_text("{}")
    done = cli("link", "spring", "ada", data=tmp_path, PIXEL_BASE_URL="http://127.0.0.1:1")
    assert_one_line(done, "secrets.json", "PIXEL_SECRET")
    assert (tmp_path / "secrets.json").read_text() == "{}"


def test_cli_notes_and_share_links(stack: Stack):
    stack.run("campaign", "create", "noted")
    printed = stack.run("note", "add", "noted", "mail sent", "--at", "2026-11-24T09:00:00Z").stdout
    note = as_json(stack, "note", "list", "noted")["items"][0]
    assert printed == f"noted {note['id']}\n"
    assert stack.run("note", "list", "noted").stdout == f"{note['id']}  2026-11-24T09:00:00Z  mail sent\n"
    assert (
        stack.run("note", "change", "noted", note["id"], "--text", "sent").stdout == f"changed {note['id']}\n"
    )
    assert as_json(stack, "note", "list", "noted")["items"] == [{**note, "text": "sent"}]
    assert stack.run("note", "remove", "noted", note["id"]).stdout == f"removed {note['id']}\n"
    assert as_json(stack, "note", "list", "noted") == {"items": [], "next": None}

    shared = stack.run("share", "create", "noted", "A partner")
    assert "only this machine can reach" in shared.stderr
    url = shared.stdout
    assert url.startswith(f"{stack.address}/s/")
    made = as_json(
        stack, *("share", "create", "noted", "For a page", "--expires", "2100-01-01T00:00:00Z"), "--frame",
        "https://www.example.org",
    )  # fmt: skip
    assert (made["frames"], made["made_by"]) == (["https://www.example.org"], "command line")
    listed = stack.run("share", "list", "noted").stdout.splitlines()
    assert sorted(line.split("  ", 1)[1] for line in listed) == [
        "2100-01-01T00:00:00Z  never used            For a page",
        "never expires         never used            A partner",
    ]
    assert stack.run("share", "revoke", "noted", made["id"]).stdout == f"revoked {made['id']}\n"
    assert len(as_json(stack, "share", "list", "noted")["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("note", "add", "nowhere", "x"), ("no campaign",)),
        (("note", "add", "nowhere", " "), ("text",)),
        (("note", "add", "nowhere", "x", "--at", "now"), ("--at",)),
        (("note", "list", "nowhere"), ("no campaign",)),
        (("note", "remove", "nowhere", "x"), ("no campaign",)),
        (("note", "change", "nowhere", "x", "--text", "y"), ("no campaign",)),
        (("note", "change", "nowhere", "x"), ("--text or --at",)),
        (("share", "create", "nowhere", "x"), ("no campaign",)),
        (("share", "create", "nowhere", "x", "--expires", "soon"), ("--expires", "2026-11-24")),
        (("share", "create", "nowhere", "x", "--frame", "example.org"), ("--frame",)),
        (("share", "list", "../nowhere"), ("no campaign",)),
        (("share", "revoke", "nowhere", "x"), ("no campaign",)),
    ],
)
def test_cli_invalid_notes_and_share_links_are_refused(
    stack: Stack, arguments: tuple[str, ...], words: tuple[str, ...]
):
    assert_one_line(cli(*arguments, data=stack.data), *words)

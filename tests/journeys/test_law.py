"""Presets and consents through the whole server: commands, links, counts, and what is on the disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from pixel_server.secret import Secrets
from pixel_server.store.client import connect
from pixel_server.tokens import Mode, Token, decode_unverified
from tests.disk import forms, search
from tests.in_process import StackInProcess
from tests.stack import READER, Stack, until

REF = "2026-05@2026-05-04T09:30:00Z"
ADDRESS = "198.51.100.77"


def token(url: str) -> Token:
    return decode_unverified(url.rpartition("/")[2].removesuffix(".gif").encode())


@pytest.fixture
def stack(data: Path) -> Iterator[Stack]:
    """Returns a running stack that takes addresses from X-Forwarded-For."""
    made = StackInProcess(data, PIXEL_TRUSTED_PROXIES="127.0.0.1")
    made.start()
    yield made
    made.stop()


def test_law_presets_store_what_they_say(stack: Stack, tmp_path: Path):
    secrets = Secrets.load(stack.data)
    for preset, mode in (("deliverability", "last"), ("aggregate", "count"), ("consented", "pseudonymous")):
        created = json.loads(stack.run("campaign", "create", preset, "--preset", preset, "--json").stdout)
        assert (created["preset"], created["mode"]) == (preset, mode)
        assert f"preset               {preset}" in stack.run("campaign", "show", preset).stdout
    refused = stack.run("campaign", "set", "deliverability", "--mode", "count", check=False)
    assert "the preset deliverability goes with the mode last" in refused.stderr

    # Links name only who may be told apart.
    ada, bob = (stack.run("link", "aggregate", who).stdout for who in ("ada", "bob"))
    assert (ada, token(ada.strip()).mode) == (bob, Mode.COUNT)
    lists = tmp_path / "list.csv"
    lists.write_text(f"recipient,consent_ref\nada,{REF}\nbob,\n")
    out = tmp_path / "links.csv"
    stack.run("link", "consented", "--recipients", str(lists), "--out", str(out))
    links = {row["recipient"]: row["pixel_url"] for row in csv.DictReader(out.open())}
    assert [token(links[who]).mode for who in ("ada", "bob")] == [Mode.PSEUDONYMOUS, Mode.COUNT]
    alone = stack.run("link", "consented", "ada")
    assert (token(alone.stdout.strip()).mode, alone.stderr) == (Mode.PSEUDONYMOUS, "")
    unknown = stack.run("link", "consented", "cyd")
    assert token(unknown.stdout.strip()).mode == Mode.COUNT
    assert "no consent of this recipient is stored" in unknown.stderr
    agreed = stack.run("link", "consented", "cyd", "--consent-ref", REF)
    assert token(agreed.stdout.strip()).mode == Mode.PSEUDONYMOUS
    wrong = stack.run("link", "consented", "cyd", "--consent-ref", "yes", check=False)
    assert "must be the version of the notice" in wrong.stderr
    assert stack.call("GET", "/api/campaigns/consented/stats")[1]["sent"] == 2

    # Of the last open, only the day is stored: nothing of it, and no address, is anywhere else on the disk.
    url = stack.run("link", "deliverability", "ada").stdout.strip()
    for opened in (url, url, agreed.stdout.strip(), links["bob"]):
        until(lambda opened=opened: stack.get(opened, **{"X-Forwarded-For": ADDRESS}) == (200, "recorded"))
    until(lambda: stack.totals("deliverability")["opens"] == 2)
    until(lambda: stack.totals("consented")["opens"] == 2)
    assert stack.totals("consented")["unique_opens"] == 1
    kept = stack.call("GET", f"/api/recipients/{secrets.recipient_key('ada').hex()}")[1]
    assert kept["last_open_day"]
    [row] = kept["campaigns"]
    assert (row["campaign"], row["opens"], row["consent_ref"]) == ("consented", 0, REF)
    gone = forms("address", ip_address(ADDRESS).packed, ADDRESS) | forms("agent", text=READER)
    gone |= forms("bob", secrets.recipient_key("bob"))
    with connect(json.loads((stack.data / "up.json").read_text())["redis_url"]) as client:
        client.bgrewriteaof()
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    until(lambda: search(stack.data, gone) == {})

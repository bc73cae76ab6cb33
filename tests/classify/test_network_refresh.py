"""Published lists are taken whole or not at all."""

from __future__ import annotations

import datetime
import os
import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.classify import network_fetch, network_refresh
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.network_refresh import NewList, make_list
from pixel_server.classify.networks import Networks, NetworksError, merge_ranges
from tests.publishers import GOOGLE, MICROSOFT, ROWS, apple_rows, csv, prefixes

TODAY = datetime.date(2026, 9, 21)


def make(name: str, *files: Path, **options: Any) -> NewList:
    return make_list(name, TODAY, files, **{"last_ranges": 0, **options})


def load(directory: Path, new: NewList) -> Networks:
    """Returns the lists with a new list in place of the shipped one."""
    (directory / f"{new.name}.txt").write_bytes(new.text)
    return Networks.load(refreshed=directory)


def test_published_lists_have_https_urls_and_bounds():
    for each in PUBLISHED.values():
        assert all(url.startswith("https://") for part in each.parts for url in part)
        assert 0 < each.min_rows < each.max_rows


def test_make_list_of_a_file_has_the_date_of_the_file(tmp_path):
    path = csv(tmp_path / "egress.csv", ["# a comment", "", *ROWS])
    os.utime(path, (1_788_000_000, 1_788_000_000))
    new = make("apple", path)
    assert (new.name, new.rows, new.date) == ("apple", 60_000, datetime.date(2026, 8, 29))
    found = load(tmp_path, new)
    [apple] = [each for each in found.lists if each.name == "apple"]
    assert (apple.ranges, apple.date, apple.owner) == (new.ranges, new.date, "refreshed")
    assert apple.source == "https://mask-api.icloud.com/egress-ip-ranges.csv (from a file)"
    assert found.names(ip_address("172.224.0.1").packed) == ("apple",)


def test_make_list_of_full_size_holds_each_row(tmp_path):
    rows = apple_rows(285_000)
    new = make("apple", csv(tmp_path / "egress.csv", rows))
    assert new.rows == 285_000
    assert new.ranges < 240_000, "all of IPv4 touches"
    found = load(tmp_path, new)
    for row in random.Random(1).sample(rows, 1000):
        network = row.partition("/")[0]
        assert found.names(ip_address(network).packed) == ("apple",)


def test_make_list_several_files_become_one_list(tmp_path):
    (tmp_path / "a.json").write_bytes(GOOGLE)
    (tmp_path / "b.json").write_bytes(prefixes("203.0.113.0/24", "66.249.64.0/27"))
    os.utime(tmp_path / "b.json", (1_788_000_000, 1_788_000_000))
    new = make("google", tmp_path / "a.json", tmp_path / "b.json")
    assert (new.rows, new.date) == (131, datetime.date(2026, 8, 29)), "as old as the oldest"
    found = load(tmp_path, new)
    for address in ("66.249.64.31", "203.0.113.1", "2001:4860:4801:10::1"):
        assert found.names(ip_address(address).packed) == ("google",)


def test_make_list_microsoft_has_only_the_mail_gateways(tmp_path):
    (tmp_path / "endpoints.json").write_bytes(MICROSOFT)
    new = make("microsoft-eop", tmp_path / "endpoints.json")
    assert (new.rows, new.ranges) == (8, 7), "one network is in two sets"
    found = load(tmp_path, new)
    for address in ("40.93.255.255", "104.47.0.1", "2a01:111:f400::1"):
        assert found.names(ip_address(address).packed) == ("microsoft-eop",)
    assert found.names(ip_address("13.107.6.152").packed) == (), "people's webmail"
    assert found.names(ip_address("52.96.0.1").packed) == (), "a set that has people's webmail too"


RANGES = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 600)).map(sorted).map(tuple), min_size=1, max_size=8
)


@given(ranges=RANGES, base=st.sampled_from([(4, 0x01000000), (4, 0xDFFFFD00), (6, 0x2001 << 112)]))
def test_written_any_ranges_are_the_fewest_networks(ranges, base):
    family, first = base
    merged = merge_ranges((first + low, first + high) for low, high in ranges)
    address = IPv4Address if family == 4 else IPv6Address
    expected = [
        network for low, high in merged for network in summarize_address_range(address(low), address(high))
    ]
    written = network_refresh._written({4: [], 6: [], family: merged})
    assert [ip_network(text) for text in written] == expected


def test_written_ends_of_the_address_space_are_written():
    everything = {4: [(0, 2**32 - 1)], 6: [(0, 0), (2**128 - 2, 2**128 - 1)]}
    last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"
    assert list(network_refresh._written(everything)) == ["0.0.0.0/0", "::/128", last]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*ROWS, "192.0.2.300/32,US,,,"], "row 60001: '192.0.2.300/32' is not a network"),
        (["network,country", *ROWS], "row 1: 'network' is not a network"),
        ([*ROWS, "<!DOCTYPE html>"], "is not a network"),
        ([*ROWS, ",US,,,"], "'' is not a network"),
        ([*ROWS, "172.224.0.1/24"], "bits set"),
        (ROWS[:49_999], "49,999 rows, where 50,000 to 1,000,000 are expected"),
        ([], "no rows"),
        ([*ROWS, "16.0.0.0/7"], "'16.0.0.0/7' is wider than /8"),
        ([*ROWS, "0.0.0.0/0"], "wider"),
        ([*ROWS, "10.0.0.0/8"], "apple: 10.0.0.0/8 is not a public network"),
        ([*ROWS, "192.168.7.1"], "apple: 192.168.7.1/32 is not a public network"),
        ([*ROWS, "127.0.0.1"], "not a public network"),
        ([*ROWS, "224.0.0.0/8"], "not a public network"),
        ([*ROWS, "fe80::/64"], "apple: fe80::/64 is not a public network"),
        ([*ROWS, "::1"], "not a public network"),
        ([*ROWS, "::ffff:10.0.0.1"], "apple: 10.0.0.1/32 is not a public network"),
        ([*ROWS, "2a02::/15"], "'2a02::/15' is wider than /16"),
        ([*ROWS, "::/0"], "wider"),
        ([*ROWS, *(f"{n}.0.0.0/9" for n in (11, 12, 13))], "more IPv4 addresses than a /8"),
        ([*ROWS, "2a03::/17", "2a04::/17", "2a05::/17"], "more IPv6 addresses than a /16"),
    ],
)
def test_make_list_bad_rows_raise(tmp_path, rows, why):
    with pytest.raises(NetworksError) as raised:
        make("apple", csv(tmp_path / "egress.csv", rows))
    assert why in str(raised.value)
    assert str(raised.value).isprintable()


def test_make_list_last_row_is_cut_raises(tmp_path):
    path = tmp_path / "egress.csv"
    path.write_text("\n".join(ROWS)[: -len("6f7:ffff:e::/64,DE,DE-BY,München,")])
    with pytest.raises(NetworksError, match="row 60000"):
        make("apple", path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a list of prefixes"),
        (b"<html>", "not a list of prefixes"),
        (b"[]", "not a list of prefixes"),
        (b'{"prefixes": {}}', "not a list of prefixes"),
        (b'{"other": []}', "not a list of prefixes"),
        (b'{"prefixes": []}', "no rows"),
        (b'{"prefixes": [7]}', "not a list of prefixes"),
        (b'{"prefixes": [{"ipv4Prefix": 7}]}', "not a list of prefixes"),
        (
            b'{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"service": "x"}]}',
            "prefixes[1]: '' is not a network",
        ),
        (b'{"x": ' + b"[" * 100_000, "not a list of prefixes"),
        (b'{"prefixes": [{"ipv4Prefix": "\xff"}]}', "not a list of prefixes"),
        (GOOGLE[:-9], "not a list of prefixes"),
        (prefixes("192.0.2.0/24", "192.0.2.0"), "2 rows, where 100"),
        (prefixes(*["192.0.2.0/24"] * 100, "192.0.2.0/x"), "prefixes[100]: '192.0.2.0/x' is not a network"),
    ],
)
def test_make_list_bad_json_raises(tmp_path, data, why):
    (tmp_path / "bot.json").write_bytes(data)
    with pytest.raises(NetworksError) as raised:
        make("google", tmp_path / "bot.json")
    assert why in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>", "not a list of endpoints"),
        (b"{}", "not a list of endpoints"),
        (b"[]", "no rows"),
        (b'[{"ips": ["192.0.2.0/24"]}]', "no rows"),
        (b'[{"urls": ["outlook.office.com"], "ips": ["192.0.2.0/24"]}]', "no rows"),
        (MICROSOFT.replace(b"40.107.0.0/16", b"40.107.0.0/x"), "[2].ips: '40.107.0.0/x' is not a network"),
        (b'[{"urls": ["*.mx.microsoft"], "ips": ["192.0.2.0/24"]}]', "1 rows, where 4"),
        (MICROSOFT[:-9], "not a list of endpoints"),
    ],
)
def test_make_list_bad_endpoints_raise(tmp_path, data, why):
    (tmp_path / "endpoints.json").write_bytes(data)
    with pytest.raises(NetworksError) as raised:
        make("microsoft-eop", tmp_path / "endpoints.json")
    assert why in str(raised.value)


def test_make_list_unreadable_or_large_file_raises(tmp_path, monkeypatch):
    with pytest.raises(NetworksError, match="No such file"):
        make("apple", tmp_path / "none.csv")
    with pytest.raises(NetworksError, match="Is a directory"):
        make("apple", tmp_path)
    monkeypatch.setattr(network_fetch, "MAX_BYTES", 1 << 20)
    with pytest.raises(NetworksError, match="more than 1 MB"):
        make("apple", csv(tmp_path / "egress.csv", ROWS))


def test_make_list_too_many_rows_raises(tmp_path):
    (tmp_path / "bot.json").write_bytes(prefixes(*["192.0.2.0/24"] * 100_001))
    with pytest.raises(NetworksError, match="more than 100,000 rows"):
        make("google", tmp_path / "bot.json")


def test_make_list_much_smaller_than_the_last_raises_unless_accepted(tmp_path):
    (tmp_path / "bots.json").write_bytes(prefixes(*(f"20.171.{2 * n}.0/28" for n in range(100))))
    assert make("openai", tmp_path / "bots.json", last_ranges=142).ranges == 100
    with pytest.raises(NetworksError) as raised:
        make("openai", tmp_path / "bots.json", last_ranges=143)
    assert str(raised.value) == (
        "openai: only 100 ranges, and the list in use has 143; if that is right, run "
        "`pixel-server networks refresh openai --accept-smaller`"
    )
    assert make("openai", tmp_path / "bots.json", last_ranges=1000, accept_smaller=True).ranges == 100


def test_make_list_several_addresses_become_one_list(publishers, tmp_path, monkeypatch):
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish("/google/new/a.json", GOOGLE)
    publishers.answers["/google/new/b.json"] = (302, {"Location": "/moved.json"}, b"")
    publishers.publish("/moved.json", prefixes("203.0.113.0/24"))
    new = make("google")
    assert (new.rows, new.date) == (130, TODAY)
    [google] = [each for each in load(tmp_path, new).lists if each.name == "google"]
    assert google.source == "https://developers.google.com/static/crawling/ipranges/"


@pytest.mark.parametrize("answer", [(404, {}, b"gone"), (200, {}, b"<html>"), (302, {"Location": "/"}, b"")])
def test_make_list_new_address_fails_uses_the_old_address(publishers, monkeypatch, answer):
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish("/google/new/a.json", GOOGLE)
    publishers.answers["/google/new/b.json"] = answer
    publishers.publish("/google/old/b.json", prefixes("203.0.113.0/24"))
    assert make("google").rows == 130


def test_make_list_part_fails_at_all_addresses_raises_with_both_reasons(publishers, monkeypatch):
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish("/google/new/a.json", GOOGLE)
    publishers.publish("/google/old/b.json", b"<html>")
    with pytest.raises(NetworksError, match=r"new/b\.json: HTTP Error 404.*old/b\.json: is not a list"):
        make("google")


def test_make_list_microsoft_each_request_has_another_id(publishers, monkeypatch):
    monkeypatch.setattr(network_refresh, "PUBLISHED", publishers.lists())
    publishers.publish("/endpoints", MICROSOFT)
    make("microsoft-eop")
    make("microsoft-eop")
    ids = [UUID(path.partition("clientrequestid=")[2]) for path, _ in publishers.requests]
    assert len(set(ids)) == 2
    assert all(each.version == 4 for each in ids), "random, and not of this machine"

"""Lists of networks: which lists hold an address, and errors of unusable lists."""

from __future__ import annotations

import datetime
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.classify.networks import (
    SHIPPED,
    Networks,
    NetworksError,
    list_names,
    merge_ranges,
    parse_network,
)

HEAD = "# source: a test\n# date: 2026-09-01\n# licence: none\n"


def write(directory: Path, name: str, *networks: object, head: str = HEAD) -> Path:
    path = directory / f"{name}.txt"
    path.write_text(head + "".join(f"{network}\n" for network in networks))
    return path


def names(networks: Networks, address: str) -> tuple[str, ...]:
    return networks.names(ip_address(address).packed)


@pytest.fixture
def none(tmp_path):
    """Returns a directory in which all lists are empty."""
    for name in list_names():
        write(tmp_path, name)
    return tmp_path


def v4(number: int, length: int) -> IPv4Network:
    return IPv4Network((number, length), strict=False)


def v6(number: int, length: int) -> IPv6Network:
    return IPv6Network((number, length), strict=False)


# Few addresses, so that networks overlap, touch and contain each other, also at both ends of the space.
FEW = st.integers(0, 511)
V4 = st.builds(v4, FEW.map(lambda n: n if n < 256 else 2**32 - 512 + n), st.integers(22, 32))
V6 = st.builds(v6, FEW.map(lambda n: n if n < 256 else 2**128 - 512 + n), st.integers(118, 128))
ANY = st.one_of(
    V4,
    V6,
    st.builds(v4, st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(v6, st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(lists=st.dictionaries(st.sampled_from(list_names()), st.lists(ANY, max_size=12), max_size=4))
def test_names_any_lists_agree_with_ipaddress(lists, tmp_path_factory):
    directory = tmp_path_factory.mktemp("lists")
    for name in list_names():
        write(directory, name, *lists.get(name, ()))
    found = Networks.load(directory)
    every = [network for networks in lists.values() for network in networks]
    edges = {
        (network.version, number)
        for network in every
        for end in (int(network.network_address), int(network.broadcast_address))
        for number in (end - 1, end, end + 1)
        if 0 <= number < 2**network.max_prefixlen
    }
    for version, number in edges | {(4, 0), (6, 0)}:
        address = ip_address(number.to_bytes(4 if version == 4 else 16, "big"))
        asked = getattr(address, "ipv4_mapped", None) or address
        held = [name for name, networks in lists.items() if any(asked in network for network in networks)]
        assert found.names(address.packed) == tuple(sorted(held))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=10))
def test_merge_ranges_hold_the_same_and_neither_overlap_nor_touch(spans):
    ranges = [(first, first + more) for first, more in spans]
    merged = merge_ranges(ranges)
    assert {n for first, last in merged for n in range(first, last + 1)} == {
        n for first, last in ranges for n in range(first, last + 1)
    }
    assert all(before[1] + 1 < after[0] for before, after in pairwise(merged))


@given(ANY)
def test_parse_network_any_network_gives_its_ends(network):
    ends = (int(network.network_address), int(network.broadcast_address))
    if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        ends = (ends[0] & 0xFFFFFFFF, ends[1] & 0xFFFFFFFF)
    assert parse_network(str(network))[1:] == ends


@pytest.mark.parametrize("tail", ["/", "/33", "/-1", "/+8", "/8/8", "/255.0.0.0", " /32", "\0", "/٨", "/0"])
def test_parse_network_bad_end_raises(tail):
    with pytest.raises(ValueError, match=r"is not a network|has bits set"):
        parse_network("1.2.3.4" + tail)


@pytest.mark.parametrize(
    "text", ["", "/8", "1.2.3", "01.2.3.4", "::/129", "::1/64", "fe80::1%eth0", "x.example", "\udcff"]
)
def test_parse_network_other_text_raises(text):
    with pytest.raises(ValueError, match=r"is not a network|has bits set"):
        parse_network(text)


def test_names_address_in_several_lists_returns_all(none):
    write(none, "apple", "192.0.2.0/24", "198.51.100.7", "2001:db8::/32")
    write(none, "cisco", "192.0.2.128/25", "2001:db8:1::/48")
    write(none, "google", "192.0.2.192/26")
    found = Networks.load(none)
    assert names(found, "192.0.1.255") == ()
    assert names(found, "192.0.2.0") == names(found, "192.0.2.127") == ("apple",)
    assert names(found, "192.0.2.128") == names(found, "192.0.2.191") == ("apple", "cisco")
    assert names(found, "192.0.2.192") == names(found, "192.0.2.255") == ("apple", "cisco", "google")
    assert names(found, "192.0.3.0") == ()
    assert [names(found, f"198.51.100.{n}") for n in (6, 7, 8)] == [(), ("apple",), ()]
    assert names(found, "2001:db8::1") == ("apple",)
    assert names(found, "2001:db8:1:ffff:ffff:ffff:ffff:ffff") == ("apple", "cisco")
    assert names(found, "2001:db9::") == ()


def test_names_mapped_address_counts_as_ipv4(none):
    write(none, "apple", "192.0.2.0/24", "::/0")
    write(none, "cisco", "::ffff:203.0.113.0/120")
    found = Networks.load(none)
    assert names(found, "::ffff:192.0.2.1") == ("apple",)
    assert names(found, "::ffff:198.51.100.1") == (), "IPv6 networks hold no IPv4 address"
    assert names(found, "203.0.113.9") == names(found, "::ffff:203.0.113.9") == ("cisco",)
    assert names(found, "::192.0.2.1") == ("apple",)


def test_names_bytes_that_are_no_address_return_nothing(none):
    write(none, "apple", "0.0.0.0/0", "::/0")
    found = Networks.load(none)
    assert found.names(b"") == found.names(b"\1\2\3") == found.names(b"\0" * 15) == ()
    assert names(found, "255.255.255.255") == names(found, "ffff:" * 7 + "ffff") == ("apple",)


def test_load_list_has_its_head_and_ranges(none):
    write(none, "cisco", "192.0.2.0/25", "192.0.2.128/25  # the other half", "", "# done", "2001:db8::/32")
    [cisco] = [each for each in Networks.load(none).lists if each.name == "cisco"]
    assert (cisco.ranges, cisco.source, cisco.licence, cisco.owner) == (2, "a test", "none", "operator")
    assert cisco.date == datetime.date(2026, 9, 1)
    assert cisco.age_days(datetime.date(2026, 9, 11)) == 10
    assert cisco.age_days(datetime.date(2026, 8, 1)) == 0, "a clock that is behind"


def test_load_own_list_replaces_the_shipped_list(tmp_path):
    assert names(Networks.load(), "209.222.82.1") == ("barracuda",)
    write(tmp_path, "barracuda", "192.0.2.0/24")
    found = Networks.load(tmp_path)
    assert names(found, "209.222.82.1") == ()
    assert names(found, "192.0.2.1") == ("barracuda",)
    assert names(found, "40.107.1.1") == ("microsoft-eop",), "the others stay"
    assert [each.name for each in found.lists if each.owner == "operator"] == ["barracuda"]


def test_load_own_list_comes_before_the_refreshed_list(tmp_path):
    own, refreshed = tmp_path / "networks", tmp_path / "networks-refreshed"
    own.mkdir()
    refreshed.mkdir()
    write(refreshed, "apple", "192.0.2.0/24")
    write(refreshed, "google", "198.51.100.0/24")
    write(own, "apple", "203.0.113.0/24")
    found = Networks.load(own, refreshed)
    assert names(found, "192.0.2.1") == ()
    assert names(found, "203.0.113.1") == ("apple",)
    assert names(found, "198.51.100.1") == ("google",)
    assert {each.name: each.owner for each in found.lists if each.owner != "shipped"} == {
        "apple": "operator",
        "google": "refreshed",
    }
    (own / "apple.txt").unlink()
    assert found.have_changed()
    assert names(found.reloaded(), "192.0.2.1") == ("apple",)


def test_load_unusable_refreshed_list_is_left_out(tmp_path, caplog):
    (tmp_path / "barracuda.txt").write_text("half of a li")
    found = Networks.load(refreshed=tmp_path)
    assert names(found, "209.222.82.1") == ("barracuda",)
    assert "this refreshed list of networks is left out" in caplog.text


def test_version_changes_with_the_networks_and_with_nothing_else(none):
    version = Networks.load(none).version
    assert re.fullmatch("[0-9a-f]{8}", version)
    write(none, "cisco", head=HEAD.replace("2026-09-01", "2026-09-08"))
    assert Networks.load(none).version == version, "another date"
    write(none, "cisco", "192.0.2.0/24")
    added = Networks.load(none).version
    write(none, "cisco", "192.0.2.0/24  # a comment")
    assert Networks.load(none).version == added != version
    write(none, "cisco")
    write(none, "google", "192.0.2.0/24")
    assert Networks.load(none).version not in (version, added), "in another list"


def test_load_files_of_other_names_are_not_read(tmp_path):
    for name in (".apple.txt.123", "office", "apple.txt"):
        (tmp_path / f"{name}.txt").write_text("no list at all")
    (tmp_path / ".apple.txt.9").write_text("half of a li")
    assert Networks.load(tmp_path).lists == Networks.load().lists == Networks.load(tmp_path / "none").lists


def test_load_windows_line_ends_and_byte_order_mark_are_read(none):
    (none / "cisco.txt").write_bytes(
        b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + b"192.0.2.0/24\r\n"
    )
    assert names(Networks.load(none), "192.0.2.9") == ("cisco",)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (HEAD + "192.0.2.0/24\n\n192.0.2.0/33\n", 6, "is not a network"),
        (HEAD + "192.0.2.1/24\n", 4, "bits set"),
        (HEAD + "192.0.2.0/24 and more\n", 4, "is not a network"),
        (HEAD + "<html>\n", 4, "is not a network"),
        (HEAD + "\x0b\n1\x85\n", 5, "is not a network"),
        ("# source: x\n# date: yesterday\n", 2, "YYYY-MM-DD"),
        ("# source: x\n# date: 2026-02-30\n", 2, "is not a day"),
        ("# source: x\n192.0.2.0/24\n", 1, "# date:"),
        ("# date: 2026-09-01\n192.0.2.0/24\n", 1, "# source:"),
        ("", 1, "# date:"),
        (HEAD + "x" * 10_000 + "\n", 4, "is not a network"),
    ],
)
def test_load_bad_file_raises_one_line_with_file_and_line(tmp_path, text, line, why):
    (tmp_path / "apple.txt").write_text(text)
    with pytest.raises(NetworksError) as raised:
        Networks.load(tmp_path)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path}/apple.txt:{line}: ")
    assert why in said
    assert said.isprintable()
    assert len(said) < len(str(tmp_path)) + 200


def test_load_file_that_is_no_text_raises(tmp_path):
    (tmp_path / "apple.txt").write_bytes(HEAD.encode() + b"192.0.2.0/24\n\xff\xfe\n")
    with pytest.raises(NetworksError, match=r"apple\.txt:5: must be UTF-8"):
        Networks.load(tmp_path)


def test_load_directory_in_place_of_a_file_raises(tmp_path):
    (tmp_path / "apple.txt").mkdir()
    with pytest.raises(NetworksError, match=r"apple\.txt: Is a directory"):
        Networks.load(tmp_path)


def test_have_changed_file_added_replaced_or_removed_returns_true(tmp_path):
    directory = tmp_path / "networks"
    found = Networks.load(directory)
    assert not found.have_changed()
    directory.mkdir()
    assert not found.have_changed()
    path = write(directory, "apple", "192.0.2.0/24")
    assert found.have_changed()
    found = Networks.load(directory)
    assert not found.have_changed()
    (directory / ".apple.txt.7").write_text("a draft")
    assert not found.have_changed()
    before = path.stat().st_mtime_ns
    write(directory, "apple", "192.0.3.0/24")
    os.utime(path, ns=(before + 1, before + 1))
    assert found.have_changed(), "of the same size"
    found = Networks.load(directory)
    path.unlink()
    assert found.have_changed()
    assert not Networks.load(directory).have_changed()
    assert not Networks.load().have_changed()


def test_shipped_lists_have_source_date_and_licence():
    found = Networks.load()
    about = {each.name: each for each in found.lists}
    assert list(about) == [
        "apple",
        "barracuda",
        "cisco",
        "google",
        "microsoft-eop",
        "mimecast",
        "openai",
        "proofpoint",
    ]
    assert all(each.source and each.licence and each.owner == "shipped" for each in found.lists)
    assert [name for name, each in about.items() if not each.ranges] == ["apple", "google", "openai"]
    for name in ("cisco", "mimecast", "proofpoint"):
        assert "CC BY 4.0" in about[name].licence, "attribution is owed"
        assert about[name].date == datetime.date(2026, 6, 17)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("67.231.152.1", "proofpoint"),
        ("148.163.135.255", "proofpoint"),
        ("2620:100:9001::1", "proofpoint"),
        ("205.139.111.117", "mimecast"),
        ("2a02:5be0:4::1", "mimecast"),
        ("216.71.140.1", "cisco"),
        ("68.232.149.255", "cisco"),
        ("209.222.80.0", "barracuda"),
        ("209.222.87.255", "barracuda"),
        ("40.92.0.0", "microsoft-eop"),
        ("40.93.255.255", "microsoft-eop"),
        ("104.47.127.255", "microsoft-eop"),
        ("52.238.78.88", "microsoft-eop"),
        ("2a01:111:f403::1", "microsoft-eop"),
    ],
)
def test_shipped_lists_hold_known_scanners(address, name):
    assert names(Networks.load(), address) == (name,)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "2001:4860:4860::8888", "35.190.247.1", "66.249.93.1"),  # Google at large
        *("52.96.0.1", "52.98.10.2", "40.96.0.1", "40.104.1.1", "13.107.6.152", "132.245.1.1"),  # Outlook
        *("40.91.255.255", "40.94.0.0", "40.108.0.0", "104.47.128.0", "52.104.0.0", "52.238.78.89"),
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "0.0.0.0", "255.255.255.255", "2a01:111:f402::"),
        *("209.222.79.255", "209.222.88.0", "17.0.0.1"),
    ],
)
def test_shipped_lists_hold_no_networks_of_people(address):
    assert names(Networks.load(), address) == ()


def test_shipped_files_have_the_same_form():
    for name in list_names():
        lines = (SHIPPED / f"{name}.txt").read_text().splitlines()
        assert [line.split(":")[0] for line in lines[:3]] == ["# source", "# date", "# licence"]
        networks = [ip_network(line) for line in lines if not line.startswith("#")]
        assert networks == sorted(networks, key=lambda network: (network.version, network))

"""`work --metrics`: addresses that cannot be used."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from pixel_server.addresses import parse_host_port
from pixel_server.cli import main


@pytest.mark.parametrize(
    "address", ["9100", ":9100", "localhost", "localhost:", "::1:x", "127.0.0.1:70000", "a:0"]
)
def test_work_metrics_address_that_is_none_is_one_line(address: str):
    done = CliRunner().invoke(main, ["work", "--metrics", address])
    assert done.exit_code == 2
    assert "must be an address and a port, such as 127.0.0.1:9100" in done.output


def test_work_metrics_port_in_use_is_one_line(redis_url: str, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = {"REDIS_URL": redis_url, "PIXEL_DATA_DIR": str(tmp_path)}
        done = CliRunner().invoke(main, ["work", "--metrics", address], env=environ)
    assert done.exit_code == 1
    assert "Address already in use; choose another port" in done.output


def test_parse_host_port_takes_both_families():
    assert parse_host_port("0.0.0.0:9100") == ("0.0.0.0", 9100)
    assert parse_host_port("[::1]:9100") == ("::1", 9100)

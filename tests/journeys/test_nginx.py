"""The nginx configuration of docs/operating.md, in front of a running server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.stack import READER, Stack, free_port, until

DOCS = Path(__file__).parents[2] / "docs" / "operating.md"
ROWS = 60_000


def documented_configuration() -> str:
    """Returns the blocks `upstream` and `server` of the docs."""
    block = re.search(
        r"^    upstream pixels \{.*?^    \}\n    server \{.*?^    \}\n", DOCS.read_text(), re.M | re.S
    )
    assert block is not None
    return textwrap.dedent(block[0])


@pytest.fixture
def nginx() -> str:
    """Returns the path of nginx. Without nginx, skips the test, or fails the test if CI is set."""
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        missing = "nginx is missing: apt-get install nginx-light"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest.fixture
def proxied(nginx: str, tmp_path: Path):
    """Returns a running server behind nginx. Its `address` is that of nginx."""
    port = free_port()
    address = f"https://127.0.0.1:{port}/px"
    stack = Stack(tmp_path / "data", PIXEL_BASE_URL=address, PIXEL_TRUSTED_PROXIES="127.0.0.1")
    stack.start()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-keyout", str(tmp_path / "site.key"), "-out", str(tmp_path / "site.pem")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    blocks = documented_configuration()
    for documented, here in (
        ("127.0.0.1:8000", f"127.0.0.1:{stack.port}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/example.org.pem", str(tmp_path / "site.pem")),
        ("/etc/ssl/example.org.key", str(tmp_path / "site.key")),
    ):
        assert documented in blocks
        blocks = blocks.replace(documented, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    configuration = tmp_path / "nginx.conf"
    main = f"daemon off; pid {tmp_path}/nginx.pid; events {{}}"
    configuration.write_text(f"{main}\nhttp {{\naccess_log off;\n{temporary}{blocks}}}\n")
    proxy = subprocess.Popen([nginx, "-c", str(configuration), "-e", str(tmp_path / "nginx.log")])
    stack.address = address
    try:
        until(lambda: curl(f"{address}/healthz")[0] == "200")
        yield stack
    finally:
        proxy.terminate()
        proxy.wait(60)
        stack.stop()


def curl(url: str, *options: str) -> tuple[str, str, str]:
    """Requests a URL over HTTP/2. Returns (status, HTTP version, content)."""
    done = subprocess.run(
        ["curl", "-sk", "--http2", "-w", "\n%{http_code} %{http_version}", *options, url],
        capture_output=True, text=True, errors="replace", check=False, timeout=120,
    )  # fmt: skip
    content, _, last = done.stdout.rpartition("\n")
    status, version = last.split()
    return status, version, content


def test_nginx_documented_block_passes_pixels_and_long_lists(proxied: Stack, tmp_path: Path):
    api = f"{proxied.address}/api/campaigns"
    key = ("--oauth2-bearer", proxied.key)
    campaign = json.dumps({"id": "fair", "name": "Fair", "kind": "email"})
    made = curl(api, *key, "--json", campaign)
    assert made[:2] == ("201", "2")
    recipients = tmp_path / "list.csv"
    recipients.write_text("recipient\n" + "".join(f"visitor-{n}@fair.example.org\n" for n in range(ROWS)))
    assert recipients.stat().st_size > 1_500_000
    sent = ("-X", "PUT", "-H", "Content-Type: text/csv", "--data-binary", f"@{recipients}")
    status, version, content = curl(f"{api}/fair/recipients", *key, *sent)
    assert (status, version, json.loads(content)["new"]) == ("200", "2", ROWS)
    links = curl(f"{api}/fair/links", *key, "--json", json.dumps({"recipients": ["ada"]}))
    url = json.loads(links[2])["links"][0]["url"]
    assert url.startswith(f"{proxied.address}/o/")
    head = curl(url, "-A", READER, "-o", "/dev/null", "-D", "-")
    assert head[:2] == ("200", "2")
    assert "x-pixel: recorded" in head[2].lower()

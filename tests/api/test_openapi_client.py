"""A client that openapi-python-client generates from the document of a running server, and its calls."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import API_KEY
from tests.dashboard.live_server import LiveServer

CONFIG = {
    "post_hooks": [],
    "content_type_overrides": dict.fromkeys(
        ("image/gif", "text/csv", "application/x-ndjson"), "application/octet-stream"
    ),
}
"""Configuration of the generator. Without the overrides it leaves out the upload, as docs/api.md says."""


@pytest.fixture
def server(settings, secrets):
    server = LiveServer(settings, secrets)
    yield server
    server.stop()


@pytest.fixture
def generated(server, tmp_path, monkeypatch):
    """Returns a function that returns a module of the generated client: `generated("models")`."""
    address = f"http://127.0.0.1:{server.port}"
    place = tmp_path / "pixel_client"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    made = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"),
            *("--url", f"{address}/api/openapi.json", "--output-path", str(place)),
            *("--config", str(tmp_path / "config.json"), "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name: importlib.import_module(f"pixel_client.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pixel_client"]:
        del sys.modules[name]


def test_openapi_generated_client_calls_a_running_server(server, generated):
    models, types = generated("models"), generated("types")
    address = f"http://127.0.0.1:{server.port}"
    client = generated("client").AuthenticatedClient(base_url=address, token=API_KEY)

    def call(name, *arguments, **options):
        return generated(f"api.default.{name}").sync(*arguments, client=client, **options)

    made = call(
        "create_campaign",
        body=models.NewCampaign(
            id="autumn", name="Autumn", kind=models.NewCampaignKind.EMAIL, sent=3, time_zone="Europe/Berlin"
        ),
    )
    assert (made.id, made.sent, made.identity, made.time_zone) == ("autumn", 3, None, "Europe/Berlin")
    page = models.NewCampaign(id="blog", name="Blog", kind=models.NewCampaignKind.WEB)
    assert call("create_campaign", body=page).identity == models.CampaignIdentityType1.COOKIELESS
    assert [item.id for item in call("list_campaigns", limit=1).items] == ["autumn"]
    assert call("show_campaign", "blog").origins == []

    page.id, page.name = "x", " "
    refused = call("create_campaign", body=page)
    assert (refused.status, refused.errors[0].field) == (422, "name")
    assert call("show_campaign", "nowhere").status == 404

    links = call("make_links", "autumn", body=models.Recipients(recipients=["ada", "bob"]))
    with urllib.request.urlopen(links.links[0].url.replace("http://pixel.test", address)) as answer:
        assert answer.headers["X-Pixel"] == "recorded"
    list_ = types.File(payload=io.BytesIO(b"recipient\nada\ncleo\n"))
    assert call("upload_recipients", "autumn", body=list_).new == 2

    stats = call("show_stats", "autumn", interval=models.ShowStatsInterval.DAY)
    assert (stats.sent, stats.delivered, stats.totals.opens) == (3, 3, 0)
    assert call("show_breakdowns", "blog").by.page == []
    assert call("show_overview").total == 2
    made_key = call("create_key", body=models.KeyRequest(name="partner", scopes=["read:blog"]))
    assert [key.id for key in call("list_keys").items][-1] == made_key.id
    assert call("readyz").recorder.stored == 1
    assert call("delete_campaign", "blog") is None
    assert call("show_campaign", "blog").status == 404

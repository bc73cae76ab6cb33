"""The campaigns that `link` and `embed` find, and their warnings about unknown campaigns."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.commands import minting
from pixel_server.consent import Consent
from pixel_server.mail.placement import pixels
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import client as store
from pixel_server.store import compatibility
from pixel_server.tokens import Mode, decode_unverified

ADA = "ada@example.org"
HTML = b"<body>Hi</body>"
WARNED = "pixel-server: there is no campaign 'sprnig' yet: its first open will create it\n"


@pytest.fixture
def act(redis_url, settings, tmp_path):
    """Calls a function with the store of these secrets. Returns its REDIS_URL."""
    secrets = Secrets.load(tmp_path / "data")

    def run(what=None):
        async def on() -> None:
            client = store.connect_async(redis_url)
            try:
                await compatibility.check_store(client, redis_url, settings.shards, secrets)
                await (what(client) if what else asyncio.sleep(0))
            finally:
                await client.aclose()

        asyncio.run(on())
        return redis_url

    return run


@pytest.mark.parametrize("command", ["link", "embed"])
def test_minting_unknown_campaign_warns_and_makes_the_link(offline, act, tmp_path, command):
    redis_url = act(lambda client: storage.create(client, new_campaign("spring", "Spring", "email")))
    known = offline(command, "spring", ADA, stdin=HTML, REDIS_URL=redis_url)
    assert (known.exit_code, known.stderr) == (0, "")
    mistyped = offline(command, "sprnig", ADA, stdin=HTML, REDIS_URL=redis_url)
    assert (mistyped.exit_code, mistyped.stderr) == (0, WARNED)
    silent = offline(command, "sprnig", ADA, stdin=HTML, REDIS_URL="redis://127.0.0.1:1/0")
    assert (silent.exit_code, silent.stderr) == (0, "")
    if command == "embed":
        [pixel] = pixels(mistyped.stdout_bytes)
        assert pixel.token.campaign == "sprnig"
    else:
        assert mistyped.stdout.startswith("https://pixel.example.org/o/")
        assert mistyped.stdout.count("\n") == 1

    (tmp_path / "list.csv").write_text(f"recipient\n{ADA}\nbob@example.org\n")
    of_list = ("--recipients", tmp_path / "list.csv", "--out", tmp_path / "out")
    listed = offline(command, "sprnig", *of_list, stdin=HTML, REDIS_URL=redis_url)
    uncounted = "pixel-server: the mails are not counted as sent: there is no campaign 'sprnig'\n"
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", WARNED + uncounted)


def test_minting_deleted_campaign_warns_that_opens_do_not_count(offline, act, settings):
    async def make_and_delete(client):
        await storage.create(client, new_campaign("spring", "Spring", "email"))
        await deletion.delete(client, "spring", settings.shards)

    done = offline("link", "spring", ADA, REDIS_URL=act(make_and_delete))
    assert done.exit_code == 0
    assert done.stderr == "pixel-server: the campaign 'spring' was deleted: no open of it is counted\n"


@pytest.fixture(params=["store", "file"])
def known(request, act, tmp_path):
    """Stores campaigns, as (id, kind, mode), in a store or in a data directory. Returns a REDIS_URL."""

    def know(*made):
        found = [new_campaign(name, name, kind, mode=mode) for name, kind, mode in made]
        if request.param == "file":
            (tmp_path / "data").mkdir(exist_ok=True)
            directory = CampaignCache(None, Consent(Settings()))
            for campaign in found:
                directory.learn(campaign)
            directory.save(tmp_path / "data" / CACHE_FILE)
            return "redis://127.0.0.1:1/0"

        async def create(client):
            for campaign in found:
                await storage.create(client, campaign)

        return act(create)

    return know


@pytest.mark.parametrize("command", ["link", "embed"])
def test_minting_web_campaign_is_refused(offline, known, command):
    redis_url = known(("docs", "web", "pseudonymous"))
    done = offline(command, "docs", ADA, stdin=HTML, REDIS_URL=redis_url)
    said = "pixel-server: 'docs' is a web campaign: its pixel is the same for all; see docs/web.md\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)


def test_minting_uses_the_mode_of_the_campaign(offline, known):
    redis_url = known(("all", "email", "count"), ("last", "email", "last"), ("none", "email", "off"))

    def link(campaign, recipient):
        done = offline("link", campaign, recipient, REDIS_URL=redis_url)
        assert done.exit_code == 0
        return done.stdout

    def token(url):
        return decode_unverified(url.strip().rpartition("/")[2].removesuffix(".gif").encode())

    assert token(link("all", ADA)) == token(link("all", "bob@example.org"))
    assert (token(link("all", ADA)).mode, token(link("last", ADA)).mode) == (Mode.COUNT, Mode.LAST)
    assert link("none", ADA) == ""
    done = offline("embed", "none", ADA, stdin=HTML, REDIS_URL=redis_url)
    said = "pixel-server: the mode of 'none' is off: no link is made\n"
    assert (done.exit_code, done.stdout_bytes, done.stderr) == (0, HTML, said)


def test_minting_store_of_another_server_is_ignored(offline, act, redis_url, tmp_path):
    assert offline("link", "sprnig", ADA, REDIS_URL=redis_url).stderr == "", "nobody's store"
    act()
    Secrets.load_or_create(tmp_path / "other")
    other = {"PIXEL_DATA_DIR": str(tmp_path / "other"), "REDIS_URL": redis_url}
    assert offline("link", "sprnig", ADA, **other).stderr == ""


def test_minting_hung_store_is_given_up_soon(offline, monkeypatch):
    asked = []
    connect = store.connect
    monkeypatch.setattr(
        store, "connect", lambda url, *, timeout: asked.append(timeout) or connect(url, timeout=timeout)
    )
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"redis://127.0.0.1:{hung.getsockname()[1]}/0"
        done = offline("link", "sprnig", ADA, REDIS_URL=url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert asked == [minting.STORE_TIMEOUT_SECONDS]
    assert minting.STORE_TIMEOUT_SECONDS < 0.5

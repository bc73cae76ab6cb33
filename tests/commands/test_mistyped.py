"""What `link` and `embed` know of a campaign, and say of one that is not there."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pixel_server.campaigns import storage
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
    """Does something with the store, which is that of these secrets."""
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
def test_a_mistyped_campaign_is_warned_about_and_the_link_is_made(offline, act, tmp_path, command):
    redis_url = act(lambda client: storage.create(client, new_campaign("spring", "Spring", "email")))
    known = offline(command, "spring", ADA, stdin=HTML, REDIS_URL=redis_url)
    assert (known.exit_code, known.stderr) == (0, "")
    mistyped = offline(command, "sprnig", ADA, stdin=HTML, REDIS_URL=redis_url)
    assert (mistyped.exit_code, mistyped.stderr) == (0, WARNED)
    silent = offline(command, "sprnig", ADA, stdin=HTML, REDIS_URL="redis://127.0.0.1:1/0")
    assert (silent.exit_code, silent.stderr) == (0, "")
    if command == "embed":
        [found] = pixels(mistyped.stdout_bytes)
        assert found.token.campaign == "sprnig"
    else:
        assert mistyped.stdout.startswith("https://pixel.example.org/o/")
        assert mistyped.stdout.count("\n") == 1

    (tmp_path / "list.csv").write_text(f"recipient\n{ADA}\nbob@example.org\n")
    of_list = ("--recipients", tmp_path / "list.csv", "--out", tmp_path / "out")
    listed = offline(command, "sprnig", *of_list, stdin=HTML, REDIS_URL=redis_url)
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", WARNED), "warned once"


def test_a_deleted_campaign_is_not_said_to_be_made_again(offline, act, settings):
    async def make_and_delete(client):
        await storage.create(client, new_campaign("spring", "Spring", "email"))
        await storage.delete(client, "spring", settings.shards)

    done = offline("link", "spring", ADA, REDIS_URL=act(make_and_delete))
    assert done.exit_code == 0
    assert done.stderr == "pixel-server: the campaign 'spring' was deleted: no open of it is counted\n"


@pytest.fixture(params=["store", "file"])
def known(request, act, tmp_path):
    """Makes campaigns known: (id, kind, mode) to a store that answers, or to a data directory without one.
    Gives a REDIS_URL."""

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
def test_a_web_campaign_has_no_links(offline, known, command):
    redis_url = known(("docs", "web", "pseudonymous"))
    done = offline(command, "docs", ADA, stdin=HTML, REDIS_URL=redis_url)
    said = "pixel-server: 'docs' is a web campaign: one pixel for all its pages; see docs/web.md\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)


def test_links_are_of_the_campaigns_mode(offline, known):
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


def test_another_servers_store_says_nothing(offline, act, redis_url, tmp_path):
    assert offline("link", "sprnig", ADA, REDIS_URL=redis_url).stderr == "", "nobody's store"
    act()
    Secrets.load_or_create(tmp_path / "other")
    other = {"PIXEL_DATA_DIR": str(tmp_path / "other"), "REDIS_URL": redis_url}
    assert offline("link", "sprnig", ADA, **other).stderr == ""


def test_a_store_that_hangs_is_not_waited_for(offline, monkeypatch):
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

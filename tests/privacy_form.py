"""Links of mails and the form of the privacy page, for the tests of withdrawals and of the page."""

from __future__ import annotations

import pytest

from pixel_server.mail.links import Minter
from pixel_server.store import keys

DAY = "2025-06-10"


@pytest.fixture
def link(secrets, clock):
    """Returns a function that mints a link, by default for the recipient ada of the campaign mail."""
    minter = Minter("http://pixel.test", secrets)
    clock.at(f"{DAY}T08:00Z")

    def link(recipient="ada", campaign="mail", **options):
        return minter.link(campaign, recipient, now=clock.now, **options)

    return link


@pytest.fixture
def press(site):
    """Returns a function that presses a button of a link's page and returns the page that follows."""

    def press(link, action, **headers):
        token = link.privacy_url.partition("t=")[2]
        return site.post("/privacy", data={"t": token, "do": action}, headers=headers)

    return press


def store_bytes(client):
    """Returns every byte that the store holds."""
    return b"".join(key + client.dump(key) for key in client.keys("px:*"))


def generations(client):
    """Returns the generation of each shard's checkpoint."""
    return [client.hget(keys.checkpoint(shard), "n") for shard in range(4)]


def actions(site):
    """Returns the log of recipients' actions, as the API shows it."""
    return site.get("/api/audit/recipients").json()

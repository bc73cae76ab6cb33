"""Fixtures and functions for tests of the privacy page: links of mails, the page's form, and what is stored.

A pytest plugin, which tests/conftest.py loads, so that every test can use the fixtures.
"""

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
    """Returns a function that presses a button on a link's privacy page, and returns the next page."""

    def press(link, action, **headers):
        token = link.privacy_url.partition("t=")[2]
        return site.post("/privacy", data={"t": token, "do": action}, headers=headers)

    return press


def store_bytes(client):
    """Returns all keys of the store, each with its dumped value."""
    return b"".join(key + client.dump(key) for key in client.keys("px:*"))


def generations(client):
    """Returns the generation of each shard's checkpoint."""
    return [client.hget(keys.checkpoint(shard), "n") for shard in range(4)]


def actions(site):
    """Returns the log of recipients' actions, as the API shows it."""
    return site.get("/api/audit/recipients").json()

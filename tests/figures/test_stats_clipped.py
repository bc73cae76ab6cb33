"""`clipped` of stats: mails with two pixels whose lower pixel never came."""

from __future__ import annotations

import pytest

from pixel_server.counters.recipient_record import BOTTOM, TOP, RecipientRecord, pack
from pixel_server.store import keys
from pixel_server.tokens import Mode, Part
from tests.figures.test_stats_opens import CURL, GMAIL, opens, settings  # noqa: F401 - fixtures
from tests.stack import READER


@pytest.fixture
def load(opens):  # noqa: F811
    """Loads parts of a recipient's mail, at a minute past nine."""

    def load(minute, who, *parts, agent=READER, **more):
        for part in parts:
            opens(f"2026-03-01T09:{minute:02}Z", who, agent, part=part, **more)

    return load


def test_clipped_top_without_bottom_gives_the_share(mail, load, stats):
    mail()
    assert stats("mail")["clipped"] is None
    load(1, "ada", Part.SINGLE)
    assert stats("mail")["clipped"] is None
    load(2, "bob", Part.TOP)
    load(2, "cyd", Part.TOP, Part.BOTTOM)
    assert stats("mail")["clipped"] == {"share": 0.5, "of": 2}
    load(3, "dan", Part.BOTTOM)  # not an open
    assert stats("mail")["clipped"] == {"share": 0.5, "of": 2}
    load(4, "dan", Part.TOP, agent=GMAIL)
    assert stats("mail")["clipped"] == {"share": 0.3333, "of": 3}
    load(5, "bob", Part.BOTTOM)  # bob expanded the mail
    load(6, "cyd", Part.TOP, Part.TOP, Part.BOTTOM)
    assert stats("mail")["clipped"] == {"share": 0.0, "of": 3}
    assert stats("mail")["totals"]["unique_opens"] == 4


def test_clipped_machine_loads_are_not_counted(mail, load, stats):
    mail()
    load(1, "ada", Part.TOP, Part.BOTTOM, agent=CURL)
    assert stats("mail")["clipped"] is None
    load(2, "ada", Part.TOP)
    load(2, "bob", Part.BOTTOM, Part.TOP)
    assert stats("mail")["clipped"] == {"share": 0.5, "of": 2}
    load(3, "ada", Part.BOTTOM)
    assert stats("mail")["clipped"] == {"share": 0.0, "of": 2}


def test_clipped_burst_takes_its_recipient_back(mail, load, stats):
    mail()
    load(1, "ada", Part.TOP, Part.BOTTOM)
    for n in range(2):
        load(5, "bob", Part.TOP, address=f"198.51.100.{n}")
    assert stats("mail")["clipped"] == {"share": 0.5, "of": 2}
    load(5, "bob", Part.TOP, address="198.51.100.9")
    assert stats("mail")["clipped"] == {"share": 0.0, "of": 1}
    load(20, "bob", Part.TOP)
    assert stats("mail")["clipped"] == {"share": 0.5, "of": 2}


def test_clipped_not_known_is_null(mail, page, load, stats):
    mail()
    load(1, "ada", Part.TOP, mode=Mode.COUNT)
    load(1, "ada", Part.TOP, mode=Mode.LAST)
    load(1, "ada", Part.TOP, test=True)
    assert stats("mail")["clipped"] is None
    load(2, "ada", Part.TOP)
    assert stats("mail")["clipped"] == {"share": 1.0, "of": 1}
    assert stats("mail", from_="2026-03-01", to="2026-03-02")["clipped"] is None
    page()
    assert stats("page")["clipped"] is None


def test_clipped_older_records_are_not_counted(mail, load, stats, client, secrets):
    """Older records lose no count, and count from their next hit on."""
    mail()
    for who, flags in (("ada", TOP), ("bob", TOP | BOTTOM)):
        load(1, who, Part.SINGLE)
        stats("mail")
        key = secrets.recipient_key(who)
        [name] = [name for name in client.keys("px:*:people:*") if client.hexists(name, key)]
        at = int.from_bytes(client.hget(name, key)[3:7], "big")
        client.hset(name, key, b"\x96\x02" + pack(RecipientRecord(at, at, 1, flags, 1, at))[2:])
    load(2, "ada", Part.BOTTOM)
    load(2, "bob", Part.SINGLE)
    assert stats("mail")["clipped"] == {"share": 0.0, "of": 2}


def test_clipped_campaign_deleted_leaves_nothing(mail, load, stats, site, client):
    mail()
    load(1, "ada", Part.TOP)
    stats("mail")
    assert any(client.hget(keys.total(shard, "mail"), "recipients_clipped") for shard in range(4))
    site.delete("/api/campaigns/mail")
    assert client.keys("px:*:mail*") == []

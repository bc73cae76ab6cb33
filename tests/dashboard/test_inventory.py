"""The page of the stored data: what leads, what is folded, and its words."""

from __future__ import annotations

import re

from tests.dashboard.test_pages import assert_harmless


def test_inventory_page_folds_empty_kinds_and_settings(reader, mail, opened, stats):
    mail()
    opened("2026-09-20T09:00Z")
    stats("mail")
    answer = reader.get("/kept")
    assert_harmless(answer)
    first, *folded = re.split("<details.*?><summary>", answer.text)
    assert [re.sub(r"\d+", "N", text.partition("<")[0]) for text in folded] == [
        "N kinds of data with nothing stored now",
        "N settings of retention and consent",
    ]
    assert int(folded[0].partition(" ")[0]) == folded[0].partition("</details>")[0].count('<th scope="row">')
    assert '<th scope="row">recipients<' in first
    assert '<th scope="row">names<' in folded[0]
    assert "PIXEL_KEEP_DAYS_NAMES" in folded[1]


def test_inventory_page_has_one_word_for_hits_and_for_webhooks(reader):
    text = re.sub("<.*?>", " ", reader.get("/kept").text.partition("<main")[2]).lower()
    assert "hits that are waiting on disk" in text
    assert "log of webhooks" in text
    for word in ("requests", "log of deliveries", "endpoint"):
        assert word not in text

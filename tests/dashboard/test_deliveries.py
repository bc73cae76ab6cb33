"""The page of mail services: keys that are missing, optional or set."""

from __future__ import annotations

import re

import pytest

from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL, Page, assert_harmless


def key_cells(answer):
    """Returns the text of the cell of the key by the name of the service."""
    rows = re.findall("<tr><th scope=.row.*?</tr>", answer.text, re.S)
    cells = [(re.search("<bdi>(.*?)<", row)[1], row.partition('data-label="Key">')[2]) for row in rows]
    return {name: re.sub("<.*?>", "", cell.partition("</td>")[0]) for name, cell in cells}


def test_deliveries_page_sets_a_needed_and_an_optional_key(site, reader, send):
    for provider in ("sendgrid", "brevo"):
        assert send("/deliveries", provider=provider, name=provider).status_code == 200
    page = reader.get("/deliveries")
    assert_harmless(page)
    cells = key_cells(page)
    assert cells["sendgrid"].startswith("not set: no report is taken")
    assert cells["brevo"].startswith("not set, not needed")
    ids = {item["name"]: item["id"] for item in site.get("/api/deliveries/sources").json()["items"]}
    labels = {label["for"] for label in Page(page).all("label") if label["for"].startswith("key-")}
    assert labels == {f"key-{ident}" for ident in ids.values()}
    saved = send("/deliveries", f"/deliveries/{ids['brevo']}/key", key="anna:secret")
    assert saved.headers["location"] == "/deliveries?done=saved"
    assert key_cells(reader.get("/deliveries"))["brevo"] == "set"
    refused = send("/deliveries", provider="brevo", name="n" * 201, key="no key")
    assert (refused.status_code, wrong(refused).keys()) == (422, {"name", "key"})
    refused = send("/deliveries", f"/deliveries/{ids['sendgrid']}/key", key="no key")
    assert refused.status_code == 422


def test_deliveries_page_remove_asks_first(site, reader, send):
    send("/deliveries", provider="brevo", name="Shop & co")
    [source] = site.get("/api/deliveries/sources").json()["items"]
    path = f"/deliveries/{source['id']}/remove"
    assert path in [link["href"] for link in Page(reader.get("/deliveries")).all("a")]
    asked = assert_harmless(reader.get(path))
    assert "Remove this mail service?" in asked.text
    assert "Shop & co" in asked.text
    assert site.get("/api/deliveries/sources").json()["items"]
    assert send(path).headers["location"] == "/deliveries?done=source_removed"
    assert site.get("/api/deliveries/sources").json()["items"] == []
    assert reader.get(path).status_code == 404


@pytest.mark.parametrize("text", EVIL)
def test_deliveries_page_hostile_texts_are_harmless(site, reader, send, text):
    assert_harmless(send("/deliveries", provider="sendgrid", name=text))
    [source] = site.get("/api/deliveries/sources").json()["items"]
    assert_harmless(reader.get(f"/deliveries/{source['id']}/remove"))
    assert_harmless(send("/deliveries", provider=text, name=text, key=text))

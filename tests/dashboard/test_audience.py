"""The page of audiences: counts, downloads, and bad input."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from pixel_server.dashboard import audience
from pixel_server.mail.links import Minter
from tests.dashboard.test_pages import EVIL, Page, assert_harmless
from tests.figures.test_recipients import LIST

MEDIA = {"csv": "text/csv", "ndjson": "application/x-ndjson"}


@pytest.fixture
def story(site, mail, page, clock, secrets, stats):
    """Fills two mailings and a site: ada opened both, bob one, cyd none. `bare` has no list."""
    page(name="Our site")
    mail(id="listed", name=EVIL[0], mode="identified")
    mail(id="bare")
    body = "".join(json.dumps({"recipient": who, "name": f"={who}"}) + "\n" for who in ("ada", "bob", "cyd"))
    assert site.put("/api/campaigns/listed/recipients", content=body, headers=LIST).is_success
    minter = Minter("http://pixel.test", secrets)
    for campaign, who in (("listed", "ada"), ("listed", "bob"), ("bare", "ada")):
        site.get(minter.url(campaign, who, now=clock.now))
    stats("listed")


def counts(answer):
    """Returns the recipients by number of opened campaigns."""
    return [int(text) for text in re.findall(r'of \d+</th><td class="n">(\d+)<', answer.text)]


def test_audience_page_counts_and_offers_files(story, reader):
    answer = reader.get("/audience?id=listed&id=bare&opened=all")
    assert answer.status_code == 200
    page = assert_harmless(answer)
    assert counts(answer) == [1, 1, 1]
    assert "of 3 recipients opened all of these 2 campaigns: " in page.text
    assert "No list is known of bare" in page.text
    links = [link["href"] for link in page.all("a") if "download" in link]
    for link, ending in zip(links, MEDIA, strict=True):
        file = reader.get(link)
        assert (file.status_code, file.headers["content-type"].partition(";")[0]) == (200, MEDIA[ending])
        assert file.headers["content-disposition"] == f'attachment; filename="audience.{ending}"'
    [row] = csv.DictReader(io.StringIO(reader.get(links[0]).text))
    assert (row["recipient"], row["name"], row["opened"]) == ("ada", "'=ada", "2")


def test_audience_page_names_the_openers_by_machine_among_those_not_seen(
    story, site, reader, secrets, clock, stats
):
    url = Minter("http://pixel.test", secrets).url("listed", "cyd", now=clock.now)
    site.get(url, headers={"User-Agent": ""})
    stats("listed")
    page = assert_harmless(reader.get("/audience?id=listed&opened=none"))
    text = " ".join(page.text.split())
    question = (
        rf" 1 ?of 3 recipients did not open this campaign: {re.escape(EVIL[0])}\. Counted: opens by a person"
    )
    assert re.search(question, text), "the large number is that of the table"
    assert counts(reader.get("/audience?id=listed&opened=none")) == [1, 2]
    assert re.search(r" 0 ?Not opened by anybody: .* 1 ?Machines only or Not known: ", text)
    csvs = [link["href"] for link in page.all("a") if "recipients.csv" in link["href"]]
    sizes = [reader.get(link).text.count("\r\n") - 1 for link in csvs]
    assert sizes == [0, 1], "those who did not open, and with them those whom a machine hides"
    left = reader.get("/audience?id=listed&opened=none&state=opened")
    assert counts(left) == [0, 3]
    assert "may have read it" not in left.text


def test_audience_page_agrees_with_the_recipients_page_but_for_who_withdrew(story, site, reader):
    def shown():
        page = " ".join(Page(reader.get("/audience?id=listed&opened=none")).text.split())
        return re.search(r"(\d+) ?of \d recipients? did not open this campaign", page)[1], page

    unopened = site.get("/api/campaigns/listed/recipients/counts").json()["unopened"]
    number, page = shown()
    assert (number, "more recipient" in page) == (str(unopened), False)
    site.post("/api/withdrawals", json={"recipients": ["ada"]})
    assert "1 more recipient withdrew, so a campaign" in shown()[1]


def test_audience_page_of_many_recipients_counts_if_asked(story, reader, monkeypatch):
    monkeypatch.setattr(audience, "COUNTED_AT_ONCE", 0)
    answer = reader.get("/audience?id=listed&opened=none")
    assert counts(answer) == []
    [link] = [link["href"] for link in Page(answer).all("a") if link["href"].endswith("&count=1")]
    assert counts(reader.get(link)) == [1, 2]


def test_audience_page_offers_mailings_that_keep_recipients(story, site, mail, reader):
    mail(id="dim", mode="count")
    offered = [box["value"] for box in Page(reader.get("/audience")).all("input") if box.get("name") == "id"]
    assert sorted(offered) == ["bare", "listed"]
    compare = Page(reader.get("/compare?id=listed&id=bare"))
    assert "/audience?id=listed&id=bare" in [link["href"] for link in compare.all("a")]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("id=nothing", 404, "There is no campaign “nothing”."),
        ("id=listed&id=page", 409, "Page keeps no recipients: only an email campaign"),
        ("id=listed&id=page&min_opens=0", 422, "Page keeps no recipients: only an email campaign"),
        ("id=nothing&id=page", 404, "Page keeps no recipients: only an email campaign"),
        ("id=bare&opened=none", 409, "It is not known who did not open the mail"),
        ("&".join(f"id=c{n}" for n in range(21)), 422, "Choose at most 20 campaigns."),
        ("id=listed&opened=2", 422, "Opened must be any, all, none"),
        ("id=listed&min_opens=0", 422, "Times must be a whole number from 1 to 1,000."),
        ("id=listed&since=soon", 422, "Since must be a day or a time"),
        ("id=listed&since=soon&min_opens=many", 422, "Times must be a whole number from 1 to 1,000."),
        ("id=listed&id=nothing&opened=2&since=soon", 404, "Since must be a day or a time"),
    ],
)
def test_audience_page_bad_query_says_what_to_change(story, reader, query, status, text):
    answer = reader.get(f"/audience?{query}")
    assert answer.status_code == status
    assert text in assert_harmless(answer).text
    fields = [each for each in Page(answer).all("input") if each.get("aria-invalid")]
    assert {each["name"] for each in fields} == {name for name in ("min_opens", "since") if name in query}
    for each in fields:
        assert each["type"] == "text" or each["value"].isdigit(), "the refused value is seen"
        assert f"{each['name']}={each['value']}" in query
    assert reader.get(f"/audience/recipients.csv?{query}").status_code in (404, 409, 422)


def test_audience_page_needs_the_scope_people(story, made_key, sign_in):
    reader = sign_in(made_key("read")[1])
    for path in ("/audience", "/audience/recipients.csv?id=listed"):
        assert reader.get(path).status_code == 403
    assert "/audience" not in reader.get("/compare").text

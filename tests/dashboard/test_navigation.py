"""The navigation: the links at the top of each page, the breadcrumbs, and the page of settings."""

from __future__ import annotations

import re

import pytest

from pixel_server.dashboard import permissions
from pixel_server.dashboard.routes import PAGES
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

SETTINGS = ["/keys", "/deliveries", "/webhooks", "/kept", "/withdrawals", "/recipients", "/audit"]


def links(answer, label):
    """Returns the links of a `<nav>`, as (address, text)."""
    found = re.search(rf'<nav[^>]*aria-label="{label}".*?</nav>', answer.text, re.DOTALL)
    return re.findall(r'<a href="([^"]*)"[^>]*>(?:<bdi>)?([^<]*)<', found[0]) if found else []


def test_navigation_has_campaigns_compare_and_settings(reader):
    wanted = [("/", "Campaigns"), ("/compare", "Compare"), ("/settings", "Settings")]
    for path in ("/", "/compare", "/settings", "/keys"):
        assert links(reader.get(path), "Pages") == wanted


def test_settings_lists_the_pages_behind_it(reader):
    page = assert_harmless(reader.get("/settings"))
    assert [link["href"] for link in page.all("a") if link["href"] in SETTINGS] == SETTINGS
    for path in SETTINGS:
        answer = reader.get(path)
        assert answer.status_code == 200
        assert [address for address, _ in links(answer, "Settings")] == SETTINGS
        assert links(answer, "Breadcrumbs") == [("/settings", "Settings")]


def test_settings_without_scope_people_lists_no_pages_on_people(made_key, sign_in):
    reader = sign_in(made_key("read")[1])
    found = [link["href"] for link in Page(reader.get("/settings")).all("a")]
    assert {reader.get(path).status_code for path in found if path.startswith("/")} == {200}
    assert [path for path in found if path in SETTINGS] == ["/keys", "/deliveries", "/webhooks", "/kept"]
    assert [address for address, _ in links(reader.get("/keys"), "Settings")] == [
        "/keys",
        "/deliveries",
        "/webhooks",
        "/kept",
    ]


def test_settings_with_a_key_of_one_campaign_is_refused(mail, made_key, sign_in):
    mail()
    reader = sign_in(made_key("read:mail")[1])
    assert reader.get("/settings").status_code == 403
    assert links(reader.get("/"), "Pages") == [("/", "Campaigns")]


@pytest.mark.parametrize(
    ("path", "has_name"),
    [
        ("", False),
        *((path, True) for path in ("/recipients", "/pixel", "/shares", "/edit", "/delete")),
    ],
)
def test_breadcrumbs_of_a_campaign_lead_back(mail, reader, path, has_name):
    mail(name=EVIL[0])
    answer = reader.get(f"/campaigns/mail{path}")
    assert_harmless(answer)
    name = ("/campaigns/mail", "&lt;script&gt;alert(1)&lt;/script&gt;")
    assert links(answer, "Breadcrumbs") == [("/", "Campaigns"), *([name] if has_name else [])]


def test_refused_pages_name_the_action_and_the_permission(sign_in, made_key, mail):
    mail()
    visitor = sign_in(made_key("read")[1])
    for page in PAGES:
        if page.scope in ("write", "people") and page.method == "GET":
            assert page.action, page.path
            path = page.path.format(id="mail", key="0" * 16, share="0" * 12, source="0" * 10)
            said = Page(visitor.get(path)).text
            name = permissions.NAMES[page.scope]
            assert f"You need the permission “{name}” ({page.scope}) to {page.action}, and" in said


def test_pages_that_take_something_away_ask_first():
    """The note of a campaign is left out: its button stands inside “Edit”, and its text is one line."""
    pages = {(page.method, page.path) for page in PAGES}
    ends = ("/delete", "/revoke", "/remove", "/erase", "/disable")
    taking = [path for method, path in pages if method == "POST" and path.endswith(ends)]
    taking.remove("/campaigns/{id}/notes/{note}/remove")
    assert len(taking) == 7
    assert [path for path in taking if ("GET", path) not in pages] == []
    assert ("POST", "/withdrawals/end/ask") in pages

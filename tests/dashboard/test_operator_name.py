"""Pages for people outside show the operator's name, PIXEL_OPERATOR."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.settings import Settings
from tests.dashboard.test_pages import Page, assert_harmless

EVIL = "<img src=x onerror=alert(1)> & Co"


URL = "https://acme.example"


@pytest.fixture(params=["Acme", URL, EVIL, None, "  "])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return replace(settings, operator=request.param)


def test_pages_outside_show_the_operator(settings: Settings, site, mail, visitor: TestClient):
    """Without an operator, no page has a part of a sentence that would name the operator."""
    mail()
    shared = site.post("/api/campaigns/mail/shares", json={"name": "A partner"}).json()["url"]
    for path in (shared.removeprefix("http://pixel.test"), "/sign-in"):
        answer = visitor.get(path)
        page = Page(answer) if settings.operator == URL else assert_harmless(answer)
        if not (settings.operator or "").strip():
            assert not re.search(r"shared by|the operator:|web pages for|None", page.text)
            continue
        assert settings.operator in page.text
        links = [attrs["href"] for attrs in page.all("a") if "acme" in attrs["href"]]
        assert links == ([URL] if settings.operator == URL else [])

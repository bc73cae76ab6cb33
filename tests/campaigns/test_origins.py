"""Origins: which texts are accepted, what they become, and which pages they let in."""

from __future__ import annotations

import re

import pytest

from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.campaigns.origins import PATTERN, is_listed, normalise
from pixel_server.collect import beacon
from pixel_server.consent import Consent
from pixel_server.settings import Settings


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://shop.example.org", "https://shop.example.org"),
        ("https://shop.example.org:443", "https://shop.example.org"),
        ("http://shop.example.org:80/", "http://shop.example.org"),
        ("https://shop.example.org:00443", "https://shop.example.org"),
        ("https://shop.example.org:80", "https://shop.example.org:80"),
        ("http://localhost:08080", "http://localhost:8080"),
        (" HTTPS://Shop.Example.ORG/ ", "https://shop.example.org"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://\uff33hop.example", "https://shop.example"),
        ("http://[2001:DB8:0:0::1]:80", "http://[2001:db8::1]"),
        ("https://*.Example.org:443", "https://*.example.org"),
        ("*.example.org", "*.example.org"),
        ("*.example.org:8443", "*.example.org:8443"),
        ("*.example.org:443", "https://*.example.org"),
        ("*.example.org:080", "http://*.example.org"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://192.0.2.1.", "http://192.0.2.1"),
        ("https://\ufeffexam\u00adple.org\u200b", "https://example.org"),
        ("https://example.org:443\u200b", "https://example.org"),
    ],
)
def test_normalise_origin_is_as_a_browser_sends_it(text: str, origin: str):
    assert normalise(text) == origin
    assert normalise(origin) == origin
    assert re.search(PATTERN, origin) or "[" in origin


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "example.org",
            "https://",
            "https://*",
            "*",
            "null",
            "ftp://example.org",
            "https://example.org/a",
        ),
        *(
            "https://a@example.org",
            "https://example.org?x",
            "https://example.org:99999",
            "https://a b.example",
        ),
        *(
            "https://www.*.example.org",
            "https://*example.org",
            "https://a.example; script-src *",
            "https://.",
        ),
        *("https://.example.org", "https://example..org", "https://example.org:0", "https://*.192.0.2.1"),
        *("http://127.1", "http://0x7f.1", "http://192.0.2.010", "http://2130706433", "http://192.0.2.256"),
        *("http://*.[::1]", "http://[::g]", "http://[::1", "https://a.example\nhttps://b.example"),
    ],
)
def test_normalise_other_text_is_refused(text: str):
    with pytest.raises(ValueError, match="must be an origin"):
        normalise(text)


@pytest.mark.parametrize(
    ("origin", "listed", "is_welcome"),
    [
        ("https://a.example.org", "https://*.example.org", True),
        ("https://b.a.example.org", "https://*.example.org", True),
        ("https://example.org", "https://*.example.org", False),
        ("http://a.example.org", "https://*.example.org", False),
        ("http://a.example.org", "*.example.org", True),
        ("https://a.example.org:8443", "*.example.org", False),
        ("https://a.example.org:8443", "*.example.org:8443", True),
        ("https://notexample.org", "*.example.org", False),
        ("https://a.example.org.evil.example", "*.example.org", False),
        ("null", "*.example.org", False),
        ("chrome-extension://a.example.org", "*.example.org", False),
    ],
)
def test_is_listed_wildcard_stands_for_subdomains(origin: str, listed: str, is_welcome: bool):
    assert is_listed(origin, ("https://other.example", listed)) is is_welcome


def test_cache_origin_stored_by_an_earlier_version_matches():
    campaigns = CampaignCache(None, Consent(Settings()))
    old = ("https://example.org:443", "what no version accepts")
    campaigns.learn(new_campaign("shop", "Shop", "web", origins=old))
    assert beacon.is_allowed_origin(b"https://example.org", campaigns.web["shop"].origins)
    assert not beacon.is_allowed_origin(b"https://example.org:8443", campaigns.web["shop"].origins)


def test_api_origins_are_stored_as_a_browser_sends_them(web):
    given = ["https://Example.org:443/", "https://example.org", "*.example.org"]
    made = web.post("/api/campaigns", json={"id": "s", "name": "S", "kind": "web", "origins": given})
    assert made.json()["origins"] == ["https://example.org", "*.example.org"]
    for origin, status in (
        ("https://example.org", 200),
        ("https://shop.example.org", 200),
        ("https://example.com", 403),
    ):
        answer = web.post(
            "/p/s", content=b'{"i":"a"}', headers={"Content-Type": "text/plain", "Origin": origin}
        )
        assert answer.status_code == status

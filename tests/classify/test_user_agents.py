"""Client and device of an open, by its user agent. The names come from fixed lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.classify.user_agents import _BROWSERS, _PROGRAMS, facets
from pixel_server.counters.labels import OTHER, UNKNOWN

HERE = Path(__file__).parent
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0"


@pytest.mark.parametrize(
    ("agent", "client", "device"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0",
            "Thunderbird",
            "desktop",
        ),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.12026; Pro)", "Outlook", "desktop"),
        ("Outlook-iOS/711.2620504.prod.iphone (3.34.0)", "Outlook", "phone"),
        ("Outlook-Express/7.0 (MSIE 7.0; Windows NT 6.1)", "Windows Mail", "desktop"),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE}",
            UNKNOWN,
            "desktop",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {APPLE} Mobile/15E148",
            UNKNOWN,
            "phone",
        ),
        (
            f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {APPLE} Version/18.5 Safari/604.1",
            "Safari",
            "tablet",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36",
            "Chrome",
            "phone",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 13; SM-X700) {CHROME} Safari/537.36",
            "Chrome",
            "tablet",
        ),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/134.0",
            "Edge",
            "desktop",
        ),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Edg/137 OneOutlook/1.2", "Outlook", "desktop"),
        ("Outlook/16.16.18071205 CFNetwork/902.1 Darwin/17.7.0 (x86_64)", "Outlook", UNKNOWN),
        ("Outlook-Mac/16.80.1121", "Outlook", "desktop"),
        ("Android-Gmail/2024.05.12.634105105", "Gmail", "phone"),
        ("Gmail/6.0.240512 CFNetwork/1494.0.7 Darwin/23.4.0", "Gmail", UNKNOWN),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36 WebAppManager", "Chrome", "desktop"),
        ("Mail/3445.102.11 CFNetwork/902.2 Darwin/17.7.0 (x86_64)", "Apple Mail", UNKNOWN),
        ("Yahoo%20Mail/49268 CFNetwork/1121.2.2 Darwin/19.3.0", "Yahoo Mail", UNKNOWN),
        (f"Mozilla/5.0 (Windows NT 10.0) {CHROME} MailMasterPC/4.15 Safari/537.36", "Mail Master", "desktop"),
        (
            "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.1; Win64; x64; Trident/7.0; "
            "Media Center PC 6.0; Tablet PC 2.0; Microsoft Outlook 14.0.7113; ms-office; MSOffice 14)",
            "Outlook",
            "desktop",
        ),
        ("Mozilla/5.0 (Android 14; Tablet; rv:126.0) Gecko/126.0 Firefox/126.0", "Firefox", "tablet"),
        ("Nine/4.9", "Nine", UNKNOWN),
        ("Barca/2.8.4400", OTHER, UNKNOWN),
        ("", UNKNOWN, UNKNOWN),
    ],
)
def test_facets_agent_gives_client_and_device(agent, client, device):
    assert facets(agent) == (client, device)


NAMES = {*_PROGRAMS.values(), *_BROWSERS, "Outlook", OTHER, UNKNOWN}
KNOWN = [one["agent"] for one in json.loads((HERE / "mail_clients.json").read_text())["agents"]]


@given(st.text(max_size=80) | st.sampled_from(KNOWN), st.text(max_size=20))
def test_facets_any_agent_gives_names_of_fixed_lists(agent, more):
    found = facets(agent + more)
    assert found.client in NAMES
    assert found.device in ("desktop", "phone", "tablet", UNKNOWN)

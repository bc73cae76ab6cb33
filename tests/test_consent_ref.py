"""References of consent: `VERSION@TIME`."""

from __future__ import annotations

import pytest

from pixel_server import consent_ref
from pixel_server.consent_ref import ConsentRef


@pytest.mark.parametrize(
    ("text", "version", "shown"),
    [
        ("2026-05@2026-05-04T09:30:00Z", "2026-05", "2026-05@2026-05-04T09:30:00Z"),
        (" notice 3 @2026-05-04T11:30:00+02:00 ", "notice 3", "notice 3@2026-05-04T09:30:00Z"),
        ("a@b@2026-05-04t09:30:00z", "a@b", "a@b@2026-05-04T09:30:00Z"),
        ("é" * 100 + "@2026-05-04T09:30:00Z", "é" * 100, "é" * 100 + "@2026-05-04T09:30:00Z"),
    ],
)
def test_consent_ref_parse_returns_version_and_time(text: str, version: str, shown: str):
    parsed = consent_ref.parse(text)
    assert parsed == ConsentRef(version, 1_777_887_000)
    assert str(parsed) == shown
    assert consent_ref.parse(shown) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "yes", "2026-05", "@2026-05-04T09:30:00Z", " @2026-05-04T09:30:00Z"),
        *("2026-05@", "2026-05@2026-05-04", "2026-05@2026-05-04T09:30:00", "2026-05@yesterday"),
        *("a\n@2026-05-04T09:30:00Z", "\ud800@2026-05-04T09:30:00Z", "v" * 101 + "@2026-05-04T09:30:00Z"),
        "2026-05@1969-12-31T23:59:59Z",
    ],
)
def test_consent_ref_parse_other_text_raises(text: str):
    with pytest.raises(ValueError, match=r"^must "):
        consent_ref.parse(text)

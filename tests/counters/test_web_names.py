"""Names of pages and sources, as strangers send them and as they are kept."""

from __future__ import annotations

import pytest

from pixel_server.counters import web_names


@pytest.mark.parametrize("given", ["(other)", "(none)", "(unknown)"])
def test_clean_reserved_name_loses_its_brackets(given):
    assert web_names.clean(given) == given.strip("()")
    assert web_names.source(f"https://a.example/?utm_source={given}", "").utm_source == given.strip("()")


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://site.example/a/b?c=d#e", "/a/b"),
        ("https://site.example", "/"),
        ("https://site.example?q", "/"),
        ("/path?x", "/path"),
        ("", "(unknown)"),
        ("javascript:alert(1)", "(unknown)"),
        ("about:blank", "(unknown)"),
        ("https://site.example/caf%C3%A9%00%E2%80%AE", "/caf\u00e9\ufffd\ufffd"),
        ("http://[::1]:8000/a", "/a"),
        ("https://[bad/a", "/a"),
        ("https://site.example/" + "\u00e9" * 200, "/" + "\u00e9" * 79),
    ],
)
def test_page_returns_the_path(url, page):
    assert web_names.page(url) == page


@pytest.mark.parametrize(
    ("url", "referrer", "source"),
    [
        ("https://a.example/", "https://www.b.example/x?y", ("b.example", "(none)", "(none)", "(none)")),
        ("https://a.example/", "https://a.example/x", ("(none)",) * 4),
        ("https://www.a.example/", "https://a.example/x", ("(none)",) * 4),
        ("https://a.example/", "https://u:p@B.Example.:99/", ("b.example", "(none)", "(none)", "(none)")),
        ("https://a.example/", "https://<script>/", ("(other)", "(none)", "(none)", "(none)")),
        (
            "https://a.example/?utm_source=N%20L&utm_medium=e&utm_campaign=c&utm_source=2",
            "",
            ("(none)", "N L", "e", "c"),
        ),
        ("https://a.example/?utm_source=", "", ("(none)",) * 4),
        ("https://a.example/?" + "&".join(["utm_source=a"] * 200), "", ("(none)",) * 4),
        ("", "android-app://com.google.android.gm/", ("com.google.android.gm", "(none)", "(none)", "(none)")),
    ],
)
def test_source_returns_referrer_and_utm_fields(url, referrer, source):
    assert web_names.source(url, referrer) == source


@pytest.mark.parametrize(
    ("accept", "language"),
    [("de-AT,en;q=0.5", "de"), (" FR", "fr"), ("", "(unknown)"), ("*", "(unknown)"), ("german", "(unknown)")],
)
def test_language_header_returns_the_first_language_without_region(accept, language):
    assert web_names.language(accept) == language

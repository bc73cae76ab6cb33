"""Names of pages and sources, as strangers send them and as they are kept."""

from __future__ import annotations

import pytest

from pixel_server.counters import web_names
from pixel_server.counters.web_breakdown import Source


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
        ("//site.example/a", "/a"),
        (" https://site.example/a\n", "/a"),
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
    ("path", "page"),
    [
        ("/", "/"),
        ("/index.html", "/"),
        ("/tea/", "/tea"),
        ("/tea//", "/tea"),
        ("/tea/index.html", "/tea"),
        ("/tea/Index.HTM?x=1#y", "/tea"),
        ("/tea/index.php/", "/tea"),
        ("/tea/%69ndex.html", "/tea"),
        ("/tea/my-index.html", "/tea/my-index.html"),
        ("/tea/index.html5", "/tea/index.html5"),
        ("/app%23/cart/", "/app#/cart"),
    ],
)
def test_page_folded_is_without_slash_and_index(path, page):
    assert web_names.page(f"https://site.example{path}", is_folded=True) == page


@pytest.mark.parametrize(
    ("url", "referrer", "source"),
    [
        ("https://a.example/", "https://www.b.example/x?y", ("b.example",)),
        ("https://a.example/", "https://a.example/x", ("(none)",)),
        ("https://www.a.example/", "https://a.example/x", ("(none)",)),
        ("https://a.example/", "https://u:p@B.Example.:99/", ("b.example",)),
        ("https://a.example/", "https://<script>/", ("(other)",)),
        (
            "https://a.example/?utm_source=N%20L&utm_medium=e&utm_campaign=c&utm_source=2",
            "",
            ("(none)", "N L", "e", "c"),
        ),
        ("https://a.example/?utm_source=", "", ("(none)",)),
        ("file:///home/jane/a.html?utm_source=x", "", ("(none)",)),
        ("https://a.example/", "file:///home/jane/a.html", ("(none)",)),
        ("https://a.example/", "file://server/jane/a.html", ("(none)",)),
        ("https://a.example/", "chrome-extension://abcdef/a.html", ("(none)",)),
        ("https://a.example/", "//b.example/x", ("b.example",)),
        ("", "android-app://com.google.android.gm/", ("com.google.android.gm",)),
    ],
)
def test_source_returns_referrer_and_utm_fields(url, referrer, source):
    assert web_names.source(url, referrer) == Source(*source)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("UTM_SOURCE=Brief&Utm_Medium=mail", {"utm_source": "Brief", "utm_medium": "mail"}),
        ("x=1&amp;utm_source=brief&amp;amp;utm_medium=mail", {"utm_source": "brief", "utm_medium": "mail"}),
        ("x=1&amp%3Butm_source=brief", {"utm_source": "brief"}),
        ("utm%5Fsource=brief&utm%5fmedium=mail", {"utm_source": "brief", "utm_medium": "mail"}),
        ("+utm_source=brief&%20utm_medium=mail", {"utm_source": "brief", "utm_medium": "mail"}),
        ("id=3?utm_source=brief", {"utm_source": "brief"}),
        (
            "utm_source=a&utm_source=b&utm_campaign=c" + "&x=1" * 150 + "&utm_medium=d",
            {"utm_source": "a", "utm_campaign": "c", "utm_medium": "d"},
        ),
        ("utm_source=&utm_source=+&utm_source=b", {"utm_source": "b"}),
        (
            "utm_term=green+tea&utm_content=top%20banner",
            {"utm_term": "green tea", "utm_content": "top banner"},
        ),
        (
            "mtm_source=s&mtm_medium=m&mtm_campaign=c&mtm_keyword=k&mtm_content=t",
            dict(zip(Source._fields[1:], "smckt", strict=True)),
        ),
        ("pk_campaign=c&pk_kwd=k", {"utm_campaign": "c", "utm_term": "k"}),
        ("mtm_source=late&utm_source=first", {"utm_source": "first"}),
        ("ref=friends.example", {"utm_source": "friends.example"}),
        ("ref=late&mtm_source=first", {"utm_source": "first"}),
        ("href=a&prefix_utm_source=b&utm_sources=c&utm=d", {}),
    ],
)
def test_source_spellings_of_utm_fields_are_read(query, fields):
    assert web_names.source(f"https://a.example/x?{query}", "") == Source(**fields)


def test_source_ref_of_a_page_of_the_same_site_is_not_a_source():
    assert web_names.source("https://a.example/x?ref=footer", "https://a.example/y") == Source()
    assert web_names.source("https://a.example/x?ref=b", "https://b.example/y") == Source("b.example", "b")


@pytest.mark.parametrize(
    "url",
    [
        "file:///C:/Users/Jane%20Doe/page.html",
        "FILE:///home/jane/a.html",
        " file:///home/jane/a.html",
        "\x00file:///home/jane/a.html",
        "file:/home/jane/a.html",
        "C:\\Users\\Jane\\a.html",
        "blob:https://site.example/0123",
        "blob:null/0123",
        "data:text/html;x://y/jane",
        "about:srcdoc",
        "about://x/jane",
        "chrome-extension://abcdef/jane.html",
        "content://com.android.providers/jane.html",
        "capacitor://localhost/jane",
        "view-source:https://site.example/jane",
    ],
)
def test_page_off_the_web_keeps_no_path(url):
    assert web_names.page(url) == "(unknown)"


@pytest.mark.parametrize(
    ("accept", "language"),
    [("de-AT,en;q=0.5", "de"), (" FR", "fr"), ("", "(unknown)"), ("*", "(unknown)"), ("german", "(unknown)")],
)
def test_language_header_returns_the_first_language_without_region(accept, language):
    assert web_names.language(accept) == language

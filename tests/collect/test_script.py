"""`/p.js`: its size, its compression, and its caching."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pixel_server.collect import script
from pixel_server.collect.script import SOURCE, minify
from tests.collect.test_endpoint import serving

USUAL = {
    "content-type": "text/javascript; charset=utf-8",
    "cache-control": "public, max-age=86400",
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
    "vary": "Accept-Encoding, Origin",
}


def get(web, method: str = "GET", **headers: str):
    web.headers.pop("authorization", None)
    web.headers["accept-encoding"] = "identity"
    return web.request(
        method, "/p.js", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_script_gzipped_is_below_two_kilobytes():
    assert len(gzip.compress(SOURCE, 9)) < 1900
    assert SOURCE.isascii()


def test_script_minified_keeps_words_apart():
    written = Path(script.__file__).with_name("p.js").read_bytes()
    without = b"".join(line.partition(b"//")[0] for line in written.splitlines())
    assert b"".join(SOURCE.split()) == b"".join(without.split())
    assert minify(b'a ("b: {c}", d) ;') == b'a("b: {c}",d);'
    strings = re.compile(rb'"[^"]*"').findall
    assert strings(SOURCE) == strings(without)
    words = re.compile(rb"[\w$]+").findall
    assert words(SOURCE) == words(without)


def test_script_answer_lasts_a_day_and_has_a_tag(web):
    answer = get(web)
    assert (answer.status_code, answer.content) == (200, SOURCE)
    tag = answer.headers["etag"]
    assert dict(answer.headers) == {**USUAL, "etag": tag, "content-length": str(len(SOURCE))}
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = get(web, if_none_match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == USUAL["cache-control"]
        assert again.headers["access-control-allow-origin"] == "*"
    for other in ('"x"', "", tag.strip('"')):
        assert get(web, if_none_match=other).status_code == 200


@pytest.mark.parametrize("accepts", ["gzip", "br, gzip", "*", "GZIP;q=0.5", "gzip, deflate, br"])
def test_script_client_that_accepts_gzip_gets_gzip(web, accepts: str):
    answer = get(web, accept_encoding=accepts)
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 1900
    assert answer.content == SOURCE  # the test client unpacks it
    assert answer.headers["etag"] != get(web).headers["etag"]
    assert get(web, accept_encoding=accepts, if_none_match=answer.headers["etag"]).status_code == 304


@pytest.mark.parametrize("accepts", ["", "br", "gzip;q=0", "gzip; q=0.000", "xgzip", "gzipped", "identity"])
def test_script_client_that_refuses_gzip_gets_plain_text(web, accepts: str):
    answer = get(web, accept_encoding=accepts)
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(SOURCE))


def test_script_other_methods_are_refused(web):
    head = get(web, "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(SOURCE)))
    assert get(web, "POST").status_code == 405
    assert "set-cookie" not in get(web).headers


def test_script_below_a_prefix_is_served(settings, secrets):
    with serving(replace(settings, base_url="https://pixel.test/px"), secrets) as app:
        for path in ("/px/p.js", "/p.js"):
            assert app.get(path).content == SOURCE
        assert app.get("/px/p.js/x").status_code == app.get("/p.jsx").status_code == 404


def test_script_request_with_an_origin_may_send_cookies_and_headers(web):
    origin = {"access-control-allow-origin": "https://a.example", "access-control-allow-credentials": "true"}
    assert origin.items() <= get(web, origin="https://a.example").headers.items()
    preflight = get(
        web,
        "OPTIONS",
        origin="https://a.example",
        access_control_request_method="GET",
        access_control_request_headers="x-loader",
    )
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert {**origin, "access-control-allow-headers": "x-loader"}.items() <= preflight.headers.items()

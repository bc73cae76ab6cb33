"""Media types that a request accepts, and compressed bodies."""

from __future__ import annotations

import gzip

import pytest


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("TEXT/CSV; q=0.9, */*; q=0.8", "text/csv"),
        ("application/json, text/csv", "text/csv"),
        ("text/csv;q=0", "application/json"),
        ("application/json;q=0.5, text/csv;q=0.1", "application/json"),
        ("text/csv;q=0.5, application/*", "application/json"),
        ("text/html;level=text/csv", "application/json"),
        ("", "application/json"),
    ],
)
def test_choose_follows_the_weights_of_accept(site, mail, accept, kind):
    mail()
    answer = site.get("/api/campaigns/mail/stats", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind


def test_choose_of_two_named_types_the_one_that_is_wanted_more(site, mail):
    mail()
    for other, kind in (("", "application/x-ndjson"), (";q=0.5", "text/csv")):
        accept = {"Accept": f"application/x-ndjson{other}, text/csv"}
        answer = site.get("/api/campaigns/mail/recipients", headers=accept)
        assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_refuse_codings_compressed_body_is_415(site, mail, coding):
    mail()
    for method, path, kind in (
        ("PUT", "/api/campaigns/mail/recipients", "text/csv"),
        ("POST", "/api/campaigns", "application/json"),
    ):
        headers = {"Content-Type": kind, "Content-Encoding": coding}
        answer = site.request(method, path, content=gzip.compress(b"recipient\nada\n"), headers=headers)
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
        assert "compressed" in answer.json()["detail"]


def test_refuse_codings_identity_is_read(site, mail):
    mail()
    headers = {"Content-Type": "text/csv", "Content-Encoding": "identity"}
    answer = site.put("/api/campaigns/mail/recipients", content=b"recipient\nada\n", headers=headers)
    assert answer.json()["new"] == 1

"""The recipient's privacy page: its texts, its buttons, and that hostile values stay out of its markup."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixel_server
from pixel_server.privacy.document import STYLE, csp
from pixel_server.privacy.recipient_page import State, View, render
from pixel_server.privacy.texts import TEXTS
from pixel_server.tokens import Mode

KEEP = {"buckets": 35, "days": 400, "recipients": 90, "dead_letters": 7, "names": 1}
VIEW = View(State.RECORDED, "privacy", "AQNr-_x", None, Mode.PSEUDONYMOUS, KEEP)
VOID = {"meta", "input"}
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x00\ud800</p></form>"

BUTTONS = {
    State.FOREIGN: [],
    State.ANONYMOUS: [],
    State.RECORDED: ["stop", "erase"],
    State.STOPPED: ["allow", "erase"],
    State.ERASED: ["allow"],
    State.ERASING: ["allow"],
    State.THROTTLED: [],
    State.UNAVAILABLE: ["stop", "erase"],
}


class Page(HTMLParser):
    """A parser of a page. Fails if a tag is not closed, or closed twice."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return "\n".join(text for tag, texts in self.texts.items() if tag != "style" for text in texts)


def page(lang="en", **changes):
    return Page(render(VIEW._replace(**changes), lang))


@pytest.mark.parametrize("lang", TEXTS)
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("state", State)
def test_recipient_page_each_view_is_complete(state, mode, lang):
    body = render(VIEW._replace(state=state, mode=mode), lang)
    shown = Page(body)
    assert body.startswith(b"<!DOCTYPE html>\n")
    assert shown.all("html") == [{"lang": lang}]
    metas = {meta.get("name"): meta.get("content") for meta in shown.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert (metas["robots"], metas["referrer"]) == ("noindex", "no-referrer")
    assert shown.texts["h1"] == shown.texts["title"] == [state.text(TEXTS[lang].recipient.titles)]
    assert state.text(TEXTS[lang].recipient.leads) in shown.texts["p"]
    assert [button["value"] for button in shown.all("button")] == BUTTONS[state]
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert not {"src", "style", "onclick"} & {name for _, attributes in shown.tags for name in attributes}


@pytest.mark.parametrize("state", [state for state in State if BUTTONS[state]])
def test_recipient_page_form_posts_token_and_action(state):
    shown = page(state=state)
    assert shown.all("form") == [{"method": "post", "action": "privacy"}]
    assert shown.all("input") == [{"type": "hidden", "name": "t", "value": "AQNr-_x"}]
    ids = {attributes["id"] for _, attributes in shown.tags if "id" in attributes}
    for button in shown.all("button"):
        assert (button["type"], button["name"]) == ("submit", "do")
        assert button["aria-describedby"] in ids
    assert len(shown.texts["button"]) == len(BUTTONS[state])


@pytest.mark.parametrize("state", [state for state in State if not BUTTONS[state]])
def test_recipient_page_without_buttons_has_no_form(state):
    body = render(VIEW._replace(state=state), "en")
    assert b"<form" not in body
    assert b"AQNr-_x" not in body


def test_recipient_page_erase_hint_mentions_stopping_unless_stopped():
    assert "also stops" in page(state=State.RECORDED).text
    assert "also stops" not in page(state=State.STOPPED).text


@pytest.mark.parametrize(
    ("mode", "items"),
    [
        (Mode.OFF, ["nothing"]),
        (Mode.COUNT, ["totals", "until_judged"]),
        (Mode.LAST, ["totals", "last_day", "code", "until_judged"]),
        (Mode.PSEUDONYMOUS, ["totals", "code", "opens", "deliveries", "traces", "until_judged"]),
        (Mode.IDENTIFIED, ["totals", "code", "opens", "deliveries", "traces", "name", "until_judged"]),
    ],
)
def test_recipient_page_recorded_items_follow_the_mode(mode, items):
    for lang, texts in TEXTS.items():
        recorded = texts.recipient.recorded
        assert page(lang, mode=mode).texts["li"] == [getattr(recorded, item) for item in items]


@pytest.mark.parametrize(
    ("state", "mode", "kinds"),
    [
        (State.FOREIGN, Mode.IDENTIFIED, []),
        (State.RECORDED, Mode.OFF, ["recipients"]),
        (State.ANONYMOUS, Mode.COUNT, ["buckets", "days", "dead_letters"]),
        (State.RECORDED, Mode.LAST, ["buckets", "days", "recipients", "dead_letters"]),
        (State.STOPPED, Mode.PSEUDONYMOUS, ["buckets", "days", "recipients", "dead_letters"]),
        (State.RECORDED, Mode.IDENTIFIED, ["buckets", "days", "recipients", "names", "dead_letters"]),
    ],
)
def test_recipient_page_retention_lists_kinds_that_may_exist(state, mode, kinds):
    for lang, texts in TEXTS.items():
        shown = page(lang, state=state, mode=mode)
        assert shown.texts.get("dt", []) == [getattr(texts.shared.retention, kind) for kind in kinds]
        one_day, several_days = texts.shared.one_day, texts.shared.several_days
        days = [(one_day if kind == "names" else several_days).format(days=KEEP[kind]) for kind in kinds]
        assert shown.texts.get("dd", []) == days


def test_recipient_page_kind_without_days_is_left_out():
    shown = page(keep={"days": 3, "other": 4})
    assert (shown.texts["dt"], shown.texts["dd"]) == (["Totals per day"], ["3 days"])
    assert page(keep={}).all("dl") == []


@pytest.mark.parametrize("operator", [None, "", " \n"])
def test_recipient_page_without_operator_names_the_sender(operator):
    assert "The sender of the mail" in page(operator=operator).text
    assert "Wer diesen Server" not in page("de", operator=operator, state=State.FOREIGN).text


def test_recipient_page_foreign_link_names_the_operator():
    shown = page("de", operator="ACME & Co", state=State.FOREIGN)
    assert shown.texts["h2"] == ["Wer diesen Server betreibt"]
    assert shown.texts["bdi"] == ["ACME & Co", "ACME & Co"]


@pytest.mark.parametrize("url", ["https://example.org/a?b=1&c=2", "HTTP://example.org", "http://[::1]:8000/"])
def test_recipient_page_operator_url_is_a_link(url):
    shown = page(operator=url)
    assert shown.all("a") == [{"href": url, "rel": "noopener noreferrer"}]
    assert shown.texts["bdi"] == [url, url]


@pytest.mark.parametrize(
    "operator",
    [
        "javascript:alert(1)",
        "JavaScript://example.org/%0aalert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "//example.org",
        "https:example.org",
        "https://",
        "https://:80",
        "https://[bad",
        "https://good.example@evil.example/",
        "https://good.example\\evil",
        "https://a b",
        "see https://example.org",
    ],
)
def test_recipient_page_other_operator_is_text(operator):
    shown = page(operator=operator)
    assert shown.all("a") == []
    assert shown.texts["bdi"] == [operator, operator]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("prefix", ["", "https://example.org/"])
def test_recipient_page_hostile_values_stay_text(state, prefix):
    harmless = page(state=state, operator=f"{prefix}x")
    shown = page(state=state, token=HOSTILE, action=HOSTILE, operator=prefix + HOSTILE.replace(" ", "+"))
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in harmless.tags if tag != "a" or shown.all("a")]
    assert [list(attributes) for tag, attributes in shown.tags if tag != "a"] == [
        list(attributes) for tag, attributes in harmless.tags if tag != "a"
    ]


@given(st.text(), st.text(), st.text())
def test_recipient_page_any_values_give_a_complete_page(token, action, operator):
    shown = Page(render(VIEW._replace(token=token, action=action, operator=operator), "fr"))
    assert len(shown.all("button")) == 2
    assert shown.all("script") == []


def test_recipient_page_unknown_language_is_english():
    assert render(VIEW, "tlh") == render(VIEW, "en")


@pytest.mark.parametrize("lang", TEXTS)
@pytest.mark.parametrize("state", State)
def test_recipient_page_names_the_operator_at_the_top(state, lang):
    body = render(VIEW._replace(state=state, operator="ACME & Co"), lang).decode()
    assert "<header><bdi>ACME &amp; Co</bdi></header>" in body
    assert body.index("<header>") < body.index("<h1>")
    assert "<header>" not in render(VIEW._replace(state=state), lang).decode()


def test_style_has_the_colours_of_the_dashboard():
    dashboard = (Path(pixel_server.__file__).parent / "dashboard/static/app.css").read_text()
    for light_or_dark in re.findall(r":root\{(.*?)\}", STYLE, re.S):
        for name, colour in re.findall(r"(--\w+):(#\w+)", light_or_dark):
            assert f"{name}: {colour};" in dashboard, name


def test_csp_allows_the_style_and_nothing_else():
    body = render(VIEW, "en")
    style = body[body.index(b"<style>") + 7 : body.index(b"</style>")]
    assert style == STYLE.encode()
    assert b"\r" not in style
    assert b"url(" not in style
    assert csp().split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(style).digest()).decode()}'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    assert "; frame-ancestors https://a.example http://b.example:81;" in csp(
        ("https://a.example", "http://b.example:81")
    )

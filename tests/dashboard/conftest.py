"""Fixtures of the dashboard's tests: test clients that are signed in, and forms as a browser sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.conftest import API_KEY


@pytest.fixture
def visitor(site: TestClient) -> TestClient:
    """Returns a client that is not signed in and does not follow redirects."""
    made = TestClient(
        site.app,
        base_url="http://pixel.test",
        follow_redirects=False,
        headers={"Accept": "text/html"},
        client=("198.51.100.9", 4000),
    )
    made.portal = site.portal
    return made


@pytest.fixture
def sign_in(visitor: TestClient) -> Callable[..., TestClient]:
    """Returns a function that signs the visitor in."""

    def enter(key: str = API_KEY) -> TestClient:
        answer = visitor.post("/sign-in", data={"key": key})
        assert answer.status_code == 303, answer.text
        return visitor

    return enter


@pytest.fixture
def reader(sign_in: Callable[..., TestClient]) -> Iterator[TestClient]:
    """Returns a client that is signed in with the key that has all scopes."""
    return sign_in()


@pytest.fixture
def made_key(site: TestClient) -> Callable[..., tuple[str, str]]:
    """Returns a function that creates an API key with these scopes, and returns its id and the key."""

    def make(*scopes: str) -> tuple[str, str]:
        made = site.post("/api/keys", json={"name": "another", "scopes": list(scopes)}).json()
        return made["id"], made["key"]

    return make


@pytest.fixture
def send(reader: TestClient) -> Callable[..., Response]:
    """Returns a function that sends a form as a browser does: its fields, with the test's changes.

    None leaves a field out. page: where the form stands; to: its action.
    """

    def post(page: str, to: str | None = None, **filled: str | None) -> Response:
        to = to or page.partition("?")[0]
        found = form_of(reader.get(page), to)
        assert "csrf" in found
        fields = {**found, **filled}
        return reader.post(to, data={name: text for name, text in fields.items() if text is not None})

    return post


@pytest.fixture
def confirm(reader: TestClient) -> Callable[..., Response]:
    """Returns a function that sends the form of a page that asks, which was the answer to a form."""

    def post(asked: Response, action: str, **filled: str) -> Response:
        assert asked.status_code == 200, asked.text
        return reader.post(action, data={**form_of(asked, action), **filled})

    return post


_TICKED = ("radio", "checkbox")


class _Form(HTMLParser):
    def __init__(self, action: str) -> None:
        super().__init__()
        self.action, self.fields = action, dict[str, str]()
        self._inside, self._name = False, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = found.get("action") == self.action
        if not self._inside or "disabled" in found:
            return
        name = found.get("name", "")
        if tag == "select":
            self._name = name
        elif tag == "option" and self._name:
            if "selected" in found or self._name not in self.fields:
                self.fields[self._name] = found.get("value", "")
        elif tag == "textarea" and name:
            self._name, self.fields[name] = name, ""
        elif tag == "input" and name and ("checked" in found or found.get("type") not in _TICKED):
            self.fields[name] = found.get("value", "on")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        if tag in ("select", "textarea"):
            self._name = ""

    def handle_data(self, data: str) -> None:
        if self._name and self._name in self.fields and self.get_starttag_text().startswith("<textarea"):
            self.fields[self._name] += data.removeprefix("\n")


def form_of(answer: Response, action: str) -> dict[str, str]:
    """Returns the fields that a browser would send for the form with this action."""
    found = _Form(action)
    found.feed(answer.text)
    return found.fields

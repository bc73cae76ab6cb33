"""A browser's stand-in that is signed in, on a site whose clock stands where a test puts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from tests.conftest import API_KEY


@pytest.fixture
def visitor(site: TestClient) -> TestClient:
    """Someone who is not signed in, at the same site; what redirects is not followed."""
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
    """Signs that visitor in."""

    def enter(key: str = API_KEY) -> TestClient:
        answer = visitor.post("/sign-in", data={"key": key})
        assert answer.status_code == 303, answer.text
        return visitor

    return enter


@pytest.fixture
def reader(sign_in: Callable[..., TestClient]) -> Iterator[TestClient]:
    """Signed in with the key that may do all."""
    return sign_in()

"""From an image tag to an open rate, through the whole server."""

from __future__ import annotations

from tests.stack import NOBODY_ASKED, Stack, until


def test_stack_first_open_is_counted(stack: Stack):
    made = {"id": "hello", "name": "Hello", "kind": "email", "sent": 4}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    status, links = stack.call("POST", "/api/campaigns/hello/links", {"recipients": ["ada", "bob"]})
    assert status == 200
    ada, bob = (link["url"] for link in links["links"])
    for url in (ada, ada, bob):
        assert stack.get(url) == (200, "recorded")
    until(lambda: stack.totals("hello")["opens"] == 3)
    _, stats = stack.call("GET", "/api/campaigns/hello/stats")
    assert stats["totals"] == {
        **NOBODY_ASKED,
        **{"hits": 3, "opens": 3, "unique_opens": 2, "unique_opens_person": 2, "unique_ips": 1},
    }
    assert (stats["open_rate"]["low"], stats["open_rate"]["high"]) == (0.5, 0.5)

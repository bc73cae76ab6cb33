"""From an image tag to an open rate, through the whole server."""

from __future__ import annotations

from tests.stack import NOBODY_ASKED, Stack, until


def test_stack_first_open_is_counted(shared: Stack, name: str):
    made = {"id": name, "name": "Hello", "kind": "email", "sent": 4}
    assert shared.call("POST", "/api/campaigns", made)[0] == 201
    status, links = shared.call("POST", f"/api/campaigns/{name}/links", {"recipients": ["ada", "bob"]})
    assert status == 200
    ada, bob = (link["url"] for link in links["links"])
    for url in (ada, ada, bob):
        assert shared.get(url) == (200, "recorded")
    until(lambda: shared.totals(name)["opens"] == 3)
    _, stats = shared.call("GET", f"/api/campaigns/{name}/stats")
    assert stats["totals"] == {
        **NOBODY_ASKED,
        **{"hits": 3, "opens": 3, "unique_opens": 2, "unique_opens_person": 2, "unique_ips": 1},
    }
    assert (stats["open_rate"]["low"], stats["open_rate"]["high"]) == (0.5, 0.5)

"""The limit of actions on the privacy page: how many a minute, and the memory it takes."""

from __future__ import annotations

from pixel_server.privacy import action_limit
from pixel_server.store import keys
from tests.privacy_form import generations


def test_count_action_too_many_in_a_minute_are_refused(mail, link, press, site, client, clock):
    """All links of a recipient count together. Other recipients are not affected."""
    mail()
    press(link(), "stop")
    for n in range(action_limit.MAX_ACTIONS - 1):
        press(link(campaign=f"mail{n}"), "allow" if n % 2 == 0 else "stop")
    before = client.hvals(keys.WITHDRAWN), generations(client)
    response = press(link(), "stop")
    assert (response.status_code, response.headers["retry-after"]) == (429, str(60 - int(clock.now) % 60))
    assert "Please wait a minute" in response.text
    assert (client.hvals(keys.WITHDRAWN), generations(client)) == before
    assert press(link("bob"), "stop").status_code == 200
    assert site.get(link().privacy_url).status_code == 200
    clock.now += 60
    assert press(link(), "stop").status_code == 200


def test_count_action_many_recipients_are_bounded(mail, link, press, client, monkeypatch):
    mail()
    monkeypatch.setattr(action_limit, "MAX_RECIPIENTS", 3)
    statuses = [press(link(f"r{n}"), "stop").status_code for n in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    [key] = client.keys("px:{all}:acts:*")
    assert (client.hlen(key), 0 < client.ttl(key) <= 120) == (3, True)

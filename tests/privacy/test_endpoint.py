"""The endpoint of the privacy page: requests that it accepts, refuses and ignores."""

from __future__ import annotations

import pytest

from pixel_server.store import audit_log, keys
from pixel_server.tokens import Mode
from tests.privacy_form import actions, generations


def test_privacy_get_changes_nothing(mail, link, site, client):
    mail()
    ada = link()
    for query in ("", "&do=stop", "&do=erase"):
        response = site.get(ada.privacy_url + query)
        assert response.status_code == 200
        assert (response.headers["cache-control"], response.headers["referrer-policy"]) == (
            "no-store",
            "no-referrer",
        )
        assert site.head(ada.privacy_url + query).status_code == 200
    assert not client.exists(keys.WITHDRAWN)


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site"])
def test_privacy_form_of_another_site_is_refused(mail, link, press, client, fetch_site):
    mail()
    assert press(link(), "stop", **{"Sec-Fetch-Site": fetch_site}).status_code == 403
    assert press(link(), "stop", Origin="https://evil.example").status_code == 403
    assert not client.exists(keys.WITHDRAWN)


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {}, {"Origin": "null"}]
)
def test_privacy_own_form_is_accepted(mail, link, press, client, headers):
    mail()
    assert press(link(), "stop", **headers).status_code == 200
    assert client.hlen(keys.WITHDRAWN) == 1


@pytest.mark.parametrize("token", [" ", "forged", "é", "A" * 3000])
def test_privacy_bad_token_gives_a_page_without_buttons(site, client, token):
    for response in (
        site.get("/privacy", params={"t": token}),
        site.post("/privacy", data={"t": token, "do": "erase"}),
    ):
        assert response.status_code == 404
        assert "<button" not in response.text
    assert not client.exists(keys.WITHDRAWN)


def test_privacy_odd_bodies_are_responseed(site):
    for content in (b"\xff\xfe&&==", b"t", b"{}", b""):
        response = site.post("/privacy", content=content)
        assert response.status_code == 200
        assert "set-cookie" not in response.history[0].headers
    assert site.post("/privacy", content=b"t=" + b"a" * 100_000).status_code == 413


def test_privacy_expired_link_of_a_deleted_campaign_works(mail, link, press, site, clock):
    mail()
    ada = link()
    site.delete("/api/campaigns/mail")
    clock.at("2027-06-10T08:00Z")
    assert site.get(ada.url).headers["x-pixel"].startswith("ignored")
    assert 'value="allow"' in press(ada, "stop").text


def test_privacy_anonymous_link_has_no_button(link, site, press, client):
    anonymous = link(mode=Mode.COUNT)
    assert "<button" not in site.get(anonymous.privacy_url).text
    assert press(anonymous, "erase").status_code == 200
    assert not client.exists(keys.WITHDRAWN)


def test_privacy_unknown_action_changes_nothing(link, press, client):
    assert press(link(), "everything").status_code == 200
    assert not client.exists(keys.WITHDRAWN)


def test_privacy_page_is_in_the_readers_language(link, site):
    german = site.get(link().privacy_url, headers={"Accept-Language": "de-CH,en;q=0.5"}).text
    assert '<html lang="de"' in german


@pytest.mark.parametrize("action", ["stop", "erase"])
def test_privacy_repeated_action_keeps_the_generation(mail, link, press, client, action):
    mail()
    press(link(), action)
    before = generations(client)
    for _ in range(5):
        assert press(link(), action).status_code == 200
    assert generations(client) == before


def test_privacy_actions_push_no_line_out_of_the_audit_log(mail, link, press, site, client, monkeypatch):
    mail()
    site.delete("/api/campaigns/mail")
    monkeypatch.setattr(audit_log, "MAX_LINES", 3)
    before = client.xlen(keys.AUDIT)
    for action in ("stop", "allow", "stop", "erase", "allow", "stop", "stop"):
        assert press(link(), action).status_code == 200
    assert client.xlen(keys.AUDIT) == before
    log = actions(site)
    kinds = ["recipient.stopped", "recipient.allowed", "recipient.erased"]
    assert [line["what"] for line in log["items"]] == [kinds[0], kinds[1], kinds[2]]
    assert {line["who"] for line in log["items"]} == {"privacy page"}
    assert log["counts"] == {kinds[0]: 3, kinds[1]: 2, kinds[2]: 1}

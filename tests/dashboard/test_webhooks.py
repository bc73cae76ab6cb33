"""The pages of webhooks: create, watch, change, and send again; who may, and hostile texts."""

from __future__ import annotations

import asyncio
import re

import pytest

from pixel_server.dashboard import formatting, webhooks
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.webhooks import deliveries, storage
from pixel_server.webhooks.deliveries import Delivery
from pixel_server.webhooks.event import TYPES
from tests.dashboard.conftest import form_of
from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

URL = "https://hooks.example.org/opens"
OPEN, HEALTH = {"event_open.first": "yes"}, {"event_health": "yes"}


def listed(site):
    return site.get("/api/webhooks").json()["items"]


def shown_secret(answer):
    found = re.search(r"whsec_[\w+/]+=*", answer.text)
    return found and found[0]


@pytest.fixture
def make(site):
    """Returns a function that makes a webhook, and returns the path of its page."""

    def make(**given):
        made = site.post("/api/webhooks", json={"url": URL, "events": ["health"], **given})
        assert made.status_code == 201, made.text
        return f"/webhooks/{made.json()['id']}"

    return make


@pytest.fixture
def log_try(settings):
    """Returns a function that writes a line into the log of the webhook with this page."""

    def write(path, **given):
        line = Delivery(0, "evt_1f", "health", 1, 1, 500, 12, "no", "retry")._replace(**given)
        words = deliveries.words(line)
        client = connect(settings.redis_url)
        client.xadd(keys.hook_log(path.rpartition("/")[2]), dict(zip(words[::2], words[1::2], strict=True)))

    return write


@pytest.fixture
def set_aside(site, settings):
    """Returns a function that sends a test event to the webhook with this page, and sets it aside."""

    def act(path):
        event_id = site.post(f"/api{path}/test").json()["webhook_id"]
        client, name = connect(settings.redis_url), path.rpartition("/")[2]
        client.zrem(keys.hook_due(name), event_id)
        client.zadd(keys.hook_aside(name), {event_id: 1})
        return event_id

    return act


def test_webhooks_page_has_a_sentence_for_each_type():
    assert tuple(webhooks.EVENT_MEANINGS) == TYPES


def test_webhooks_page_create_shows_the_secret_once(site, reader, send, mail):
    mail()
    filled = {"name": "CRM", "campaigns": "mail\r\n", "events_per_request": "50", **OPEN, **HEALTH}
    answer = send("/webhooks", url=f" {URL} ", **filled)
    assert answer.status_code == 200
    assert_harmless(answer)
    [made] = listed(site)
    assert (made["url"], made["name"], made["campaigns"]) == (URL, "CRM", ["mail"])
    assert (made["events"], made["events_per_request"]) == (["open.first", "health"], 50)
    secret = shown_secret(answer)
    assert secret.endswith(made["secrets"][0]["hint"])
    for path in ("/webhooks", f"/webhooks/{made['id']}", f"/webhooks/{made['id']}/secret"):
        again = assert_harmless(reader.get(path))
        assert secret not in again.text
        assert "CRM" in again.text


@pytest.mark.parametrize(
    ("filled", "fields"),
    [
        ({"url": "ftp://hooks.example.org", **HEALTH}, {"url"}),
        ({"url": "http://127.0.0.1/", **HEALTH}, {"url"}),
        ({"url": URL}, {"events"}),
        ({"url": URL, **HEALTH, "campaigns": "nobody-made-this"}, {"campaigns"}),
        ({"url": URL, **HEALTH, "campaigns": "<b>"}, {"campaigns"}),
        ({"url": URL, **HEALTH, "events_per_request": "many"}, {"events_per_request"}),
        ({"url": URL, **HEALTH, "events_per_request": "101"}, {"events_per_request"}),
        ({"url": URL, **HEALTH, "name": "n" * 201}, {"name"}),
        (
            {"url": "nowhere", "campaigns": "nobody", "events_per_request": "many", "name": "n" * 201},
            {"url", "events", "name", "campaigns", "events_per_request"},
        ),
    ],
)
def test_webhooks_page_invalid_webhook_is_refused(site, send, filled, fields):
    answer = send("/webhooks", **filled)
    assert answer.status_code == 422
    assert_harmless(answer)
    assert wrong(answer).keys() == fields
    if "events" in fields:
        assert wrong(answer)["events"] == "Choose at least one."
    kept = form_of(answer, "/webhooks")
    assert {name: kept.get(name) for name in filled} == filled
    assert listed(site) == []


def test_webhook_forms_pick_campaigns_by_name(site, reader, send, mail):
    mail(name="Spring <news>")
    mail(id="other")
    page = reader.get("/webhooks")
    assert_harmless(page)
    assert 'id="pick-mail"' in page.text
    assert 'id="campaigns"' not in page.text
    assert send("/webhooks", url=URL, **HEALTH, campaign_mail="mail").status_code == 200
    [made] = listed(site)
    assert made["campaigns"] == ["mail"]
    path = f"/webhooks/{made['id']}/edit"
    kept = form_of(reader.get(path), path)
    assert (kept["campaign_mail"], "campaign_other" in kept, "campaigns" in kept) == ("mail", False, False)
    assert send(path, campaign_mail=None, campaign_other="other").status_code == 303
    assert listed(site)[0]["campaigns"] == ["other"]
    site.delete("/api/campaigns/other")
    assert form_of(reader.get(path), path)["campaigns"] == "other"
    assert send(path, name="CRM").status_code == 303
    assert (listed(site)[0]["campaigns"], listed(site)[0]["name"]) == (["other"], "CRM")
    gone = send("/webhooks", url=URL, **HEALTH, campaign_gone="gone", campaign_mail="mail")
    assert wrong(gone).keys() == {"campaigns"}
    kept = form_of(gone, "/webhooks")
    assert (kept["campaigns"], kept["campaign_mail"]) == ("gone", "mail")
    refused = send(path, url="nowhere", campaigns="other\nnobody")
    assert wrong(refused).keys() == {"url", "campaigns"}
    assert refused.text.index('href="#url"') < refused.text.index('href="#campaigns"')


def test_webhooks_page_too_many_are_refused(site, send, make):
    for _ in range(storage.MAX_ENDPOINTS):
        make()
    answer = send("/webhooks", url=URL, **HEALTH)
    assert (answer.status_code, shown_secret(answer)) == (409, None)
    assert "delete one first" in answer.text


def test_webhooks_page_lists_how_each_fares(site, reader, make, set_aside, settings, clock):
    client, now = connect(settings.redis_url), int(clock.now * 1000)
    states = {
        "works": {"success": now - 7_200_000, "dropped": 4321},
        "fails": {"failing_since": now - 180_000, "error": "answered 500: <b>no</b>"},
        "stopped": {"success": now},
        "unused": {},
    }
    paths = {name: make(name=name) for name in states}
    for name in paths:
        if states[name]:
            client.hset(keys.hook_state(paths[name].rpartition("/")[2]), mapping=states[name])
    set_aside(paths["fails"])
    site.patch(f"/api{paths['stopped']}", json={"is_enabled": False})
    answer = reader.get("/webhooks")
    assert_harmless(answer)
    rows = [re.sub("<.*?>", " ", row) for row in re.findall("<tr><th scope=.row.*?</tr>", answer.text, re.S)]
    shown = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert shown["works"] == f"{URL} Works health 0 0 4,321 2 h ago"
    assert shown["fails"].startswith(f"{URL} Failing for 3 min : answered 500: &lt;b&gt;no&lt;/b&gt;")
    assert shown["fails"].endswith(" health 0 1 0 never")
    assert shown["stopped"].startswith(f"{URL} Disabled health")
    assert shown["unused"].startswith(f"{URL} Nothing sent yet")
    for name, path in paths.items():
        text = " ".join(assert_harmless(reader.get(path)).text.split())
        assert re.search(f"{name} Log .*Waiting .*Set aside .*Change New secret", text)


def test_webhooks_page_says_why_this_server_disabled_a_webhook(reader, make, settings):
    path = make()

    async def disable():
        store = connect_async(settings.redis_url)
        await storage.disable(store, path.rpartition("/")[2], "answered 410 Gone")
        await store.aclose()

    asyncio.run(disable())
    for shown in ("/webhooks", path):
        text = re.sub("<.*?>", "", reader.get(shown).text)
        assert "Disabled, because it answered 410 Gone" in text


def test_webhook_page_shows_deliveries_and_pages_of_them(reader, make, log_try):
    path = make()
    for n in range(webhooks.PAGE_ROWS + 1):
        log_try(path, webhook_id=f"evt_{n:03}", attempt=n + 1, answer=f"answer {n:03}")
    log_try(path, status=None, ms=15_000, answer="no answer within 15 s", outcome="set aside")
    log_try(path, status=None, ms=3, answer="its address is not public", was_sent=False, webhook_id="evt_9")
    log_try(path, status=204, answer="", outcome="delivered", type="list", events=70)
    text = " ".join(assert_harmless(reader.get(path)).text.split())
    assert "list of 70" in text
    assert "no answer15,000 msFailed then delivered no answer within 15 s" in text
    assert re.search("not sentFailed later delivered or removed *its address is not public", text), text
    assert "50012 msFailed later delivered or removed answer 025" in text
    assert "answer 004" in text
    assert "answer 003" not in text
    [older] = [link["href"] for link in Page(reader.get(path)).all("a") if link.get("rel") == "next"]
    rest = reader.get(older)
    assert_harmless(rest)
    assert re.findall("answer [0-9]{3}", rest.text) == [
        "answer 003",
        "answer 002",
        "answer 001",
        "answer 000",
    ]
    for query in ("after=x", "show=all", "show=aside&after=x"):
        assert reader.get(f"{path}?{query}").status_code == 422
    for suffix in ("", "/edit", "/secret", "/delete"):
        assert reader.get(f"/webhooks/0000000000{suffix}").status_code == 404


def test_webhook_page_log_says_what_is_true_of_each_request_now(
    site, reader, make, set_aside, log_try, settings, clock
):
    path = make()
    name = path.rpartition("/")[2]
    client, now = connect(settings.redis_url), int(clock.now * 1000)

    def shown(query=""):
        text = assert_harmless(reader.get(path + query)).text
        return " ".join(text.split())

    aside = set_aside(path)
    client.hset(keys.hook_units(name), aside, f"2 {now - 86_400_000} {aside}")
    client.zadd(keys.hook_aside(name), {aside: now})
    log_try(path, webhook_id=aside, attempt=1)
    log_try(path, webhook_id=aside, attempt=2, status=None, answer="no route", outcome="retry")
    log = shown()
    assert re.search(
        rf"{aside}2no answer12 msSet aside after a day, \d+ \w+ \d+, \d\d:\d\d:\d\d UTC no route", log
    ), log
    assert re.search(rf"{aside}150012 msFailed then tried again no", log), log
    tab = shown("?show=aside")
    assert re.search(rf"{aside}2.*after 1 dno route", tab), tab
    assert "not tried again unless you say so" in tab
    assert "not delivered within a day" in tab

    waiting = site.post(f"/api{path}/test").json()["webhook_id"]
    client.zadd(keys.hook_due(name), {waiting: now + 60_000})
    log_try(path, webhook_id=waiting)
    assert re.search(rf"{waiting}150012 msFailed next try \d+ \w+ \d+, \d\d:\d\d:\d\d UTC no", shown())
    client.hset(keys.hook_state(name), "paused_until", now + 86_400_000)
    assert f"next try {formatting.log_time(now / 1000 + 86_400)}" in shown()
    client.zadd(keys.hook_due(name), {waiting: now - 1})
    client.hdel(keys.hook_state(name), "paused_until")
    assert "next try now" in shown()
    site.patch(f"/api{path}", json={"is_enabled": False})
    assert "next try when the webhook is enabled" in shown()
    client.zrem(keys.hook_due(name), waiting)
    log_try(path, webhook_id=waiting, attempt=2, status=204, answer="", outcome="delivered")
    assert "Failed then delivered no" in shown()
    queued = site.get(f"/api{path}/queue?aside=true").json()["items"][0]
    assert (queued["due"], queued["set_aside"] is None) == (None, False)


def test_webhook_pages_count_what_waits_in_each_tab(site, reader, send, make, set_aside):
    path = make()
    set_aside(path)
    for _ in range(2):
        site.post(f"/api{path}/test")
    pages = [reader.get(path + suffix) for suffix in ("", "?show=aside", "/edit", "/secret")]
    pages += [send(f"{path}/edit", url="nowhere"), send(f"{path}/secret", overlap_seconds="soon")]
    for answer in (*pages, send(f"{path}/secret")):
        tabs = re.search('<nav class="tabs" aria-label="Webhook">(.*?)</nav>', answer.text, re.S)[1]
        shown = " ".join(re.sub("<.*?>", " ", tabs).split())
        assert shown == "Log Waiting 2 Set aside 1 Change New secret", answer.status_code


def test_webhook_page_test_event_waits_and_what_was_set_aside_is_sent_again(
    site, reader, send, make, set_aside
):
    path = make()
    answer = send(path, f"{path}/test")
    assert answer.headers["location"] == f"{path}?done=test_queued"
    assert "Load this page again" in reader.get(answer.headers["location"]).text
    first, second = set_aside(path), set_aside(path)
    assert site.get(f"/api{path}").json()["waiting"] == 1
    aside = reader.get(f"{path}?show=aside")
    assert_harmless(aside)
    assert first in aside.text
    assert second in aside.text
    one = send(f"{path}?show=aside", f"{path}/again", unit=first)
    assert one.headers["location"] == f"{path}?done=sent_again&n=1"
    assert second in reader.get(f"{path}?show=aside").text
    assert first in reader.get(f"{path}?show=waiting").text
    every = send(f"{path}?show=aside", f"{path}/again", unit=None)
    assert every.headers["location"] == f"{path}?done=sent_again&n=1"
    assert site.get(f"/api{path}").json()["aside"] == 0
    gone = send(f"{path}?show=waiting", f"{path}/again", unit="evt_gone")
    assert gone.headers["location"] == f"{path}?done=nothing_to_send"
    assert send(f"{path}?show=waiting", f"{path}/again", unit="<b>").status_code == 422


def test_webhook_page_disabled_webhook_sends_nothing_until_enabled(site, reader, send, make, set_aside):
    path = make()
    set_aside(path)
    asked = reader.get(f"{path}/disable")
    assert_harmless(asked)
    assert "It never gets the events of the time between." in asked.text
    assert '<button class="main">Disable</button>' in asked.text, "it can be undone"
    assert '<button class="main danger">Delete</button>' in reader.get(f"{path}/delete").text
    assert f'<a class="danger" href="{path}/delete">Delete this webhook</a>' in reader.get(path).text
    assert site.get(f"/api{path}").json()["is_enabled"] is True
    answer = send(f"{path}/disable")
    assert answer.headers["location"] == f"{path}?done=webhook_disabled"
    assert site.get(f"/api{path}").json()["is_enabled"] is False
    shown = reader.get(f"{path}?show=aside")
    assert "/test" not in shown.text
    assert "/again" not in shown.text
    token = form_of(reader.get(path), f"{path}/enable")["csrf"]
    for action in ("test", "again"):
        answer = reader.post(f"{path}/{action}", data={"csrf": token})
        assert answer.status_code == 409
        assert "enable it first" in answer.text
    assert send(path, f"{path}/enable").headers["location"] == f"{path}?done=webhook_enabled"
    assert site.get(f"/api{path}").json()["is_enabled"] is True


def test_webhook_page_change_saves_and_refuses(site, reader, send, make, mail):
    mail()
    path = make(name="CRM", events=["open.first", "health"], campaigns=["mail"])
    form = form_of(reader.get(f"{path}/edit"), f"{path}/edit")
    assert {name: form[name] for name in ("url", "name", "campaign_mail")} == {
        "url": URL,
        "name": "CRM",
        "campaign_mail": "mail",
    }
    assert "event_withdrawal" not in form
    filled = {"event_open.first": None, "event_withdrawal": "yes", "campaign_mail": None, "name": "New"}
    assert send(f"{path}/edit", **filled).headers["location"] == f"{path}?done=saved"
    changed = site.get(f"/api{path}").json()
    assert (changed["name"], changed["campaigns"]) == ("New", [])
    assert changed["events"] == ["withdrawal", "health"]
    refused = send(f"{path}/edit", url="nowhere", event_health=None, event_withdrawal=None)
    assert refused.status_code == 422
    assert_harmless(refused)
    assert wrong(refused).keys() == {"url", "events"}
    assert site.get(f"/api{path}").json() == changed


def test_webhook_page_new_secret_is_shown_once_beside_the_old_one(site, reader, send, make):
    path = make()
    answer = send(f"{path}/secret")
    assert_harmless(answer)
    new = shown_secret(answer)
    secrets = site.get(f"/api{path}").json()["secrets"]
    assert [secret["until"] is None for secret in secrets] == [True, False]
    assert secrets[0]["hint"] == new[-4:]
    assert new not in reader.get(f"{path}/secret").text
    last = shown_secret(send(f"{path}/secret", overlap_seconds="0"))
    assert [secret["hint"] for secret in site.get(f"/api{path}").json()["secrets"]] == [last[-4:]]
    for bad in ("", "soon", "-1", "99999999"):
        refused = send(f"{path}/secret", overlap_seconds=bad)
        assert refused.status_code == 422
        assert wrong(refused).keys() == {"overlap_seconds"}


def test_webhook_page_delete_asks_first(site, reader, send, make, set_aside):
    path = make()
    set_aside(path)
    asked = reader.get(f"{path}/delete")
    assert_harmless(asked)
    assert "1 request that waits or was set aside" in asked.text
    assert len(listed(site)) == 1
    assert send(f"{path}/delete").headers["location"] == "/webhooks?done=webhook_deleted"
    assert "The webhook was deleted" in reader.get("/webhooks?done=webhook_deleted").text
    assert listed(site) == []


ACTIONS = ("edit", "enable", "disable", "test", "again", "secret", "delete")


def test_webhook_pages_read_scope_sees_all_and_changes_nothing(site, sign_in, make, made_key, set_aside):
    path = make(events=["open.first"])
    set_aside(path)
    visitor = sign_in(made_key("read")[1])
    for shown in ("/webhooks", path, f"{path}?show=aside"):
        answer = visitor.get(shown)
        assert answer.status_code == 200
        assert [form["action"] for form in Page(answer).all("form")] == ["/sign-out"]
    token = form_of(visitor.get(path), "/sign-out")["csrf"]
    before = listed(site)
    assert visitor.post("/webhooks", data={"csrf": token, "url": URL, **HEALTH}).status_code == 403
    for action in ACTIONS:
        assert visitor.post(f"{path}/{action}", data={"csrf": token}).status_code == 403
    for page in ("edit", "secret", "disable", "delete"):
        assert visitor.get(f"{path}/{page}").status_code == 403
    assert listed(site) == before


def test_webhook_pages_without_people_offer_no_events_on_recipients(site, sign_in, make, made_key):
    personal = make(events=["open.first"])
    visitor = sign_in(made_key("read", "write")[1])
    answer = visitor.get("/webhooks")
    disabled = [each["name"] for each in Page(answer).all("input") if "disabled" in each]
    assert disabled == ["event_open.first", "event_open.each", "event_withdrawal"]
    assert answer.text.count("You need the permission “See recipients” (people) for it.") == 3
    token = form_of(answer, "/webhooks")["csrf"]
    refused = visitor.post("/webhooks", data={"csrf": token, "url": URL, **OPEN})
    assert wrong(refused).keys() == {"events"}
    assert visitor.post("/webhooks", data={"csrf": token, "url": URL, **HEALTH}).status_code == 200
    shown = visitor.get(personal).text
    assert "to change it, you need the permission “See recipients” (people)" in shown
    assert f"{personal}/edit" not in shown
    assert f"{personal}/disable" not in shown
    for page in ("edit", "disable"):
        assert visitor.get(f"{personal}/{page}").status_code == 403
    for action, data in (("edit", {"url": "https://elsewhere.example.org/", **HEALTH}), ("disable", {})):
        assert visitor.post(f"{personal}/{action}", data={"csrf": token, **data}).status_code == 403
    kept = site.get(f"/api{personal}").json()
    assert (kept["url"], kept["is_enabled"]) == (URL, True)
    [own] = [item["id"] for item in listed(site) if item["events"] == ["health"]]
    edited = visitor.get(f"/webhooks/{own}/edit")
    assert "made without the permission “See recipients” (people)" in edited.text


def test_webhook_pages_form_without_csrf_token_is_refused(site, send, make):
    path = make()
    assert send("/webhooks", csrf="wrong", url=URL, **HEALTH).status_code == 403
    for page, action in (
        (path, "test"),
        *((f"{path}/{each}", each) for each in ("edit", "secret", "disable", "delete")),
    ):
        assert send(page, f"{path}/{action}", csrf=None).status_code == 403
    [kept] = listed(site)
    assert (kept["is_enabled"], len(kept["secrets"]), kept["waiting"]) == (True, 1, 0)


@pytest.mark.parametrize("text", EVIL)
def test_webhook_pages_hostile_texts_are_harmless(site, reader, send, make, log_try, settings, text):
    assert_harmless(send("/webhooks", url=text, name=text, campaigns=text, events_per_request=text))
    path = make(name=text if text.isprintable() else "name")
    client, name = connect(settings.redis_url), path.rpartition("/")[2]
    client.hset(keys.hook_state(name), mapping={"failing_since": 1, "error": text, "sent": text})
    client.hset(keys.hook_units(name), text, "1 5 evt_1 evt_2")
    client.zadd(keys.hook_due(name), {text: 5})
    client.zadd(keys.hook_aside(name), {text: 5})
    log_try(path, answer=text, type=text, webhook_id=text, outcome=text)
    pages = ("?show=waiting", "?show=aside", "", "/edit", "/secret", "/disable", "/delete")
    for shown in ("/webhooks", *(path + page for page in pages)):
        answer = reader.get(shown)
        assert answer.status_code == 200
        assert_harmless(answer)
    assert_harmless(send(f"{path}/edit", name=text * 9, url=text))

"""`POST /in/PROVIDER/SECRET`: the documented requests of each provider give the figures counted by hand."""

from __future__ import annotations

import json

import pytest
import redis

from pixel_server.api import incoming
from pixel_server.auth import throttle
from pixel_server.deliveries import count as counting
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.store import keys
from pixel_server.webhooks.request import Answer, NoAnswerError
from tests.api.answers import problem
from tests.conftest import API_KEY
from tests.deliveries import payloads
from tests.deliveries.payloads import BY_HAND, REQUESTS


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """Answers for SNS, and returns the list of addresses that were fetched."""
    urls = []

    async def get(url, **_):
        urls.append(url)
        return Answer(200, payloads.certificate())

    monkeypatch.setattr(incoming.outgoing, "get", get)
    return urls


@pytest.fixture
def source(site):
    """Returns a function that adds a source, and returns its path."""

    def source(provider, **fields):
        body = {"provider": provider, "name": provider, "key": payloads.keys()[provider], **fields}
        answer = site.post("/api/deliveries/sources", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["url"].removeprefix("http://pixel.test")

    return source


@pytest.fixture
def send(site):
    """Returns a function that sends a request of a mail service, without the API key."""

    def send(path, sent):
        headers = {"Authorization": "Basic bWFpbDpzZWNyZXQ=", **sent.headers}  # mail:secret
        return site.post(path, content=sent.body, headers=headers)

    return send


@pytest.mark.parametrize("provider", PROVIDERS)
def test_incoming_documented_requests_give_the_figures_counted_by_hand(
    mail, source, send, stats, site, provider
):
    mail()
    path, requests = source(provider), REQUESTS[provider]()
    for sent in requests:
        answer = send(path, sent)
        assert (answer.status_code, answer.json()["errors"]) == (200, []), answer.text
    shown = stats("mail")
    assert shown["deliveries"] == BY_HAND
    assert (shown["sent"], shown["bounced"], shown["delivered"]) == (7, 3, 4)
    for sent in reversed(requests):  # again, and in another order
        assert send(path, sent).json()["new"] == 0
    assert stats("mail")["deliveries"] == BY_HAND
    (listed,) = site.get("/api/deliveries/sources").json()["items"]
    assert (listed["counted"], listed["needs_key"]) == (22, False)


def test_incoming_secret_and_key_are_not_stored_or_shown(source, site, client):
    path = source("postmark")
    secret = path.rpartition("/")[2]
    stored = b"".join(value for name in client.keys("px:*:source:*") for value in client.hvals(name))
    assert secret.encode() not in stored
    assert b"mail:secret" not in stored
    assert secret not in site.get("/api/deliveries/sources").text
    audit = site.get("/api/audit").json()["items"]
    assert [line["what"] for line in audit if "source" in line["what"]] == ["deliveries.source_added"]
    assert secret not in json.dumps(audit)


def test_incoming_wrong_secret_is_404_and_throttled(source, site, monkeypatch):
    waited = []

    async def delay(seconds):
        waited.append(seconds)

    monkeypatch.setattr(throttle, "delay", delay)
    path = source("brevo")
    wrong = [
        path[:-1] + "-",
        path.replace("brevo", "mailjet"),
        "/in/brevo/x",
        "/in/none/x",
        f"/in/brevo/{'x' * 5000}",
    ]
    for address in (*wrong, *wrong):
        assert problem(site.post(address, content=b"{}"), 404)
    assert waited[-1] > 0
    assert site.get(path).status_code == 405


def test_incoming_removed_source_takes_nothing(mail, source, send, site):
    mail()
    path = source("brevo")
    sent = REQUESTS["brevo"]()[0]
    assert send(path, sent).status_code == 200
    (item,) = site.get("/api/deliveries/sources").json()["items"]
    assert site.delete(f"/api/deliveries/sources/{item['id']}").status_code == 204
    assert problem(send(path, sent), 404)
    assert problem(site.delete(f"/api/deliveries/sources/{item['id']}"), 404)


def test_incoming_forged_request_counts_nothing(mail, source, send, stats):
    mail()
    for provider in ("ses", "sendgrid", "mailgun", "postmark"):
        path, sent = source(provider), REQUESTS[provider]()[0]
        forged = (
            sent.body.replace(b"ada", b"eve")
            if provider != "mailgun"
            else sent.body.replace(b"5f5f", b"6f6f")
        )
        headers = {**sent.headers, **({"Authorization": "Basic eDp5"} if provider == "postmark" else {})}
        assert problem(send(path, payloads.Sent(forged, headers)), 403)
    assert stats("mail")["deliveries"] is None


def test_incoming_source_without_key_asks_the_provider_to_try_again(mail, source, send, site, stats):
    mail()
    path = source("sendgrid", key=None)
    sent = REQUESTS["sendgrid"]()[0]
    assert "has no key yet" in problem(send(path, sent), 503)["detail"]
    (item,) = site.get("/api/deliveries/sources").json()["items"]
    assert (item["has_key"], item["needs_key"]) == (False, True)
    key_path = f"/api/deliveries/sources/{item['id']}/key"
    assert problem(site.put(key_path, json={"key": "wrong"}), 422)["errors"][0]["field"] == "key"
    assert site.put(key_path, json={"key": payloads.sendgrid_public_key()}).status_code == 204
    assert problem(site.put("/api/deliveries/sources/0123456789ab/key", json={"key": "x" * 20}), 404)
    assert send(path, sent).status_code == 200
    assert stats("mail")["deliveries"]


def test_incoming_ten_megabytes_are_refused(source, send):
    path = source("brevo")
    most = b'[{"event":"click"}' + b" " * (incoming.MAX_BODY_BYTES - 19) + b"]"
    assert send(path, payloads.Sent(most, {})).json()["ignored"] == {"other_event": 1}
    assert problem(send(path, payloads.Sent(most + b" ", {})), 413)


def test_incoming_bad_item_is_told_and_good_items_count(mail, source, send, stats):
    mail()
    good, bad = payloads.mailjet_event("ada", "delivered"), {"event": "sent", "email": ["x"]}
    answer = send(source("mailjet"), payloads.Sent(json.dumps([bad, good, {"event": "open"}]).encode(), {}))
    assert (answer.status_code, answer.json()["new"]) == (200, 1)
    assert answer.json()["ignored"] == {"other_event": 1}
    assert answer.json()["errors"][0]["item"] == 1
    assert "$.email" in answer.json()["errors"][0]["message"]
    assert stats("mail")["deliveries"]["delivered"] == 1


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000])
def test_incoming_body_that_is_no_json_is_400(source, send, body):
    assert problem(send(source("brevo"), payloads.Sent(body, {})), 400)


def test_incoming_redis_fails_halfway_asks_to_try_again_and_counts_once(
    mail, source, send, stats, monkeypatch
):
    mail()
    mail(id="other")
    events = [payloads.mailjet_event("ada", "delivered"), payloads.mailjet_event("bob", "delivered")]
    events[1]["Payload"] = '{"pixel_campaign": "other"}'
    sent = payloads.Sent(json.dumps(events).encode(), {})
    path, add = source("mailjet"), counting.add

    async def fail(store, secrets, campaign, facts, shards):
        if campaign == "other":
            raise redis.ConnectionError("gone")
        return await add(store, secrets, campaign, facts, shards)

    monkeypatch.setattr(counting, "add", fail)
    assert problem(send(path, sent), 503)
    monkeypatch.setattr(counting, "add", add)
    assert send(path, sent).json()["new"] == 1
    assert [stats(name)["deliveries"]["delivered"] for name in ("mail", "other")] == [1, 1]


def test_incoming_sns_without_answer_asks_to_try_again(mail, source, send, stats, monkeypatch):
    async def get(url, **_):
        raise NoAnswerError("no answer within 10 s")

    mail()
    monkeypatch.setattr(incoming.outgoing, "get", get)
    answer = send(source("ses"), REQUESTS["ses"]()[0])
    assert problem(answer, 503)
    assert answer.headers["retry-after"]
    assert stats("mail")["deliveries"] is None


def test_incoming_subscription_is_confirmed_at_sns(source, send, fetched):
    message = payloads.confirmation()
    assert send(source("ses"), payloads.sns_request(message)).status_code == 200
    assert fetched == [payloads.CERTIFICATE_URL, message["SubscribeURL"]]


def test_incoming_complaint_withdraws_if_set(mail, source, send, site, settings, secrets, monkeypatch):
    object.__setattr__(settings, "withdraw_on", "complained")
    mail()
    path = source("brevo")
    for sent in REQUESTS["brevo"]():
        send(path, sent)
    key = secrets.recipient_key(payloads.address("fay")).hex()
    assert site.get(f"/api/recipients/{key}").json()["withdrawals"][0]["until"] is None
    assert len(site.get("/api/withdrawals").json()["items"]) == 1


def test_incoming_metrics_count_events_by_outcome(mail, source, send, site):
    mail()
    path = source("brevo")
    send(path, REQUESTS["brevo"]()[0])
    send(path, payloads.Sent(b'{"event": "click"}', {}))
    send(path, payloads.Sent(b"x", {}))
    key = site.post("/api/keys", json={"name": "prometheus", "scopes": ["metrics"]}).json()["key"]
    text = site.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text
    for outcome in ("counted", "ignored", "refused"):
        (line,) = [line for line in text.splitlines() if f'outcome="{outcome}"' in line and "brevo" in line]
        assert line.startswith("pixel_reported_events_total{")
        assert line.endswith(" 1.0")


def test_sources_bad_requests_are_refused(site):
    def add(**body):
        return site.post("/api/deliveries/sources", json=body)

    assert problem(add(provider="none", name="x"), 422)["errors"][0]["field"] == "provider"
    assert problem(add(provider="ses", name="x", key="no topic"), 422)["errors"][0]["field"] == "key"
    assert problem(add(provider="ses"), 422)["errors"][0]["field"] == "name"
    for path in ("x", "0123456789ab", "0" * 11, "..", "G" * 12):
        assert site.delete(f"/api/deliveries/sources/{path}").status_code in (404, 405)


def test_sources_newer_record_takes_nothing_and_is_left(source, send, site, client):
    path = source("brevo")
    (name,) = client.keys("px:*:source:*")
    client.hset(name, "record", b'{"newer": true}')
    assert problem(send(path, REQUESTS["brevo"]()[0]), 404)
    assert site.get("/api/deliveries/sources").json()["items"] == []
    assert client.hget(name, "record") == b'{"newer": true}'
    assert client.scard(keys.SOURCES) == 1


def test_sources_page_adds_shows_once_and_removes(site):
    site.post("/sign-in", data={"key": API_KEY})
    page = {"Accept": "text/html"}

    def token():
        return (
            site.get("/deliveries", headers=page).text.partition('name="csrf" value="')[2].partition('"')[0]
        )

    csrf = token()
    added = site.post("/deliveries", data={"csrf": csrf, "provider": "sendgrid", "name": "", "key": ""})
    assert added.status_code == 200
    assert "http://pixel.test/in/sendgrid/" in added.text
    shown = site.get("/deliveries", headers=page).text
    assert "http://pixel.test/in/sendgrid/" not in shown
    assert "not set: no report is taken" in shown
    (item,) = site.get("/api/deliveries/sources").json()["items"]
    assert item["name"] == "SendGrid"
    bad = site.post(f"/deliveries/{item['id']}/key", data={"csrf": csrf, "key": "x"})
    assert (bad.status_code, "verification key" in bad.text) == (422, True)
    good = {"csrf": csrf, "key": payloads.sendgrid_public_key()}
    assert "not set" not in site.post(f"/deliveries/{item['id']}/key", data=good).text
    refused = site.post("/deliveries", data={"csrf": csrf, "provider": "ses", "name": "", "key": "x"})
    assert (refused.status_code, "ARN of the SNS topic" in refused.text) == (422, True)
    assert "was removed" in site.post(f"/deliveries/{item['id']}/remove", data={"csrf": csrf}).text

"""The signatures of requests: those of the provider are taken, all others are refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from pixel_server.deliveries import mailgun, providers, sendgrid, sns
from pixel_server.deliveries.event import BadPayload, BadSignature, Head
from pixel_server.webhooks.request import NoAnswerError
from tests.conftest import NOW
from tests.deliveries import payloads
from tests.deliveries.payloads import CERTIFICATE_URL, MAILGUN_KEY, TOPIC


class Fetched:
    """A fetch that answers with a certificate, and notes what was fetched."""

    def __init__(self, text=None):
        self.text = payloads.certificate() if text is None else text
        self.urls = []

    async def __call__(self, url):
        self.urls.append(url)
        return self.text


def read_sns(message, fetched=None, topic=TOPIC, now=NOW):
    certificates = sns.Certificates(fetched or Fetched())
    return asyncio.run(providers.read_sns(json.dumps(message).encode(), topic, certificates, now))


def event(who="ada", kind="delivered"):
    return json.dumps(payloads.ses_event(who, kind))


@pytest.mark.parametrize("version", ["1", "2"])
def test_sns_signed_message_is_read(version):
    found = read_sns(payloads.sns_message(event(), version))
    assert [delivery.kind for delivery in found.deliveries] == ["delivered"]


def test_sns_message_without_subject_is_read():
    assert read_sns(payloads.sns_message(event(), Subject=None)).deliveries


@pytest.mark.parametrize(
    "change",
    [
        {"Message": event("bob")},
        {"Timestamp": "2026-09-22T14:00:00.000Z"},
        {"TopicArn": "arn:aws:sns:eu-central-1:999999999999:mail-events"},
        {"Signature": "AAAA"},
        {"Signature": "not base64"},
        {"SignatureVersion": "1"},
        {"Type": "UnsubscribeConfirmation"},
    ],
)
def test_sns_changed_message_is_refused(change):
    with pytest.raises(BadSignature):
        read_sns({**payloads.sns_message(event()), **change})


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.example/a.pem",
        "https://sns.eu-central-1.amazonaws.com:8443/a.pem",
        "https://s3.eu-central-1.amazonaws.com/bucket/a.pem",
        "https://sns.evil.s3.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com/a.txt",
        "https://[/a.pem",
        "",
    ],
)
def test_sns_certificate_elsewhere_is_not_fetched(url):
    fetched = Fetched()
    with pytest.raises(BadSignature, match="certificate"):
        read_sns(payloads.sns_message(event(), SigningCertURL=url), fetched)
    assert fetched.urls == []


def test_sns_topic_of_somebody_else_is_refused_before_anything_is_fetched():
    fetched = Fetched()
    other = "arn:aws:sns:eu-central-1:999999999999:theirs"
    with pytest.raises(BadSignature, match="another topic"):
        read_sns(payloads.sns_message(event(), TopicArn=other), fetched)
    assert fetched.urls == []


def test_sns_certificate_is_fetched_once():
    fetched = Fetched()
    certificates = sns.Certificates(fetched)

    async def read():
        for who in ("ada", "bob"):
            body = json.dumps(payloads.sns_message(event(who))).encode()
            await providers.read_sns(body, TOPIC, certificates, NOW)

    asyncio.run(read())
    assert fetched.urls == [CERTIFICATE_URL]


@pytest.mark.parametrize("text", ["", "no certificate", payloads.certificate(days=5)])
def test_sns_bad_or_expired_certificate_is_refused(text):
    with pytest.raises(BadSignature, match="certificate"):
        read_sns(payloads.sns_message(event()), Fetched(text))


def test_sns_certificates_kept_are_bounded():
    fetched = Fetched()
    certificates = sns.Certificates(fetched)

    async def find():
        for number in range(3 * sns.MAX_CERTIFICATES):
            await certificates.find(f"https://sns.eu-west-1.amazonaws.com/{number}.pem")

    asyncio.run(find())
    assert len(certificates._known) == sns.MAX_CERTIFICATES


def test_sns_subscription_is_confirmed():
    fetched, message = Fetched(), payloads.confirmation()
    assert read_sns(message, fetched).deliveries == []
    assert fetched.urls == [CERTIFICATE_URL, message["SubscribeURL"]]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        f"http://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=1",
        f"https://sns.eu-central-1.amazonaws.com/?Action=DeleteTopic&TopicArn={TOPIC}",
        "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:other&Token=1",
        None,
    ],
)
def test_sns_confirmation_elsewhere_is_not_followed(url):
    fetched = Fetched()
    with pytest.raises(BadSignature, match="confirmation"):
        read_sns(payloads.confirmation(SubscribeURL=url), fetched)
    assert fetched.urls == [CERTIFICATE_URL]


def test_sns_end_of_a_subscription_is_ignored():
    fetched = Fetched()
    found = read_sns(payloads.confirmation(Type="UnsubscribeConfirmation"), fetched)
    assert (found.deliveries, found.other, fetched.urls) == ([], 1, [CERTIFICATE_URL])


def test_sns_raw_message_delivery_is_refused_with_what_to_do():
    with pytest.raises(BadPayload, match="turn raw message delivery off"):
        read_sns(payloads.ses_event("ada", "delivered"))


def test_sns_without_answer_is_not_a_bad_signature():
    async def fetch(url):
        raise NoAnswerError("no answer within 10 s")

    with pytest.raises(NoAnswerError):
        read_sns(payloads.sns_message(event()), fetch)


def test_sendgrid_signed_body_is_read_and_changed_body_is_refused():
    body, headers = payloads.sendgrid_requests()[0]
    head = Head("", headers[sendgrid.SIGNATURE_HEADER], headers[sendgrid.TIMESTAMP_HEADER])
    key = payloads.sendgrid_public_key()
    assert len(providers.read_signed("sendgrid", body, head, key, NOW).deliveries) == 5
    for changed_body, changed in (
        (body + b" ", head),
        (body, head._replace(timestamp="1790000001")),
        (body, head._replace(signature="AAAA")),
        (body, head._replace(signature="")),
        (body, head._replace(signature="é")),
    ):
        with pytest.raises(BadSignature):
            providers.read_signed("sendgrid", changed_body, changed, key, NOW)


def test_mailgun_signature_wrong_old_or_missing_is_refused():
    def read(event, now=NOW):
        return providers.read_signed("mailgun", json.dumps(event).encode(), Head(), MAILGUN_KEY, now)

    good = payloads.mailgun_event("ada", "delivered")
    assert read(good).deliveries
    assert read(good, NOW + 8 * 3600).deliveries, "Mailgun tries again for 8 hours"
    for now in (NOW + mailgun.MAX_AGE_SECONDS + 1, NOW - mailgun.MAX_AHEAD_SECONDS - 1):
        with pytest.raises(BadSignature, match="too old"):
            read(good, now)
    for signature in (
        {**good["signature"], "signature": "0" * 64},
        {**good["signature"], "timestamp": "x"},
        {**good["signature"], "token": 7},
        {**good["signature"], "signature": "é"},
        {},
        None,
    ):
        with pytest.raises(BadSignature):
            read({**good, "signature": signature})
    with pytest.raises(BadPayload):
        providers.read_signed("mailgun", b"no json", Head(), MAILGUN_KEY, NOW)


@pytest.mark.parametrize("provider", ["postmark", "brevo", "mailjet"])
def test_basic_auth_right_password_is_taken(provider):
    key = providers.PROVIDERS[provider].stored_key("mail:sécret")
    body = payloads.REQUESTS[provider]()[0].body
    good = "Basic bWFpbDpzw6ljcmV0"  # mail:sécret
    assert providers.read_signed(provider, body, Head(good), key, NOW).deliveries
    for header in ("", "Basic", "Basic bWFpbDp4", "Bearer bWFpbDpzw6ljcmV0", "Basic %%%"):
        with pytest.raises(BadSignature):
            providers.read_signed(provider, body, Head(header), key, NOW)


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        *(("ses", key) for key in ("", "mail", "arn:aws:s3:::bucket", f"{TOPIC}\n", "arn:aws:sns:eu:1:x")),
        *(("sendgrid", key) for key in ("", "x", "AAAA", "é")),
        *(("mailgun", key) for key in ("", "short", "a key\nof two lines", "é" * 20)),
        *(("postmark", key) for key in ("", "user", ":password", "user:", "a:b\n", "a:" + "b" * 300)),
    ],
)
def test_key_that_cannot_be_one_is_refused(provider, key):
    with pytest.raises(ValueError, match="must be"):
        providers.PROVIDERS[provider].stored_key(key)


def test_signatures_library_is_not_loaded_before_it_is_needed():
    code = "import sys, pixel_server.deliveries.providers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pixel_server.deliveries.sns" in done.stdout.split()
    assert "cryptography.x509" not in done.stdout.split()

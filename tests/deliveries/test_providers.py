"""What is read of each provider's events: kind, campaign, recipient, time."""

from __future__ import annotations

import json

import pytest

from pixel_server.deliveries import brevo, mailgun, mailjet, postmark, sendgrid, ses
from pixel_server.deliveries.event import BadPayload, Delivery
from tests.deliveries import payloads
from tests.deliveries.payloads import MAILING, address

READERS = {
    "ses": (lambda body: ses.read(body.decode()), payloads.ses_event),
    "sendgrid": (sendgrid.read, payloads.sendgrid_event),
    "mailgun": (mailgun.read, payloads.mailgun_event),
    "postmark": (postmark.read, payloads.postmark_event),
    "brevo": (brevo.read, payloads.brevo_event),
    "mailjet": (mailjet.read, payloads.mailjet_event),
}


def read(provider, *events):
    """Returns what is read of events: objects, or pairs of a recipient and a kind."""
    reader, make = READERS[provider]
    items = [make(*event) if isinstance(event, tuple) else event for event in events]
    return reader(json.dumps(items if len(items) > 1 else items[0]).encode())


@pytest.mark.parametrize("provider", READERS)
@pytest.mark.parametrize("kind", sorted({kind for _, kind in MAILING}))
def test_providers_documented_event_is_read(provider, kind):
    found = read(provider, ("ada", kind))
    assert (found.other, found.errors) == (0, [])
    (delivery,) = found.deliveries
    assert delivery[:3] == (("mail",), address("ada"), kind)
    assert abs(delivery.time - 1_790_000_000) < 1000


@pytest.mark.parametrize(
    ("provider", "event"),
    [
        ("ses", {"eventType": "Open", "mail": {"destination": ["a@example.org"]}, "open": {}}),
        ("ses", {"eventType": "Send", "mail": {"destination": ["a@example.org"]}, "send": {}}),
        ("ses", {"some": "thing"}),
        ("sendgrid", {"email": "a@example.org", "event": "processed", "timestamp": 1}),
        ("sendgrid", {"email": "a@example.org", "event": "dropped", "reason": "Bounced Address"}),
        ("mailgun", {"event-data": {"event": "opened", "recipient": "a@example.org"}}),
        ("postmark", {"RecordType": "Open", "Recipient": "a@example.org"}),
        ("postmark", {"RecordType": "Bounce", "Type": "AutoResponder", "Email": "a@example.org"}),
        ("postmark", {"RecordType": "SubscriptionChange", "SuppressSending": False, "Recipient": "a@b.org"}),
        (
            "postmark",
            {
                "RecordType": "SubscriptionChange",
                "SuppressSending": True,
                "SuppressionReason": "HardBounce",
                "Recipient": "a@example.org",
            },
        ),
        ("brevo", {"event": "click", "email": "a@example.org"}),
        ("brevo", {"event": "blocked", "email": "a@example.org"}),
        ("mailjet", {"event": "open", "email": "a@example.org"}),
        ("mailjet", {"event": "blocked", "email": "a@example.org"}),
        ("mailjet", {"event": "of a later year"}),
    ],
)
def test_providers_event_that_says_nothing_of_delivery_is_counted_as_other(provider, event):
    found = read(provider, event)
    assert (found.deliveries, found.other, found.errors) == ([], 1, [])


@pytest.mark.parametrize("provider", READERS)
def test_providers_bad_event_is_named_and_others_are_read(provider):
    found = read(
        provider, ("ada", "delivered"), {"event": 7, "eventType": 7, "RecordType": 7}, ("bob", "complained")
    )
    assert [delivery.recipient for delivery in found.deliveries] == [address("ada"), address("bob")]
    assert [error.item for error in found.errors] == [2]
    assert found.errors[0].message


@pytest.mark.parametrize("provider", sorted(READERS.keys() - {"ses"}))
@pytest.mark.parametrize("body", [b"", b"not json", b"\xff", b'{"a":' * 5000])
def test_providers_body_that_is_no_json_is_refused(provider, body):
    with pytest.raises(BadPayload):
        READERS[provider][0](body)


@pytest.mark.parametrize("provider", READERS)
@pytest.mark.parametrize("value", [None, 7, "", [], {}, {"mail": {}, "event-data": {}}, [[]], "a" * 300])
def test_providers_any_json_is_read_without_a_traceback(provider, value):
    for event in (value, {"event": value, "email": value}, {"RecordType": "Bounce", "Email": value}):
        found = READERS[provider][0](json.dumps([event]).encode())
        assert found.deliveries == []


def test_providers_ses_text_of_a_new_topic_is_ignored():
    assert ses.read("Successfully validated SNS topic for Amazon SES event publishing.").other == 1


def test_providers_ses_headers_name_campaign_and_recipient():
    headers = [
        {"name": "X-Pixel-Campaign", "value": "mail"},
        {"name": "x-pixel-recipient", "value": "customer 7"},
    ]
    event = payloads.ses_event("ada", "delivered", headers=headers, tags=None)
    assert read("ses", event).deliveries[0][:2] == (("mail",), "customer 7")
    event["mail"]["destination"].append("bob@example.org")
    event["delivery"]["recipients"].append("bob@example.org")
    # One name cannot stand for two recipients.
    recipients = [delivery.recipient for delivery in read("ses", event).deliveries]
    assert recipients == [address("ada"), "bob@example.org"]


def test_providers_ses_notification_of_an_identity_is_read():
    event = payloads.ses_event("ada", "bounced_hard")
    event["notificationType"] = event.pop("eventType")
    assert read("ses", event).deliveries[0].kind == "bounced_hard"


def test_providers_ses_mail_not_sent_for_an_earlier_complaint_is_no_complaint():
    event = payloads.ses_event("ada", "complained")
    event["complaint"]["complaintSubType"] = "OnAccountSuppressionList"
    assert read("ses", event) == ([], 1, [])


@pytest.mark.parametrize(
    ("provider", "change", "campaigns"),
    [
        ("sendgrid", {"pixel_campaign": None, "category": "mail"}, ("mail",)),
        ("sendgrid", {"pixel_campaign": None, "category": ["news", "mail"]}, ("news", "mail")),
        ("postmark", {"Metadata": None, "Tag": "mail"}, ("mail",)),
        ("postmark", {"Metadata": {}, "Tag": None}, ()),
        ("brevo", {"X-Mailin-custom": None, "tags": ["mail"]}, ("mail",)),
        ("brevo", {"X-Mailin-custom": "", "tags": None, "tag": "mail"}, ("mail",)),
        ("brevo", {"X-Mailin-custom": "", "tags": None, "tag": '["a","mail"]'}, ("a", "mail")),
        ("brevo", {"X-Mailin-custom": "order:7|pixel_campaign:spring"}, ("spring",)),
        ("mailjet", {"Payload": "", "CustomID": "mail"}, ("mail",)),
        ("mailjet", {"Payload": "not json", "CustomID": "", "customcampaign": "mail"}, ("mail",)),
    ],
)
def test_providers_campaign_by_tag(provider, change, campaigns):
    event = {**READERS[provider][1]("ada", "delivered"), **change}
    assert read(provider, event).deliveries[0].campaigns == campaigns


def test_providers_mailgun_tag_and_recipient_by_variable():
    event = payloads.mailgun_event("ada", "delivered")
    event["event-data"]["user-variables"] = {"pixel_recipient": "customer 7"}
    assert mailgun.read(json.dumps(event).encode()).deliveries == [
        Delivery(("news",), "customer 7", "delivered", 1_790_000_000.25)
    ]


def test_providers_postmark_time_with_seven_digits_is_read():
    found = read("postmark", ("ada", "delivered"), ("ada", "bounced_soft"))
    assert [round(delivery.time, 3) for delivery in found.deliveries] == [1789999200.123] * 2

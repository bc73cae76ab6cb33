"""Requests of mail services: the shapes that their documents show, with other values, signed with test keys.

The mailing of `MAILING` went to seven recipients:

    recipient   reported, in order                  state           besides
    ada         delivered                           delivered
    bob         soft bounce, delivered              delivered
    cy          delivered, hard bounce              bounced hard
    dee         hard bounce                         bounced hard
    eve         soft bounce                         bounced soft
    fay         delivered, complained               delivered       complained
    guy         delivered, unsubscribed             delivered       unsubscribed

By hand: 4 delivered, 2 bounced hard, 1 bounced soft, 1 complained, 1 unsubscribed. So 7 were sent, 3 bounced.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from pixel_server.deliveries import sendgrid, sns
from tests.conftest import NOW

CAMPAIGN = "mail"
MAILING = (
    ("ada", "delivered"),
    ("bob", "bounced_soft"),
    ("bob", "delivered"),
    ("cy", "delivered"),
    ("cy", "bounced_hard"),
    ("dee", "bounced_hard"),
    ("eve", "bounced_soft"),
    ("fay", "delivered"),
    ("fay", "complained"),
    ("guy", "delivered"),
    ("guy", "unsubscribed"),
)
BY_HAND = {"delivered": 4, "bounced_hard": 2, "bounced_soft": 1, "complained": 1, "unsubscribed": 1}
"""The figures of MAILING, counted by hand."""
TOPIC = "arn:aws:sns:eu-central-1:210987654321:mail-events"
CERTIFICATE_URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0f1e2d3c4b5a.pem"
MAILGUN_KEY = "a-signing-key-of-mailgun"
AT = "2026-09-21T14:00:00.123Z"
SECONDS = 1_790_000_000


class Sent(NamedTuple):
    """A request of a mail service."""

    body: bytes
    headers: dict[str, str]


def address(who: str) -> str:
    return f"{who}@example.org"


# Amazon SES, by event publishing


@cache
def sns_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def certificate(days: int = 365) -> str:
    """Returns a certificate of the test key, valid from ten days before NOW. days: days of validity."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = datetime.fromtimestamp(NOW, UTC) - timedelta(days=10)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(sns_key().public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .sign(sns_key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def ses_event(who: str, kind: str, **mail: Any) -> dict[str, Any]:
    to = address(who)
    common = {
        "timestamp": AT,
        "source": "Shop <shop@example.org>",
        "sendingAccountId": "210987654321",
        "messageId": f"0102-{who}-000000",
        "destination": [to],
        "headersTruncated": False,
        "headers": [{"name": "From", "value": "Shop <shop@example.org>"}, {"name": "To", "value": to}],
        "commonHeaders": {"from": ["Shop <shop@example.org>"], "to": [to], "subject": "News"},
        "tags": {"ses:configuration-set": ["news"], "pixel_campaign": [CAMPAIGN]},
        **mail,
    }
    if kind == "delivered":
        return {
            "eventType": "Delivery",
            "mail": common,
            "delivery": {
                "timestamp": AT,
                "processingTimeMillis": 1234,
                "recipients": [to],
                "smtpResponse": "250 2.6.0 Message received",
                "remoteMtaIp": "198.51.100.7",
                "reportingMTA": "mta.example.org",
            },
        }
    if kind.startswith("bounced"):
        is_hard = kind == "bounced_hard"
        return {
            "eventType": "Bounce",
            "mail": common,
            "bounce": {
                "bounceType": "Permanent" if is_hard else "Transient",
                "bounceSubType": "General",
                "bouncedRecipients": [
                    {
                        "emailAddress": to,
                        "action": "failed",
                        "status": "5.1.1" if is_hard else "4.2.2",
                        "diagnosticCode": "smtp; 550 5.1.1 user unknown",
                    }
                ],
                "timestamp": AT,
                "feedbackId": "0102-feedback-000000",
                "reportingMTA": "dsn; mta.example.org",
            },
        }
    if kind == "complained":
        return {
            "eventType": "Complaint",
            "mail": common,
            "complaint": {
                "complainedRecipients": [{"emailAddress": to}],
                "timestamp": AT,
                "feedbackId": "0102-feedback-000000",
                "userAgent": "Mailbox/1.0",
                "complaintFeedbackType": "abuse",
                "arrivalDate": AT,
            },
        }
    return {
        "eventType": "Subscription",
        "mail": common,
        "subscription": {
            "contactList": "News",
            "timestamp": AT,
            "source": "UnsubscribeHeader",
            "newTopicPreferences": {
                "unsubscribeAll": True,
                "topicSubscriptionStatus": [{"topicName": "News", "subscriptionStatus": "OptOut"}],
            },
            "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": []},
        },
    }


def sns_message(text: str, version: str = "2", **fields: Any) -> dict[str, Any]:
    """Returns a signed message of SNS. fields: fields to set before it is signed."""
    content = {
        "Type": "Notification",
        "MessageId": "5a8e2f6c-0000-4000-8000-3b1c2d3e4f50",
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": text,
        "Timestamp": AT,
        "SignatureVersion": version,
        "Signature": "",
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    signed = sns.signed_text(sns.read(json.dumps(content).encode())).encode()
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = sns_key().sign(signed, padding.PKCS1v15(), digest)
    return {**content, "Signature": base64.b64encode(signature).decode()}


def sns_request(message: dict[str, Any]) -> Sent:
    return Sent(json.dumps(message).encode(), {"Content-Type": "text/plain; charset=UTF-8"})


def confirmation(**fields: Any) -> dict[str, Any]:
    """Returns the message with which SNS asks for the confirmation of a subscription."""
    url = f"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336abc"
    return sns_message(
        "You have chosen to subscribe to the topic",
        **{"Type": "SubscriptionConfirmation", "Token": "2336abc", "SubscribeURL": url, **fields},
    )


def ses(events: Any = MAILING, **mail: Any) -> list[Sent]:
    return [
        sns_request(sns_message(json.dumps(ses_event(who, kind, **mail)), "12"[number % 2]))
        for number, (who, kind) in enumerate(events)
    ]


# SendGrid


@cache
def sendgrid_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sendgrid_public_key() -> str:
    der = (
        sendgrid_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(der).decode()


def sendgrid_event(who: str, kind: str) -> dict[str, Any]:
    more: dict[str, Any] = {
        "delivered": {"event": "delivered", "response": "250 OK"},
        "bounced_hard": {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 unknown"},
        "bounced_soft": {"event": "bounce", "type": "blocked", "status": "4.7.1", "reason": "450 later"},
        "complained": {"event": "spamreport"},
        "unsubscribed": {"event": "group_unsubscribe", "asm_group_id": 17},
    }[kind]
    return {
        "email": address(who),
        "timestamp": SECONDS,
        "smtp-id": f"<{who}.1@example.org>",
        "category": ["news", "autumn"],
        "sg_event_id": f"event-{who}-{kind}",
        "sg_message_id": f"message-{who}.recvd-0",
        "pixel_campaign": CAMPAIGN,
        **more,
    }


def sendgrid_request(body: bytes) -> Sent:
    signature = sendgrid_key().sign(b"1790000000" + body, ec.ECDSA(hashes.SHA256()))
    headers = {
        sendgrid.SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        sendgrid.TIMESTAMP_HEADER: "1790000000",
    }
    return Sent(body, {"Content-Type": "application/json", **headers})


def sendgrid_requests(events: Any = MAILING) -> list[Sent]:
    listed = [sendgrid_event(*event) for event in events]
    listed.insert(3, {"email": address("ada"), "timestamp": SECONDS, "event": "open", "useragent": "x"})
    return [sendgrid_request(json.dumps(part).encode()) for part in (listed[:6], listed[6:])]


# Mailgun


def mailgun_event(who: str, kind: str, at: float = NOW) -> dict[str, Any]:
    more: dict[str, Any] = {
        "delivered": {"event": "delivered", "log-level": "info", "delivery-status": {"code": 250}},
        "bounced_hard": {"event": "failed", "severity": "permanent", "reason": "bounce"},
        "bounced_soft": {"event": "failed", "severity": "temporary", "reason": "generic"},
        "complained": {"event": "complained", "log-level": "warn"},
        "unsubscribed": {"event": "unsubscribed", "client-info": {"client-type": "browser"}},
    }[kind]
    timestamp, token = str(int(at)), "5f" * 25
    signature = hmac.new(MAILGUN_KEY.encode(), f"{timestamp}{token}".encode(), sha256).hexdigest()
    return {
        "signature": {"timestamp": timestamp, "token": token, "signature": signature},
        "event-data": {
            "id": f"event-{who}-{kind}",
            "timestamp": SECONDS + 0.25,
            "recipient": address(who),
            "recipient-domain": "example.org",
            "message": {"headers": {"message-id": f"{who}.1@example.org", "to": address(who)}},
            "tags": ["news"],
            "campaigns": [],
            "user-variables": {"pixel_campaign": CAMPAIGN, "order": 7},
            **more,
        },
    }


# Postmark


def postmark_event(who: str, kind: str) -> dict[str, Any]:
    common = {
        "MessageID": f"00000000-0000-4000-8000-{who:>012}",
        "ServerID": 17,
        "MessageStream": "broadcast",
        "Tag": "news",
        "Metadata": {"pixel_campaign": CAMPAIGN},
    }
    if kind == "delivered":
        at = "2026-09-21T14:00:00.1234567Z"
        return {
            **common,
            "RecordType": "Delivery",
            "Recipient": address(who),
            "DeliveredAt": at,
            "Details": "250",
        }
    if kind == "unsubscribed":
        return {
            **common,
            "RecordType": "SubscriptionChange",
            "Recipient": address(who),
            "ChangedAt": "2026-09-21T14:00:00Z",
            "Origin": "Recipient",
            "SuppressSending": True,
            "SuppressionReason": "ManualSuppression",
        }
    record, name, code = {
        "bounced_hard": ("Bounce", "HardBounce", 1),
        "bounced_soft": ("Bounce", "SoftBounce", 4096),
        "complained": ("SpamComplaint", "SpamComplaint", 100001),
    }[kind]
    return {
        **common,
        "RecordType": record,
        "ID": 4711,
        "Type": name,
        "TypeCode": code,
        "Name": name,
        "Description": "",
        "Email": address(who),
        "From": "shop@example.org",
        "BouncedAt": "2026-09-21T10:00:00.1234567-04:00",
        "DumpAvailable": True,
        "Inactive": True,
        "CanActivate": True,
        "Subject": "News",
    }


# Brevo


def brevo_event(who: str, kind: str) -> dict[str, Any]:
    name = {"bounced_hard": "hard_bounce", "bounced_soft": "soft_bounce", "complained": "spam"}.get(
        kind, kind
    )
    return {
        "event": name,
        "email": address(who),
        "id": 471100,
        "date": "2026-09-21 16:00:00",
        "ts": SECONDS,
        "ts_event": SECONDS,
        "ts_epoch": SECONDS * 1000,
        "message-id": f"<{who}.1@smtp-relay.example.org>",
        "subject": "News",
        "tag": '["news"]',
        "tags": ["news"],
        "X-Mailin-custom": f'{{"pixel_campaign": "{CAMPAIGN}"}}',
        "sending_ip": "198.51.100.9",
    }


# Mailjet


def mailjet_event(who: str, kind: str) -> dict[str, Any]:
    more: dict[str, Any] = {
        "delivered": {"event": "sent", "smtp_reply": "250 2.0.0 OK"},
        "bounced_hard": {"event": "bounce", "blocked": True, "hard_bounce": True, "error": "user unknown"},
        "bounced_soft": {"event": "bounce", "blocked": False, "hard_bounce": False, "error": "mailbox full"},
        "complained": {"event": "spam", "source": "feedback loop"},
        "unsubscribed": {"event": "unsub", "mj_list_id": 4, "ip": "198.51.100.3", "agent": "x"},
    }[kind]
    return {
        "time": SECONDS,
        "MessageID": 19421777835146490,
        "Message_GUID": "1ab23cd4-e567-8901-2345-6789f0gh1i2j",
        "email": address(who),
        "mj_campaign_id": 7257,
        "mj_contact_id": 4,
        "customcampaign": "",
        "CustomID": "order-7",
        "Payload": json.dumps({"pixel_campaign": CAMPAIGN}),
        **more,
    }


def one_by_one(event: Callable[[str, str], dict[str, Any]]) -> list[Sent]:
    headers = {"Content-Type": "application/json"}
    return [Sent(json.dumps(event(*each)).encode(), headers) for each in MAILING]


def in_lists(event: Callable[[str, str], dict[str, Any]]) -> list[Sent]:
    events = [event(*each) for each in MAILING]
    return [
        Sent(json.dumps(part).encode(), {"Content-Type": "application/json"})
        for part in (events[:5], events[5:])
    ]


REQUESTS: dict[str, Callable[[], list[Sent]]] = {
    "ses": ses,
    "sendgrid": sendgrid_requests,
    "mailgun": lambda: one_by_one(mailgun_event),
    "postmark": lambda: one_by_one(postmark_event),
    "brevo": lambda: one_by_one(brevo_event),
    "mailjet": lambda: in_lists(mailjet_event),
}
"""The requests that report MAILING, by provider."""


def keys() -> dict[str, str | None]:
    """Returns the key of a source of each provider."""
    return {
        "ses": TOPIC,
        "sendgrid": sendgrid_public_key(),
        "mailgun": MAILGUN_KEY,
        "postmark": "mail:secret",
        "brevo": None,
        "mailjet": None,
    }

"""The table of providers, and the reading of a request of any of them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import NamedTuple

from pixel_server.auth.token_hash import token_hash
from pixel_server.deliveries import brevo, mailgun, mailjet, postmark, sendgrid, ses, sns
from pixel_server.deliveries.event import BadSignature, Events, Head
from pixel_server.deliveries.sns import Certificates


class Provider(NamedTuple):
    """A provider. label: its name for people. key_help: what its key is, as the end of a sentence.

    stored_key: returns what is stored of a key. Raises ValueError if the key is bad. is_key_needed: whether a
    source takes no events before its key is set.
    """

    label: str
    key_help: str
    stored_key: Callable[[str], str]
    is_key_needed: bool


def _stored_password(text: str) -> str:
    """Returns the hash of the user and password of basic auth, `user:password`."""
    user, colon, password = text.partition(":")
    if not (user and colon and password and text.isprintable() and len(text) <= 200):
        raise ValueError("must be a user and a password with a colon between them, such as mail:secret")
    return token_hash(text, b"px-basic")


_BASIC = "optional: a user and a password that the service sends, as user:password"
PROVIDERS = {
    "ses": Provider("Amazon SES", "the ARN of the SNS topic", sns.check_topic, True),
    "sendgrid": Provider(
        "SendGrid", "the verification key of the signed event webhook", sendgrid.check_key, True
    ),
    "mailgun": Provider("Mailgun", "the HTTP webhook signing key", mailgun.check_key, True),
    "postmark": Provider("Postmark", _BASIC, _stored_password, False),
    "brevo": Provider("Brevo", _BASIC, _stored_password, False),
    "mailjet": Provider("Mailjet", _BASIC, _stored_password, False),
}
"""Providers by the name in the address."""
_READERS = {
    "sendgrid": sendgrid.read,
    "mailgun": mailgun.read,
    "postmark": postmark.read,
    "brevo": brevo.read,
    "mailjet": mailjet.read,
}


def read_signed(provider: str, body: bytes, head: Head, key: str | None, now: float) -> Events:
    """Returns the events of a request, after the check of its signature. For each provider but SES.

    key: as stored. now: seconds. Raises BadSignature or BadPayload.
    """
    if provider == "sendgrid":
        sendgrid.verify(body, head, key or "")
    elif provider == "mailgun":
        mailgun.verify(body, key or "", now)
    elif key is not None:
        _check_password(head.authorization, key)
    return _READERS[provider](body)


def _check_password(authorization: str, key: str) -> None:
    """Raises BadSignature if a header `Authorization` does not have the password whose hash is `key`."""
    kind, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        text = ""
    if kind.lower() != "basic" or not hmac.compare_digest(token_hash(text, b"px-basic"), key):
        raise BadSignature("the user or the password of basic auth is missing or wrong")


async def read_sns(body: bytes, topic: str, certificates: Certificates, now: float) -> Events:
    """Returns the events of a message of SNS, and confirms a subscription. now: seconds.

    Raises BadSignature or BadPayload, and NoAnswerError if SNS does not answer.
    """
    message = sns.read(body)
    await sns.verify(message, topic, certificates, now)
    if message.type == "Notification":
        return ses.read(message.message)
    if message.type == "SubscriptionConfirmation":
        await certificates.fetch(sns.confirmation_url(message))
    return Events([], 1)

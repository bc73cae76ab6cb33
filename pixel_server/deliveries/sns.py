"""Messages of Amazon SNS: their signature, and the confirmation of a subscription.

Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html (November 2026).
Anyone with an account of AWS can have a message signed, for a topic of their own. So the topic is compared
too, and the secret in the URL says which topic it must be.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from pixel_server.deliveries.event import BadPayload, BadSignature, decode

if TYPE_CHECKING:
    from cryptography import x509

# `cryptography` is imported where it is needed: only servers with a source of SendGrid or SES pay for it.

Fetch = Callable[[str], Awaitable[str]]
"""Returns the text at an https URL. Raises webhooks.request.NoAnswerError."""
MAX_CERTIFICATES = 16
"""Largest number of certificates that are kept. SNS has one a region, and changes it about once a year."""
_is_host = re.compile(r"sns\.[a-z]{2}(-[a-z0-9]+)+\.amazonaws\.com(\.cn)?").fullmatch
_is_topic = re.compile(r"arn:aws(-cn|-us-gov)?:sns:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,256}").fullmatch
_SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
    "UnsubscribeConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
"""Names of the fields that the signature covers, in order, by type of message."""


class Message(msgspec.Struct, rename="pascal"):
    """A message. subscribe_url: of a subscription that waits to be confirmed."""

    type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature: str
    signature_version: Literal["1", "2"]
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")
    subject: str | None = None
    token: str | None = None


def check_topic(text: str) -> str:
    """Returns the ARN of a topic. Raises ValueError if it is not one."""
    if not _is_topic(text):
        raise ValueError(
            "must be the ARN of the SNS topic, such as arn:aws:sns:eu-central-1:123456789012:mail"
        )
    return text


def read(body: bytes) -> Message:
    """Returns the message in a body. Raises BadPayload."""
    try:
        return msgspec.convert(decode(body), Message)
    except msgspec.ValidationError as error:
        raise BadPayload(
            f"the body is not a message of SNS ({error}); turn raw message delivery off"
        ) from None


class Certificates:
    """The certificates of SNS, by URL. fetch: fetches a certificate that is not known yet."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self._known: dict[str, x509.Certificate] = {}

    async def find(self, url: str) -> x509.Certificate:
        """Returns the certificate at a URL. Raises BadSignature if the URL is not one of SNS.

        Raises NoAnswerError if the certificate cannot be fetched.
        """
        if not (is_of_sns(url) and urlsplit(url).path.endswith(".pem")):
            raise BadSignature("the message names a certificate that is not one of SNS")
        if url not in self._known:
            from cryptography import x509  # noqa: PLC0415

            text = await self.fetch(url)
            try:
                certificate = x509.load_pem_x509_certificate(text.encode())
            except ValueError:
                raise BadSignature("the certificate of the message cannot be read") from None
            while len(self._known) >= MAX_CERTIFICATES:
                del self._known[next(iter(self._known))]
            self._known[url] = certificate
        return self._known[url]


def is_of_sns(url: str) -> bool:
    """Returns whether a URL is of SNS itself, by https, without a port or a user."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and _is_host(parts.netloc) is not None and url.isascii()


async def verify(message: Message, topic: str, certificates: Certificates, now: float) -> None:
    """Raises BadSignature if SNS did not sign this message for this topic. now: seconds.

    Raises NoAnswerError if the certificate cannot be fetched.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    if message.topic_arn != topic:
        raise BadSignature("the message is of another topic than that of this address")
    certificate = await certificates.find(message.signing_cert_url)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin.timestamp() <= now <= end.timestamp():
        raise BadSignature("the certificate of SNS is not valid at this time; is the clock right?")
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadSignature("the certificate of SNS has no RSA key")
    digest = hashes.SHA1() if message.signature_version == "1" else hashes.SHA256()  # noqa: S303 - of version 1
    try:
        signature = base64.b64decode(message.signature, validate=True)
        key.verify(signature, signed_text(message).encode(), padding.PKCS1v15(), digest)
    except (binascii.Error, InvalidSignature):
        raise BadSignature("the signature of the message is wrong") from None


def signed_text(message: Message) -> str:
    """Returns the text that the signature covers: a line with the name and one with the value of each field.

    Leaves out fields that the message does not have.
    """
    values = msgspec.to_builtins(message)
    names = [name for name in _SIGNED_FIELDS[message.type] if values.get(name) is not None]
    return "".join(f"{name}\n{values[name]}\n" for name in names)


def confirmation_url(message: Message) -> str:
    """Returns the URL that confirms a subscription. Raises BadSignature if it is not one of SNS."""
    url = message.subscribe_url or ""
    query = parse_qs(urlsplit(url).query) if is_of_sns(url) else {}
    if query.get("Action") != ["ConfirmSubscription"] or query.get("TopicArn") != [message.topic_arn]:
        raise BadSignature("the message names an address for the confirmation that is not one of SNS")
    return url

"""An email backend for Django that puts the pixel into each HTML mail, and sends the mail by another backend.

Django's settings:

PIXEL_MINTER         a `links.Minter`
PIXEL_CAMPAIGN       id of the campaign; optional, without it only messages with `pixel_campaign` get a pixel
PIXEL_EMAIL_BACKEND  the backend that sends; optional, by default Django's backend for SMTP
PIXEL_TWIN           adds a second pixel at the top if True; optional

Two attributes of a message take precedence: `pixel_campaign` over PIXEL_CAMPAIGN (None for no pixel), and
`pixel_recipient` over the only address of the message. The message itself is not changed. A mail that cannot
have a pixel is sent without a pixel, and the log says why.
"""

from __future__ import annotations

import copy
from types import TracebackType
from typing import Any

from pixel_server.logs import Log
from pixel_server.mail.links import Minter, embed
from pixel_server.mail.mailboxes import only_address
from pixel_server.mail.placement import EmbedError
from pixel_server.mail.sealed import pgp_seal

log = Log(__name__)

_SMTP = "django.core.mail.backends.smtp.EmailBackend"
_TEXTS = frozenset({"body", "alternatives"})
"""Attributes that hold the pixel in the copy of a message. They are not copied back to the message."""


class EmailBackend:
    """A backend for Django's setting EMAIL_BACKEND."""

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        from django.conf import settings  # noqa: PLC0415 - Django is optional
        from django.core.mail import get_connection  # noqa: PLC0415

        self.fail_silently = fail_silently
        self._minter: Minter = settings.PIXEL_MINTER
        self._campaign: str | None = getattr(settings, "PIXEL_CAMPAIGN", None)
        self._twin = bool(getattr(settings, "PIXEL_TWIN", False))
        sending_backend = getattr(settings, "PIXEL_EMAIL_BACKEND", _SMTP)
        self._connection = get_connection(sending_backend, fail_silently=fail_silently, **options)

    def open(self) -> Any:
        return self._connection.open()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> EmailBackend:
        self._connection.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.__exit__(kind, error, traceback)

    def send_messages(self, messages: Any) -> int:
        """Returns the number of messages that were sent.

        If the other backend sets an attribute of a copy, such as `anymail_status`, copies that attribute to
        the message.
        """
        messages = list(messages)
        outgoing_messages = [self._with_pixel(message) for message in messages]
        before = [dict(vars(outgoing)) for outgoing in outgoing_messages]
        try:
            return int(self._connection.send_messages(outgoing_messages) or 0)
        finally:
            for message, outgoing, attributes in zip(messages, outgoing_messages, before, strict=True):
                if outgoing is not message:
                    _copy_changes(attributes, outgoing, message)

    def _with_pixel(self, message: Any) -> Any:
        campaign = getattr(message, "pixel_campaign", self._campaign)
        if campaign is None:
            return message
        try:
            mailboxes = [str(mailbox) for mailbox in message.recipients()]  # Django accepts lazy translations
            recipient = getattr(message, "pixel_recipient", None) or only_address(mailboxes)
            return with_pixel(message, self._minter, campaign, recipient, twin=self._twin)
        except ValueError as error:
            log.warning("no-pixel", "no pixel: %(reason)s", reason=error)
            return message


def with_pixel(message: Any, minter: Minter, campaign: str, recipient: str, *, twin: bool = False) -> Any:
    """Returns a copy of a `django.core.mail.EmailMessage` with the pixel in its HTML.

    Raises EmbedError if the message has no HTML, has a pixel already, or has text that is signed or encrypted
    with PGP. Raises ValueError if `Minter.url` does.
    """

    def add_to(html: Any) -> Any:
        return embed(html, minter, campaign, recipient, twin=twin)

    changed = copy.copy(message)
    alternatives = list(getattr(message, "alternatives", None) or ())
    for content in (message.body, *(alternative[0] for alternative in alternatives)):
        if isinstance(content, str) and (seal := pgp_seal(content.encode("utf-8", "replace"))):
            raise EmbedError(f"it is {seal} with PGP in its text")
    for i, alternative in reversed(list(enumerate(alternatives))):
        if alternative[1] == "text/html":
            html = add_to(alternative[0])
            is_named_tuple = hasattr(alternative, "_replace")  # older releases of Django have a plain tuple
            alternatives[i] = alternative._replace(content=html) if is_named_tuple else (html, alternative[1])
            changed.alternatives = alternatives
            return changed
    if message.content_subtype != "html":
        raise EmbedError("it has no HTML part, only text")
    changed.body = add_to(message.body)
    return changed


def _copy_changes(before: dict[str, Any], changed: Any, message: Any) -> None:
    """Copies to the message each attribute of `changed` that differs from `before`, except _TEXTS."""
    after = vars(changed)
    for name in (before.keys() | after.keys()) - _TEXTS:
        if name not in after:
            vars(message).pop(name, None)
        elif name not in before or after[name] is not before[name]:
            setattr(message, name, after[name])

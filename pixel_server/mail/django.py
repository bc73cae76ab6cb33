"""An email backend for Django that puts the pixel into each HTML mail and passes it to another backend.

Django's settings: PIXEL_MINTER is a `links.Minter`, and PIXEL_CAMPAIGN the id of a campaign. Optional are
PIXEL_EMAIL_BACKEND, the other backend (default: Django's backend for SMTP), and PIXEL_TWIN, which adds a
second pixel at the top if True. The attributes `pixel_campaign` (None for no pixel) and `pixel_recipient` of
a message take precedence. The message itself is not changed. A mail that cannot have a pixel is sent without
it, and the log says why.
"""

from __future__ import annotations

import copy
import logging
from email.utils import parseaddr
from types import TracebackType
from typing import Any

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.placement import EmbedError

log = logging.getLogger("pixel_server.mail.django")

_SMTP = "django.core.mail.backends.smtp.EmailBackend"


class EmailBackend:
    """The backend that Django creates if its setting EMAIL_BACKEND names this class."""

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        from django.conf import settings  # noqa: PLC0415 - Django is optional
        from django.core.mail import get_connection  # noqa: PLC0415

        self.fail_silently = fail_silently
        self._minter: Minter = settings.PIXEL_MINTER
        self._campaign: str | None = getattr(settings, "PIXEL_CAMPAIGN", None)
        self._twin = bool(getattr(settings, "PIXEL_TWIN", False))
        other = getattr(settings, "PIXEL_EMAIL_BACKEND", _SMTP)
        self._other = get_connection(other, fail_silently=fail_silently, **options)

    def open(self) -> Any:
        return self._other.open()

    def close(self) -> None:
        self._other.close()

    def __enter__(self) -> EmailBackend:
        self._other.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._other.__exit__(kind, error, traceback)

    def send_messages(self, messages: Any) -> int:
        """Returns the number of messages that were sent."""
        return int(self._other.send_messages([self._with_pixel(message) for message in messages]) or 0)

    def _with_pixel(self, message: Any) -> Any:
        campaign = getattr(message, "pixel_campaign", self._campaign)
        if campaign is None:
            return message
        try:
            recipient = getattr(message, "pixel_recipient", None) or _only_address(message.recipients())
            return with_pixel(message, self._minter, campaign, recipient, twin=self._twin)
        except ValueError as error:
            log.warning("no pixel: %s", error)
            return message


def with_pixel(message: Any, minter: Minter, campaign: str, recipient: str, *, twin: bool = False) -> Any:
    """Returns a copy of a `django.core.mail.EmailMessage` with the pixel in its HTML.

    Raises EmbedError if the message has no HTML or has a pixel, or if its text is signed or encrypted with
    PGP. Raises ValueError as `Minter.url` does.
    """

    def add_to(html: Any) -> Any:
        return embed(html, minter, campaign, recipient, twin=twin)

    changed = copy.copy(message)
    alternatives = list(getattr(message, "alternatives", None) or ())
    for content in (message.body, *(alternative[0] for alternative in alternatives)):
        if isinstance(content, str) and "-----BEGIN PGP " in content:
            raise EmbedError("it is signed or encrypted with PGP in its text")
    for i, alternative in reversed(list(enumerate(alternatives))):
        if alternative[1] == "text/html":
            html = add_to(alternative[0])
            is_named = hasattr(alternative, "_replace")  # a tuple in older releases of Django
            alternatives[i] = alternative._replace(content=html) if is_named else (html, alternative[1])
            changed.alternatives = alternatives
            return changed
    if message.content_subtype != "html":
        raise EmbedError("it has no HTML part, only text")
    changed.body = add_to(message.body)
    return changed


def _only_address(recipients: list[str]) -> str:
    """Returns the address of the only recipient. Raises EmbedError if there are several, or none."""
    addresses = list(dict.fromkeys(parseaddr(recipient)[1] for recipient in recipients))
    if len(addresses) != 1:
        raise EmbedError(f"it has {len(addresses)} recipients: name the recipient of the pixel")
    return addresses[0]

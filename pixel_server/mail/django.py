"""An e-mail back end for Django that puts the pixel into each HTML mail, and hands it to another one.

In Django's settings: PIXEL_MINTER (a `links.Minter`), PIXEL_CAMPAIGN, and if you like PIXEL_EMAIL_BACKEND
(the other one; Django's own for SMTP) and PIXEL_TWIN (True: a second pixel at the top). A message may say
otherwise by attributes of its own: `pixel_campaign`, None for no pixel, and `pixel_recipient`. The message
that was given stays as it was. A mail that can have no pixel is sent without one, and the log says why.
"""

from __future__ import annotations

import copy
import logging
from types import TracebackType
from typing import Any

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.placement import EmbedError

log = logging.getLogger("pixel_server.mail.django")

_SMTP = "django.core.mail.backends.smtp.EmailBackend"


class EmailBackend:
    """What Django makes from its setting EMAIL_BACKEND."""

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        from django.conf import settings  # noqa: PLC0415 - only who uses this has Django
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
        """How many were sent."""
        return int(self._other.send_messages([self._with_pixel(one) for one in messages]) or 0)

    def _with_pixel(self, message: Any) -> Any:
        campaign = getattr(message, "pixel_campaign", self._campaign)
        if campaign is None:
            return message
        try:
            recipient = getattr(message, "pixel_recipient", None) or _only(message.recipients())
            return with_pixel(message, self._minter, campaign, recipient, twin=self._twin)
        except ValueError as error:
            log.warning("no pixel: %s", error)
            return message


def with_pixel(message: Any, minter: Minter, campaign: str, recipient: str, *, twin: bool = False) -> Any:
    """A new `django.core.mail.EmailMessage` with the pixel in its HTML.

    EmbedError: it has no HTML, or a pixel already, or is signed or encrypted with PGP in its text.
    ValueError: see `Minter.url`.
    """

    def put(html: Any) -> Any:
        return embed(html, minter, campaign, recipient, twin=twin)

    made = copy.copy(message)
    alternatives = list(getattr(message, "alternatives", None) or ())
    for content in (message.body, *(one[0] for one in alternatives)):
        if isinstance(content, str) and "-----BEGIN PGP " in content:
            raise EmbedError("it is signed or encrypted with PGP in its text")
    for i, one in reversed(list(enumerate(alternatives))):
        if one[1] == "text/html":
            html = put(one[0])
            alternatives[i] = one._replace(content=html) if hasattr(one, "_replace") else (html, one[1])
            made.alternatives = alternatives
            return made
    if message.content_subtype != "html":
        raise EmbedError("it has no HTML part, only text")
    made.body = put(message.body)
    return made


def _only(recipients: list[str]) -> str:
    from email.utils import parseaddr  # noqa: PLC0415

    found = list(dict.fromkeys(parseaddr(one)[1] for one in recipients))
    if len(found) != 1:
        raise EmbedError(f"it has {len(found)} recipients: say which one it stands for")
    return found[0]

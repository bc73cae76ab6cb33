"""Loads and checks the texts of the privacy pages. `locales/` has one file for each language."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

LANGUAGES = ("en", "de", "fr", "es", "it")
DEFAULT_LANGUAGE = "en"
FOLDER = Path(__file__).parent / "locales"
_MAX_ACCEPT_CHARACTERS = 1000
"""Characters of an Accept-Language header that are read; the rest is ignored."""
_LANGUAGE_RANGE = re.compile(
    r"([a-z]{1,8}|\*)(?:-[a-z0-9-]*)?(?:\s*;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.I | re.A
)
"""A language range with its weight: `de-CH;q=0.8` (RFC 9110, 12.4.2 and 12.5.4, June 2022)."""


class _Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a language's file. The file must have exactly the fields of the class."""


class RetentionTexts(_Texts, frozen=True):
    """Names of the kinds of data that are removed after some days, in the order of the list on a page."""

    buckets: str
    days: str
    visits: str
    recipients: str
    names: str
    dead_letters: str


class SharedTexts(_Texts, frozen=True):
    """Texts of both pages. one_day, several_days: contain `{days}`. thousands: separates groups of digits."""

    recorded_heading: str
    recorded_if_allowed_heading: str
    controller_heading: str
    retention_heading: str
    one_day: str
    several_days: str
    thousands: str
    retention: RetentionTexts


class StateTexts(_Texts, frozen=True):
    """A text for each `recipient_page.State`."""

    foreign: str
    anonymous: str
    recorded: str
    stopped: str
    erased: str
    erasing: str
    throttled: str
    unavailable: str


class RecordedOfRecipient(_Texts, frozen=True):
    """Items of the list that says what is recorded about a recipient.

    consent: contains `{version}` and `{time}`. The page shows it last.
    """

    nothing: str
    totals: str
    last_day: str
    code: str
    opens: str
    deliveries: str
    traces: str
    name: str
    until_judged: str
    consent: str


class RecipientTexts(_Texts, frozen=True):
    """Texts of the page for a recipient, which the link in a mail opens."""

    titles: StateTexts
    leads: StateTexts
    stop_button: str
    stop_hint: str
    erase_button: str
    erase_hint: str
    erase_stopped_hint: str
    allow_button: str
    allow_hint: str
    recorded_before_heading: str
    operator_heading: str
    sender: str
    recorded: RecordedOfRecipient


class RecordedOfBrowser(_Texts, frozen=True):
    """Items of the list that says what is recorded when a browser views a web page."""

    page: str
    came_from: str
    device: str
    totals: str
    until_judged: str


class VisitorTexts(_Texts, frozen=True):
    """Explanations of how a visitor is recognised: one for each `Identity` that a campaign can have.

    any: explanation if the link to the page names no campaign.
    """

    cookieless: str
    cookie: str
    own: str
    any: str


class BrowserTexts(_Texts, frozen=True):
    """Texts of the page for a browser. opt_out_hint: contains `{days}`."""

    title: str
    title_opted_out: str
    lead: str
    lead_opted_out: str
    opt_out_button: str
    opt_out_hint: str
    allow_button: str
    allow_hint: str
    cookie_refused: str
    still_opted_out: str
    scope_heading: str
    scope_framed: str
    scope_alone: str
    site: str
    recorded: RecordedOfBrowser
    visitor: VisitorTexts


class Texts(_Texts, frozen=True):
    """All texts of a language."""

    shared: SharedTexts
    recipient: RecipientTexts
    browser: BrowserTexts


def load_texts(path: Path) -> Texts:
    """Returns the texts of a language's file.

    Raises ValueError if a field is missing, unknown or not text.
    """
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Texts)


TEXTS = {language: load_texts(FOLDER / f"{language}.toml") for language in LANGUAGES}
"""Texts by language, such as `"de"`."""


def choose_language(accept: str) -> str:
    """Returns the language of TEXTS that an Accept-Language header prefers, by default English.

    Skips parts of the header that are not valid.
    """
    best, best_weight = DEFAULT_LANGUAGE, 0.0
    for part in accept[:_MAX_ACCEPT_CHARACTERS].split(","):
        match = _LANGUAGE_RANGE.fullmatch(part.strip())
        if match is None:
            continue
        language, weight = match[1].lower(), float(match[2] or 1)
        if language == "*":
            language = DEFAULT_LANGUAGE
        if language in TEXTS and weight > best_weight:
            best, best_weight = language, weight
    return best

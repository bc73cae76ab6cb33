"""Renders the privacy page of a recipient. It shows what is recorded, stops the recording, and erases data.

The page sends no referrer, so browsers post its form with `Origin: null`. So the token authorizes the
request, and not the origin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from html import escape
from typing import NamedTuple

from pixel_server import operator_name
from pixel_server.consent_ref import ConsentRef
from pixel_server.privacy.document import button, controller, document, retention_times
from pixel_server.privacy.texts import DEFAULT_LANGUAGE, TEXTS, RecordedOfRecipient, StateTexts, Texts
from pixel_server.times import iso
from pixel_server.tokens import Mode


class State(Enum):
    """The state of the recipient whom a link names, or the reason why the state cannot be shown."""

    FOREIGN = auto()
    """The token is not from this server."""
    ANONYMOUS = auto()
    """The token names nobody: its mode is `count`."""
    RECORDED = auto()
    STOPPED = auto()
    ERASED = auto()
    """Recording is stopped, and the data is erased."""
    ERASING = auto()
    """Recording is stopped, and the data will be erased soon."""
    THROTTLED = auto()
    """The recipient acted too often within a minute. Nothing was changed."""
    UNAVAILABLE = auto()
    """The store does not answer. Nothing was changed."""

    def text(self, texts: StateTexts) -> str:
        """Returns the text of this state."""
        text: str = getattr(texts, self.name.lower())
        return text


class View(NamedTuple):
    """The data of one page. action: URL that the form posts to. operator: a name or an http(s) URL.

    mode: mode of the link. consent: the stored consent of the recipient, or None. keep: days for which each
    kind of data is kept: "buckets", "days", "recipients", "names" and "dead_letters". The page leaves out
    kinds that are missing.
    """

    state: State
    action: str
    token: str
    operator: str | None
    mode: Mode
    keep: Mapping[str, int]
    consent: ConsentRef | None = None


def render(view: View, language: str) -> bytes:
    """Returns the page as UTF-8. An unknown language becomes English."""
    language = language if language in TEXTS else DEFAULT_LANGUAGE
    texts = TEXTS[language]
    keep = {kind: view.keep[kind] for kind in view.keep if _concerns(kind, view)}
    parts = [
        f"<p>{escape(view.state.text(texts.recipient.leads))}</p>",
        *_form(view, texts),
        *_recorded(view, texts),
        *_controller(view, texts),
        *retention_times(keep, texts.shared),
    ]
    return document(language, view.state.text(texts.recipient.titles), view.operator, parts)


def _form(view: View, texts: Texts) -> Iterator[str]:
    recipient = texts.recipient
    stop = button("stop", recipient.stop_button, recipient.stop_hint)
    erase = button("erase", recipient.erase_button, recipient.erase_hint)
    erase_stopped = button("erase", recipient.erase_button, recipient.erase_stopped_hint)
    allow = button("allow", recipient.allow_button, recipient.allow_hint)
    buttons = {
        State.RECORDED: (stop, erase),
        State.STOPPED: (allow, erase_stopped),
        State.ERASED: (allow,),
        State.ERASING: (allow,),
        State.UNAVAILABLE: (stop, erase),
    }.get(view.state)
    if buttons is None:
        return
    yield f'<form method="post" action="{escape(view.action)}">'
    yield f'<input type="hidden" name="t" value="{escape(view.token)}">'
    yield from buttons
    yield "</form>"


def _recorded(view: View, texts: Texts) -> Iterator[str]:
    if view.state == State.FOREIGN:
        return
    heading = {
        State.STOPPED: texts.recipient.recorded_before_heading,
        State.ERASED: texts.shared.recorded_if_allowed_heading,
        State.ERASING: texts.shared.recorded_if_allowed_heading,
    }.get(view.state, texts.shared.recorded_heading)
    yield f"<h2>{escape(heading)}</h2>\n<ul>"
    for item in _recorded_items(view.mode, texts.recipient.recorded):
        yield f"<li>{escape(item)}</li>"
    if view.consent is not None:
        time = iso(view.consent.time).replace("T", " ").replace("Z", " UTC")
        item = texts.recipient.recorded.consent.format(version=view.consent.version, time=time)
        yield f"<li>{escape(item)}</li>"
    yield "</ul>"


def _recorded_items(mode: Mode, texts: RecordedOfRecipient) -> Iterator[str]:
    if mode == Mode.OFF:
        yield texts.nothing
        return
    yield texts.totals
    if mode == Mode.LAST:
        yield texts.last_day
    if mode >= Mode.LAST:
        yield texts.code
    if mode >= Mode.PSEUDONYMOUS:
        yield texts.opens
        yield texts.deliveries
        yield texts.traces
    if mode == Mode.IDENTIFIED:
        yield texts.name
    yield texts.until_judged


def _controller(view: View, texts: Texts) -> Iterator[str]:
    is_foreign = view.state == State.FOREIGN
    if is_foreign and not operator_name.parse(view.operator).text:
        return
    heading = texts.recipient.operator_heading if is_foreign else texts.shared.controller_heading
    yield from controller(heading, view.operator, texts.recipient.sender)


def _concerns(kind: str, view: View) -> bool:
    """Returns whether data of a kind may exist for the recipient."""
    if view.state == State.FOREIGN:
        return False
    if kind == "recipients":  # in any mode, because an earlier mode may have left such data
        return view.state != State.ANONYMOUS
    return view.mode >= (Mode.IDENTIFIED if kind == "names" else Mode.COUNT)

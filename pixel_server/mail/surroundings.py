"""Follows the open elements and template conditions of a mail, to tell what an image stands in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pixel_server.mail.html_tokens import MAX_DEPTH, HtmlToken, attribute

_VOID = frozenset(b"area base br col embed hr img input link meta source track wbr".split())
"""Elements that have no end tag."""
_CLOSED_BY_THE_NEXT = frozenset(b"li option p td th tr".split())
"""Elements whose end tag may be left out before the next element of the same name."""
_hiding_style = re.compile(
    rb"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)"
    rb"|(?<![-\w])(?:max-)?height\s*:\s*0(?:px)?\s*(?:!important\s*)?(?:;|$)",
    re.I,
).search
_has_hidden = re.compile(rb"(?:^|[\s\"'])hidden(?=[\s=/]|$)", re.I).search
_quote_class = re.compile(
    rb"(?:^|\s)(?:gmail_quote|yahoo_quoted|protonmail_quote|zmail_extra|moz-forward-container|isReplyContent"
    rb"|messageReplySection|ms-outlook-mobile-reference-message|mail-editor-reference-message-container"
    rb"|ntes-mailmaster-quote)(?=\s|$|_)",
    re.I,
).search
"""Classes, ids and names of the element in which mail programs put the mail that is answered or forwarded."""
_rest_is_quoted = re.compile(rb"divRplyFwdMsg|OutlookMessageHeader|_MailOriginal", re.I).search
"""Marks after which Outlook puts the mail that is answered."""
_has_condition = re.compile(
    rb"(?:^|\s)(?:th:(?:if|unless|case)|v-(?:if|else|show)|n:if|tal:condition)[\w-]*\s*="
).search
"""Attributes by which Thymeleaf, Vue, Latte and Zope show an element in some mails only."""
_CONDITIONS = (b":if", b":when", b":otherwise", b":then", b":else", b"cfif")
"""Ends of the names of elements that are shown in some mails only: `<c:if>` of JSP, `<f:then>` of Fluid."""
_condition = re.compile(
    rb"(?:\{%[-+]?\s*|<%[-=]?\s*|\{\{[~#/-]*\s*|\[%[-+=~]?\s*|%%\[\s*(?!if\b.*\bendif\b))(end\s*(?:if|unless)|end\b|else?\s*if|elsif|else|if|unless)\b",
    re.I | re.S,
).match


class Surroundings(NamedTuple):
    """The elements and template conditions that an image stands in.

    is_quoted: whether the image stands in a mail that is answered or forwarded. is_hidden: whether the image
    or an element around it is not shown. branches: the open conditions of a template, as (number of the
    condition, number of its branch), outermost first; number 0 is a condition in a tag.
    is_hidden_from_outlook: whether the image stands in a part that Outlook does not show.
    """

    is_quoted: bool
    is_hidden: bool
    branches: tuple[tuple[int, int], ...]
    is_hidden_from_outlook: bool = False


class SurroundingsTracker:
    """Follows the tokens of a mail. has_frameset: whether a `<frameset>` takes the place of the body."""

    def __init__(self) -> None:
        # Open elements: (name, is quotation, is hidden, is shown in some mails only).
        self._open: list[tuple[bytes, bool, bool, bool]] = []
        self._branches: list[tuple[int, int]] = []
        self._condition_count = 0
        self._rest_is_quoted = False
        self.has_frameset = False

    def current(self) -> Surroundings:
        """Returns the surroundings of an image that follows the tokens so far."""
        conditional = [(0, 0)] if any(is_conditional for *_, is_conditional in self._open) else []
        return Surroundings(
            self._rest_is_quoted or any(is_quote for _, is_quote, *_ in self._open),
            any(is_hidden for _, _, is_hidden, _ in self._open),
            (*self._branches, *conditional),
        )

    def open_names(self) -> Iterator[bytes]:
        """Yields the names of the open elements, outermost first."""
        return (name for name, *_ in self._open)

    def add(self, token: HtmlToken, text: bytes) -> None:
        """Follows the next token. text: bytes of an expression, or b"" for any other token."""
        name = token.name
        if token.kind == "expression":
            self._add_expression(text)
        elif name == b"body":
            self._open.clear()
        elif token.kind == "start" and name not in _VOID:
            if name == b"frameset":
                self.has_frameset = True
            if name in _CLOSED_BY_THE_NEXT and self._open and self._open[-1][0] == name:
                self._open.pop()
            if len(self._open) < MAX_DEPTH:
                is_conditional = name.endswith(_CONDITIONS) or _has_condition(token.rest) is not None
                is_quote = self._is_quote(name, token.rest)
                self._open.append((name, is_quote, _is_hidden(token.rest), is_conditional))
        elif token.kind == "end" and name in self.open_names():
            while self._open.pop()[0] != name:
                pass

    def _is_quote(self, name: bytes, rest: bytes) -> bool:
        """Returns whether an element is a quotation. Also notes a mark after which all is quoted."""
        if b"=" not in rest:
            return name == b"blockquote"
        marks = b" ".join(attribute(rest, mark) for mark in (b"class", b"id", b"name"))
        self._rest_is_quoted = self._rest_is_quoted or _rest_is_quoted(marks) is not None
        is_named_quote = attribute(rest, b"name") == b"quote"  # of GMX and web.de
        return name == b"blockquote" or is_named_quote or _quote_class(marks) is not None

    def _add_expression(self, text: bytes) -> None:
        word = _condition(text)
        if word is None:
            return
        is_end = word[1].lower().startswith(b"end") or text.startswith((b"{{/", b"{{~/"))
        if is_end:
            if self._branches:
                self._branches.pop()
        elif word[1].lower().startswith(b"els"):
            if self._branches:
                condition, branch = self._branches[-1]
                self._branches[-1] = condition, branch + 1
        elif len(self._branches) < MAX_DEPTH:
            self._condition_count += 1
            self._branches.append((self._condition_count, 0))


def is_hidden_image(rest: bytes) -> bool:
    """Returns whether an image itself is not shown. rest: as in HtmlToken."""
    sizes = (attribute(rest, name).strip() for name in (b"width", b"height"))
    return _is_hidden(rest) or any(size in (b"0", b"0px") for size in sizes)


def _is_hidden(rest: bytes) -> bool:
    if b"=" in rest and _hiding_style(attribute(rest, b"style")):
        return True
    return _has_hidden(re.sub(rb"\"[^\"]*\"|'[^']*'", b"", rest)) is not None

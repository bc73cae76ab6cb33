"""Follows the open elements and template conditions of a mail, to tell what an image stands in."""

from __future__ import annotations

import re
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
_quote_class = re.compile(rb"(?:^|\s)(?:gmail_quote|yahoo_quoted|protonmail_quote)(?=\s|$|_)", re.I).search
_rest_is_quoted = re.compile(rb"divRplyFwdMsg|OutlookMessageHeader|_MailOriginal", re.I).search
"""Marks after which Outlook puts the mail that is answered."""
_condition = re.compile(
    rb"(?:\{%[-+]?\s*|<%[-=]?\s*|\{\{[~#/-]*\s*)(end\s*(?:if|unless)|end\b|else?\s*if|elsif|else|if|unless)\b",
    re.I,
).match


class Surroundings(NamedTuple):
    """The elements and template conditions that an image stands in.

    is_quoted: whether the image stands in a mail that is answered or forwarded. is_hidden: whether the image
    stands in an element that is not shown. branches: the open conditions of a template, as (number of the
    condition, number of its branch), outermost first.
    """

    is_quoted: bool
    is_hidden: bool
    branches: tuple[tuple[int, int], ...]


class SurroundingsTracker:
    """Follows the tokens of a mail. has_frameset: whether a `<frameset>` takes the place of the body."""

    def __init__(self) -> None:
        self._open: list[tuple[bytes, bool, bool]] = []  # open elements: (name, is quotation, is hidden)
        self._branches: list[tuple[int, int]] = []
        self._condition_count = 0
        self._rest_is_quoted = False
        self.has_frameset = False

    def current(self) -> Surroundings:
        """Returns the surroundings of an image that follows the tokens so far."""
        return Surroundings(
            self._rest_is_quoted or any(is_quote for _, is_quote, _ in self._open),
            any(is_hidden for _, _, is_hidden in self._open),
            tuple(self._branches),
        )

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
                self._open.append((name, self._is_quote(name, token.rest), _is_hidden(token.rest)))
        elif token.kind == "end" and any(name == open_name for open_name, _, _ in self._open):
            while self._open.pop()[0] != name:
                pass

    def _is_quote(self, name: bytes, rest: bytes) -> bool:
        """Returns whether an element is a quotation. Also notes a mark after which all is quoted."""
        if b"=" not in rest:
            return name == b"blockquote"
        marks = b" ".join(attribute(rest, mark) for mark in (b"class", b"id", b"name"))
        self._rest_is_quoted = self._rest_is_quoted or _rest_is_quoted(marks) is not None
        return name == b"blockquote" or _quote_class(marks) is not None

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


def _is_hidden(rest: bytes) -> bool:
    if b"=" in rest and _hiding_style(attribute(rest, b"style")):
        return True
    return _has_hidden(re.sub(rb"\"[^\"]*\"|'[^']*'", b"", rest)) is not None

"""Finds the comments and expressions of template languages in the HTML of a mail. They are not markup.

Knows the languages in which mails are written: Django, Jinja, Twig, Liquid, Handlebars, Mustache, Go, Blade,
Smarty, Latte, ERB, EJS, EEx, JSP, ASP.NET, Razor, PHP, Mako, FreeMarker, Velocity, Thymeleaf, AMPscript,
Template Toolkit, Fluid, ExpressionEngine, and merge fields like <<NAME>>. Does not know comments of
ColdFusion (`<!--- --->`) with another comment inside, because other mails have such dashes for decoration.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_COMMENT_BYTES, MAX_EXPRESSION_BYTES = 20_000, 2000
"""Largest numbers of bytes of a comment and of an expression. Longer ones are read as HTML."""


class _Form(NamedTuple):
    """A form of comment or expression. opener, closer: patterns. limit: largest number of bytes."""

    opener: re.Pattern[bytes]
    closer: re.Pattern[bytes]
    limit: int


_LIQUID = (rb"\{%[-+]?\s{0,9}comment\b", rb"\{%[-+]?\s{0,9}endcomment\s{0,9}[-+]?%\}")
"""Comments of Django and Liquid. In Liquid, they can contain such comments."""
_liquid_marks = re.compile(rb"(%b)|%b" % _LIQUID).finditer
_COMMENTS = (
    (rb"<%--", rb"--%>"),
    (rb"<%!--", rb"--%>"),
    (rb"<f:comment>", rb"</f:comment>"),
    (rb"\{!--", rb"--\}"),
    (rb"\[%[-+=~]?\s{0,9}#", rb"%\]"),
    (rb"<%doc>", rb"</%doc>"),
    (rb"<#--", rb"-->"),
    (rb"\[#--", rb"--\]"),
    (rb"<!--/\*-->", rb"<!--\*/-->"),
    (rb"\{\{~?!--", rb"--~?\}\}"),
    (rb"\{\{--", rb"--\}\}"),
    (rb"\{\{-?\s{0,9}/\*", rb"\*/\s{0,9}-?\}\}"),
    (rb"\{\{~?!", rb"\}\}"),
    _LIQUID,
    (rb"\{%[-+]?\s{0,9}doc\b", rb"\{%[-+]?\s{0,9}enddoc\s{0,9}[-+]?%\}"),
    (rb"\{#", rb"#\}"),
    (rb"\{\*", rb"\*\}"),
    (rb"@\*", rb"\*@"),
    (rb"#\*", rb"\*#"),
    (rb"%%\[", rb"\]%%"),
    (rb"(?<![^\r\n])[ \t]{0,99}##(?!#)", rb"(?>\r\n?|\n)(?![ \t]{0,99}##(?!#))|\Z"),
)
_EXPRESSIONS = (
    (rb"<%", rb"%>"),
    (rb"\{\{", rb"\}\}"),
    (rb"\{%", rb"%\}"),
    (rb"\[%", rb"%\]"),
    (rb"%%=", rb"=%%"),
    (rb"<<(?=[^<>]{1,100}>>)", rb">>"),
)
_FORMS = [
    _Form(re.compile(opener), re.compile(closer), limit)
    for forms, limit in ((_COMMENTS, MAX_COMMENT_BYTES), (_EXPRESSIONS, MAX_EXPRESSION_BYTES))
    for opener, closer in forms
]
_LIQUID_FORM = _FORMS[_COMMENTS.index(_LIQUID)]
_php = re.compile(rb"<\?(?:php\b|=)").match
_php_mark = re.compile(rb"/\*|\?>").search
_comment_openers = [form.opener for form in _FORMS[: len(_COMMENTS)]]
search_opener = re.compile(
    b"|".join((*(opener for opener, _ in (*_COMMENTS, *_EXPRESSIONS) if not opener.startswith(b"<")), b"<"))
).search
"""Searches the next place at which a tag, a comment or an expression may begin."""


def is_comment(text: bytes) -> bool:
    """Returns whether an expression, as `TemplateText` finds it, is a comment, which shows nothing."""
    return any(opener.match(text) for opener in _comment_openers)


class TemplateText:
    """Finds the ends of comments and expressions in one mail.

    Remembers for each form up to which offset its closing mark is missing. So the same bytes are not
    searched again for the same mark.
    """

    def __init__(self, html: bytes) -> None:
        self._html = html
        self._missing_until = dict.fromkeys(range(len(_FORMS)), 0)
        # Offset up to which comments of Liquid have fewer closing marks than opening marks.
        self._unbalanced_until = 0

    def end(self, start: int) -> int:
        """Returns the end of the comment or expression that begins at `start`, or -1 if none begins there."""
        if (
            self._html.startswith(b"<", start)
            and self._html[start + 1 : start + 2] not in (b"%", b"?", b"#", b"!", b"<")
            and not self._html.startswith(b"<f:comment>", start)
        ):
            return -1  # a tag, as nearly always
        if opener := _php(self._html, start):
            return self._end_of_php(opener.end(), start + MAX_COMMENT_BYTES)
        for number, form in enumerate(_FORMS):
            if opener := form.opener.match(self._html, start):
                limit = start + form.limit
                begin = max(opener.end(), self._missing_until[number])
                if begin < limit and (closer := form.closer.search(self._html, begin, limit)):
                    return self._end_of_liquid(begin, limit) if form is _LIQUID_FORM else closer.end()
                self._missing_until[number] = limit - 40  # longer than any closing mark
        return -1

    def _end_of_liquid(self, begin: int, limit: int) -> int:
        """Returns the end of a comment of Django or Liquid that has a closing mark.

        Skips the comments within it. If the marks do not balance, as Django allows, the first mark ends it.
        """
        depth, first_end = 1, -1
        for mark in _liquid_marks(self._html, begin, limit):
            depth += 1 if mark[1] else -1
            if not mark[1] and first_end < 0:
                first_end = mark.end()
            if not depth or (first_end >= 0 and begin < self._unbalanced_until):
                return first_end if depth else mark.end()
        self._unbalanced_until = limit
        return first_end

    def _end_of_php(self, at: int, limit: int) -> int:
        """Returns the end of a block of PHP, or -1. Ignores `?>` in `/* */`."""
        while mark := _php_mark(self._html, at, limit):
            if mark[0] == b"?>":
                return mark.end()
            comment_end = self._html.find(b"*/", mark.end(), limit)
            at = comment_end + 2 if comment_end >= 0 else mark.end()
        return -1

"""Splits the HTML of a mail into tags, comments and the expressions of template languages. Reads only.

Finds tags as the tokenizer of the HTML standard does (html.spec.whatwg.org, 13.2.5), in one pass. Python's
html.parser does not fit: it raises on an unknown `<![...`, a bare `<![endif]-->` makes it hide the text up to
the next `]>`, it does not read titles as text, and it ends scripts and comments elsewhere. It also changes
from one patch release to the next.

Comments and expressions of template languages are not markup: {# #}, {% %}, {{ }}, <% %>, <?php ?>, and merge
fields like <<NAME>>. An expression may have 2,000 bytes, and a comment of Django or Liquid 20,000. A longer
one is read as HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_S = rb"[\t\n\x0c\r ]"
_AFTER_NAME = rb"(?=[\t\n\x0c\r />])"
_ATTRIBUTE = (
    rb"([^\t\n\x0c\r />=]++|=[^\t\n\x0c\r />=]*+)"
    rb"(?:%b*+=%b*+(\"[^\"]*+\"|'[^']*+'|(?=>)|[^\t\n\x0c\r >\"'][^\t\n\x0c\r >]*+)|(?!%b*+=))" % (_S, _S, _S)
)
_attributes = re.compile(_ATTRIBUTE).findall
_ATTRIBUTES = rb"(?:[\t\n\x0c\r /]++|%b)*+" % _ATTRIBUTE.replace(b"([^", b"(?:[^").replace(b'(\\"', b'(?:\\"')
_tag = re.compile(rb"<(/?)([a-zA-Z][^\t\n\x0c\r />]*+)(%b)>" % _ATTRIBUTES).match
_comment_end = re.compile(rb"--!?>").search
_end_tags = {
    name: re.compile(rb"</%b%b" % (name, _AFTER_NAME), re.I).search
    for name in (b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes")
}
_script = re.compile(rb"<!---*+>|<!--|-->|<(/?)script%b" % _AFTER_NAME, re.I).finditer
MAX_DEPTH = 500
"""Depth to which nested elements are followed, about the same as in browsers."""
_MAX_EXPRESSION_BYTES = 2000
_MAX_COMMENT_BYTES = 20_000
_opener = re.compile(rb"<\?(?:php|=)|<[%<]?|\{\{!--|\{[{%#]").search
_closers = {
    b"<%": b"%>",
    b"<?php": b"?>",
    b"<?=": b"?>",
    b"{{!--": b"--}}",
    b"{{": b"}}",
    b"{%": b"%}",
    b"{#": b"#}",
}
_merge_field = re.compile(rb"<<[^<>]{1,100}+>>").match
_comment = re.compile(rb"\{%-?\s*comment\b").match
_end_of_template_comment = re.compile(rb"\{%-?\s*endcomment\s*-?%\}").search

_FOREIGN = frozenset({b"svg", b"math"})
_OUT_OF_FOREIGN = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing "
    b"menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
"""Elements that end SVG and MathML."""
TEXT_ELEMENTS = frozenset({*_end_tags, b"script", b"plaintext"})
"""Elements whose content is text, not markup."""


class Token(NamedTuple):
    """A piece of HTML.

    kind: "start" or "end" of an element, "comment", "text" of a template language, or "open", which is never
    closed and reaches to the end of the mail. A "start" includes the text of an element whose content is not
    markup. rest: the bytes of a tag after its name, such as ` src="a.gif" /`.
    """

    kind: str
    start: int
    end: int
    name: bytes = b""
    rest: bytes = b""


def attribute(rest: bytes, name: bytes) -> bytes:
    """Returns the value of a tag's attribute, or b"" if it has none. rest: as in Token."""
    values = (value for attribute_name, value in _attributes(rest) if attribute_name.lower() == name)
    value = next(values, b"")
    return value[1:-1] if value[:1] in (b"'", b'"') else value


def tokens(html: bytes) -> Iterator[Token]:
    """Yields the tokens of a mail in order. Plain text between them is not a token.

    html: the mail with one byte for each character. A byte above 127 is any character outside ASCII.
    """
    foreign: list[bytes] = []  # elements of SVG and MathML that are open
    missing_until: dict[bytes, int] = {}
    at = 0
    while (begin := _opener(html, at)) is not None:
        start = begin.start()
        if begin[0] != b"<":
            end = _end_of_expression(html, start, begin[0], missing_until)
            if end >= 0:
                at = end
                yield Token("text", start, at)
                continue
            if begin[0].startswith(b"{"):
                at = start + 1
                continue
        following = html[start + 1 : start + 2]
        if following in (b"!", b"?") or (following == b"/" and html[start + 2 : start + 3] != b">"):
            if following != b"/" or not html[start + 2 : start + 3].isalpha():
                at = _end_of_comment(html, start, bool(foreign) and foreign[-1] in _FOREIGN)
                if at < 0:
                    yield Token("open", start, len(html))
                    return
                yield Token("comment", start, at)
                continue
        elif not following.isalpha():
            at = start + 1
            continue
        tag = _tag(html, start)
        if tag is None:
            yield Token("open", start, len(html))
            return
        at = tag.end()
        name = tag[2].lower()
        kind = "end" if tag[1] else "start"
        _follow_foreign(foreign, kind, name, tag[3])
        if kind == "start" and not (foreign and foreign[-1] in _FOREIGN):
            at = _end_of_text(html, at, name)
            if at < 0:
                yield Token("open", start, len(html))
                return
        yield Token(kind, start, at, name, tag[3])


def _end_of_expression(html: bytes, start: int, opener: bytes, missing_until: dict[bytes, int]) -> int:
    """Returns the end of an expression of a template language, or -1 if this is not such an expression.

    opener: such as `{{`. missing_until: for each closing mark, the offset up to which the mark was not found.
    Later searches begin there, so that each byte is searched once. Changes this dict.
    """
    if opener == b"<<":
        field = _merge_field(html, start)
        return field.end() if field else -1
    if opener == b"{%" and _comment(html, start):
        limit = start + _MAX_COMMENT_BYTES
        comment_end = _end_of_template_comment(html, max(start, missing_until.get(b"comment", 0)), limit)
        if comment_end is None:
            missing_until[b"comment"] = limit - _MAX_EXPRESSION_BYTES
        return comment_end.end() if comment_end else -1
    close = _closers[opener]
    limit = start + _MAX_EXPRESSION_BYTES
    end = html.find(close, max(start + len(opener), missing_until.get(close, 0)), limit)
    if end < 0:
        missing_until[close] = limit - len(close)
    return end + len(close) if end >= 0 else -1


def _follow_foreign(foreign: list[bytes], kind: str, name: bytes, rest: bytes) -> None:
    """Opens and closes elements of SVG and MathML, in which the rules for text and comments differ.

    foreign: the open elements, outermost first. Changes this list.
    """
    if kind == "end":
        if name in foreign:
            while foreign.pop() != name:
                pass
    elif (name in _FOREIGN or (foreign and name == b"foreignobject")) and not rest.endswith(b"/"):
        if len(foreign) < MAX_DEPTH:
            foreign.append(name)
    elif name in _OUT_OF_FOREIGN and foreign and foreign[-1] in _FOREIGN:
        foreign.clear()


def _end_of_comment(html: bytes, start: int, is_foreign: bool) -> int:
    """Returns the end of a comment or declaration, such as `<!doctype html>`, or -1 if it never ends."""
    if html.startswith(b"<!--", start):
        for short in (b">", b"->"):
            if html.startswith(short, start + 4):
                return start + 4 + len(short)
        end_mark = _comment_end(html, start + 4)
        return end_mark.end() if end_mark else -1
    if is_foreign and html.startswith(b"<![CDATA[", start):
        end = html.find(b"]]>", start)
        return end + 3 if end >= 0 else -1
    return html.find(b">", start) + 1 or -1


def _end_of_text(html: bytes, at: int, name: bytes) -> int:
    """Returns the end of the text after a start tag such as `<style>`, or -1 if the text never ends.

    Returns `at` if the content of the element is markup.
    """
    if name == b"plaintext":
        return -1
    if name == b"script":
        return _end_of_script(html, at)
    if name not in _end_tags:
        return at
    end_tag = _end_tags[name](html, at)
    return end_tag.start() if end_tag else -1


def _end_of_script(html: bytes, at: int) -> int:
    """Returns the start of the end tag of a script, or -1 if the script never ends.

    Skips the end tag of an inner script in a comment: `<script><!-- <script> </script> -->`.
    """
    in_comment = in_inner_script = False
    for mark in _script(html, at):
        text = mark[0]
        if text.startswith(b"<!--"):
            in_comment = in_comment or text == b"<!--"
        elif text == b"-->":
            in_comment = in_inner_script = False
        elif not mark[1]:
            in_inner_script = in_comment
        elif in_inner_script:
            in_inner_script = False
        else:
            return mark.start()
    return -1

"""Splits the HTML of a mail into tags, comments and the expressions of template languages. Reads only.

Finds tags as the tokenizer of the HTML standard does (html.spec.whatwg.org, 13.2.5), in one pass. Python's
html.parser does not fit: it raises on an unknown `<![...`, a bare `<![endif]-->` makes it hide the text up to
the next `]>`, it does not read titles as text, and it ends scripts and comments at other places than the
standard. Its results also change from one patch release to the next.

Comments and expressions of template languages are not markup; see `template_text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pixel_server.mail.template_text import TemplateText, search_opener

_BLANK = rb"[\t\n\x0c\r ]"
_AFTER_NAME = rb"(?=[\t\n\x0c\r />])"
_ATTRIBUTE = (
    rb"([^\t\n\x0c\r />=]++|=[^\t\n\x0c\r />=]*+)"
    rb"(?:%b*+=%b*+(\"[^\"]*+\"|'[^']*+'|(?=>)|[^\t\n\x0c\r >\"'][^\t\n\x0c\r >]*+)|(?!%b*+=))"
    % (_BLANK, _BLANK, _BLANK)
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
"""Number of open elements that are remembered, about the same as in browsers. Deeper elements are ignored."""

_FOREIGN = frozenset({b"svg", b"math"})
"""Elements of HTML in which the rules of SVG and MathML hold."""
_OUT_OF_FOREIGN = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing "
    b"menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
"""HTML elements whose start tag ends any open SVG and MathML."""
TEXT_ELEMENTS = frozenset({*_end_tags, b"script", b"plaintext"})
"""Elements whose content is text, not markup."""


class HtmlToken(NamedTuple):
    """A token of a mail. start, end: its offsets.

    kind: "start" (a start tag), "end" (an end tag), "comment", "expression" (of a template language), or
    "unclosed" (a tag, comment or text that never ends, and so reaches to the end of the mail). A "start"
    token includes the text of an element whose content is not markup. name: the tag's name in lower case.
    rest: the bytes of a tag after its name, such as ` src="a.gif" /`.
    """

    kind: str
    start: int
    end: int
    name: bytes = b""
    rest: bytes = b""


def attribute(rest: bytes, name: bytes) -> bytes:
    """Returns an attribute's value as written, or b"" if the tag lacks it. rest: as in HtmlToken."""
    values = (value for attribute_name, value in _attributes(rest) if attribute_name.lower() == name)
    value = next(values, b"")
    return value[1:-1] if value[:1] in (b"'", b'"') else value


def tokens(html: bytes) -> Iterator[HtmlToken]:
    """Yields the tokens of a mail in order. Plain text between them is not a token.

    html: the mail with one byte for each character. Any byte above 127 stands for a character outside ASCII.
    """
    foreign: list[bytes] = []  # elements of SVG and MathML that are open
    template_text = TemplateText(html)
    at = 0
    while (begin := search_opener(html, at)) is not None:
        start = begin.start()
        end = template_text.end(start)
        if end >= 0:
            at = end
            if begin[0].endswith(b"##") and html[end - 1 : end] not in (b"\r", b"\n"):  # no line end
                yield HtmlToken("unclosed", len(html[:start].removesuffix(b"\n").removesuffix(b"\r")), end)
                return
            yield HtmlToken("expression", start, at)
            continue
        if begin[0] != b"<":
            at = start + 1
            continue
        next_byte = html[start + 1 : start + 2]
        if next_byte in (b"!", b"?") or (next_byte == b"/" and html[start + 2 : start + 3] != b">"):
            if next_byte != b"/" or not html[start + 2 : start + 3].isalpha():
                at = _end_of_comment(html, start, bool(foreign) and foreign[-1] in _FOREIGN)
                if at < 0:
                    yield HtmlToken("unclosed", start, len(html))
                    return
                yield HtmlToken("comment", start, at)
                continue
        elif not next_byte.isalpha():
            at = start + 1
            continue
        tag = _tag(html, start)
        if tag is None:
            yield HtmlToken("unclosed", start, len(html))
            return
        at = tag.end()
        name = tag[2].lower()
        kind = "end" if tag[1] else "start"
        _follow_foreign(foreign, kind, name, tag[3])
        if kind == "start" and not (foreign and foreign[-1] in _FOREIGN):
            at = _end_of_text(html, at, name)
            if at < 0:
                yield HtmlToken("unclosed", start, len(html))
                return
        yield HtmlToken(kind, start, at, name, tag[3])


def _follow_foreign(foreign: list[bytes], kind: str, name: bytes, rest: bytes) -> None:
    """Opens and closes elements of SVG and MathML, in which the rules for text and comments differ.

    foreign: the open elements, outermost first. The function updates this list.
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
    """Returns the end of an element's text, such as that of `<style>`, or -1 if the text never ends.

    at: the end of the start tag, which is returned if the content of the element is markup.
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

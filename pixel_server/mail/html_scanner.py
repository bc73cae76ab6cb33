"""Where in a mail's HTML a pixel belongs, and where one stands. Reads; never writes.

Tags are found as the HTML standard's tokenizer finds them (html.spec.whatwg.org, 13.2.5). The html.parser of
Python differs, and from one patch release to the next: an unknown `<![...` raises, a bare `<![endif]-->`
hides what follows up to the next `]>`, titles are no text, scripts and comments end elsewhere. One pass.

Of what template languages write, their comments and expressions are no markup: {# #}, {% %}, {{ }}, <% %>,
<?php ?>, and merge fields like <<NAME>>. None is believed that goes on for more than 2,000 bytes, no comment
of Django's or Liquid's for more than 20,000.
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
_endings = {
    name: re.compile(rb"</%b%b" % (name, _AFTER_NAME), re.I).search
    for name in (b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes")
}
_script = re.compile(rb"<!---*+>|<!--|-->|<(/?)script%b" % _AFTER_NAME, re.I).finditer
_DEEPEST = 500
"""As many elements within each other as browsers take, or so."""
_MOST = 2000
_start = re.compile(rb"<\?(?:php|=)|<[%<]?|\{\{!--|\{[{%#]").search
_ends = {
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
_end_of_comment = re.compile(rb"\{%-?\s*endcomment\s*-?%\}").search
_double_bytes = re.compile(rb"\x1b\$(?:[@AB]|\([@-D]).*?(?:\x1b\(|(\Z))", re.S)

_INERT = frozenset({b"template", b"noscript"})
"""What stands in these is not shown, or not by everyone."""
_FOREIGN = frozenset({b"svg", b"math"})
_OUT_OF_FOREIGN = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing "
    b"menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
_OF_HEAD = frozenset(b"html head meta link title base style script".split())
_BODY = (b"body", "start")
_TEXT = frozenset({*_endings, b"script", b"plaintext"})
"""What stands in these is text."""


class Tag(NamedTuple):
    """start, end: in the HTML. source: the `src`, as written; b"" without one."""

    start: int
    end: int
    source: bytes


class Places(NamedTuple):
    """Offsets. top: before the first thing that is shown. bottom: before the last real `</body>`; without one
    at the end, or before what is never closed. images: each `<img>` that is no comment or text."""

    top: int
    bottom: int
    images: list[Tag]


class _Token(NamedTuple):
    """kind: "start" (with the text after it that is no markup), "end", "comment", "text" (of a template
    language), or "open": never closed."""

    kind: str
    start: int
    end: int
    name: bytes = b""
    rest: bytes = b""


def places(html: bytes) -> Places:
    """html: a character a byte; whatever is not ASCII is any byte that is not."""
    html = _without_double_bytes(html)
    reading = _Reading(html)
    for token in _tokens(html):
        reading.take(token)
    return reading.places()


class _Reading:
    """One mail's reading. inert, condition: what the next token stands in, outermost first.

    bodies: real `</body>`; perhaps: those in a condition, which are real if it is never closed. top: after
    `<body>`, or after what only belongs to the head, while nothing else has come.
    """

    def __init__(self, html: bytes) -> None:
        self.html = html
        self.at = self.top = 0
        self.end = len(html)
        self.inert: list[tuple[bytes, int]] = []
        self.condition = False
        self.bodies: list[int] = []
        self.perhaps: list[int] = []
        self.images: list[Tag] = []
        self.has_body = self.has_content = self.top_moves = False

    def take(self, token: _Token) -> None:
        kind, start, name = token.kind, token.start, token.name
        if not self.has_content:
            blank = not self.html[self.at : start].strip(b"\t\n\x0c\r \xef\xbb\xbf\xff")
            self.has_content = not blank or not (
                kind == "comment" or name in _OF_HEAD or (name, kind) == _BODY
            )
        self.at = token.end
        if kind == "open":
            self.end = start
        elif kind == "comment":
            self._take_comment(self.html[start : token.end])
        elif name in _INERT:
            self._take_inert(kind, name, start)
        elif name == b"img" and kind == "start":
            self.images.append(Tag(start, token.end, _src(token.rest)))
        elif name == b"body" and not self.inert:
            self._take_body(kind, start)
        before = self.top_moves or not (self.has_content or self.has_body)
        if before and not self.condition and not (kind == "start" and name in _TEXT):
            self.top, self.top_moves = self.at, False

    def _take_comment(self, text: bytes) -> None:
        """`<!--[if !mso]><!-->` and `<![if !mso]>` begin what Outlook does not show; `<![endif]` ends it."""
        inside = text[4:] if text.startswith(b"<!--") else text[2:]
        begins, ends = inside[:3].lower() == b"[if", b"[endif]" in text.lower()
        if begins and not ends:
            self.condition = True
        elif ends and not begins:
            self.condition, self.perhaps = False, []

    def _take_inert(self, kind: str, name: bytes, start: int) -> None:
        if kind == "start":
            if len(self.inert) < _DEEPEST:
                self.inert.append((name, start))
        elif any(name == one for one, _ in self.inert):
            while self.inert.pop()[0] != name:
                pass

    def _take_body(self, kind: str, start: int) -> None:
        if kind == "end":
            (self.perhaps if self.condition else self.bodies).append(start)
        elif not self.has_body:
            self.has_body = self.top_moves = True

    def places(self) -> Places:
        end = min(self.end, self.inert[0][1]) if self.inert else self.end
        bottom = max([*self.bodies, *self.perhaps], default=end)
        return Places(min(self.top, bottom), bottom, self.images)


def _without_double_bytes(html: bytes) -> bytes:
    """Without what ISO-2022-JP and its kin write as pairs of bytes that look like ASCII; cut where that does
    not end."""
    end = len(html)
    for found in _double_bytes.finditer(html) if b"\x1b$" in html else ():
        if found[1] is not None:
            end = found.start()
    return _double_bytes.sub(lambda found: b"x" * len(found[0]), html)[:end]


def _src(rest: bytes) -> bytes:
    """The `src` of a tag; b"" without one. rest: what follows its name."""
    values = (value for name, value in _attributes(rest) if name.lower() == b"src")
    value = next(values, b"")
    return value[1:-1] if value[:1] in (b"'", b'"') else value


def _tokens(html: bytes) -> Iterator[_Token]:
    """Tags, comments and what template languages write, in order; last, what is never closed."""
    foreign: list[bytes] = []
    seen: dict[bytes, int] = {}
    at = 0
    while (begin := _start(html, at)) is not None:
        start = begin.start()
        if begin[0] != b"<":
            end = _past_template(html, start, begin[0], seen)
            if end >= 0:
                at = end
                yield _Token("text", start, at)
                continue
            if begin[0].startswith(b"{"):
                at = start + 1
                continue
        following = html[start + 1 : start + 2]
        if following in (b"!", b"?") or (following == b"/" and html[start + 2 : start + 3] != b">"):
            if following != b"/" or not html[start + 2 : start + 3].isalpha():
                at = _past_comment(html, start, bool(foreign) and foreign[-1] in _FOREIGN)
                if at < 0:
                    yield _Token("open", start, len(html))
                    return
                yield _Token("comment", start, at)
                continue
        elif not following.isalpha():
            at = start + 1
            continue
        found = _tag(html, start)
        if found is None:
            yield _Token("open", start, len(html))
            return
        at = found.end()
        name = found[2].lower()
        kind = "end" if found[1] else "start"
        _follow(foreign, kind, name, found[3])
        if kind == "start" and not (foreign and foreign[-1] in _FOREIGN):
            at = _past_text(html, at, name)
            if at < 0:
                yield _Token("open", start, len(html))
                return
        yield _Token(kind, start, at, name, found[3])


def _past_template(html: bytes, start: int, opener: bytes, seen: dict[bytes, int]) -> int:
    """Where ends what a template language begins so; -1: it is none. seen: up to where there is no such."""
    if opener == b"<<":
        field = _merge_field(html, start)
        return field.end() if field else -1
    if opener == b"{%" and _comment(html, start):
        found = _end_of_comment(html, max(start, seen.get(b"comment", 0)), start + 10 * _MOST)
        if found is None:
            seen[b"comment"] = start + 9 * _MOST
        return found.end() if found else -1
    close = _ends[opener]
    end = html.find(close, max(start + len(opener), seen.get(close, 0)), start + _MOST)
    if end < 0:
        seen[close] = start + _MOST - len(close)
    return end + len(close) if end >= 0 else -1


def _follow(foreign: list[bytes], kind: str, name: bytes, rest: bytes) -> None:
    """Keeps which of SVG, MathML and HTML within SVG is open: there, other things are text."""
    if kind == "end":
        if name in foreign:
            while foreign.pop() != name:
                pass
    elif (name in _FOREIGN or (foreign and name == b"foreignobject")) and not rest.endswith(b"/"):
        if len(foreign) < _DEEPEST:
            foreign.append(name)
    elif name in _OUT_OF_FOREIGN and foreign and foreign[-1] in _FOREIGN:
        foreign.clear()


def _past_comment(html: bytes, start: int, foreign: bool) -> int:
    """Where a comment, a declaration or what is taken for one ends; -1: nowhere."""
    if html.startswith(b"<!--", start):
        for short in (b">", b"->"):
            if html.startswith(short, start + 4):
                return start + 4 + len(short)
        found = _comment_end(html, start + 4)
        return found.end() if found else -1
    if foreign and html.startswith(b"<![CDATA[", start):
        end = html.find(b"]]>", start)
        return end + 3 if end >= 0 else -1
    return html.find(b">", start) + 1 or -1


def _past_text(html: bytes, at: int, name: bytes) -> int:
    """Where the text ends that a start tag begins, as `<style>` does; `at` if it begins none; -1: nowhere."""
    if name == b"plaintext":
        return -1
    if name == b"script":
        return _past_script(html, at)
    if name not in _endings:
        return at
    found = _endings[name](html, at)
    return found.start() if found else -1


def _past_script(html: bytes, at: int) -> int:
    """A script within a comment within a script does not end it: `<script><!-- <script> </script> -->`."""
    escaped = twice = False
    for found in _script(html, at):
        text = found[0]
        if text.startswith(b"<!--"):
            escaped = escaped or text == b"<!--"
        elif text == b"-->":
            escaped = twice = False
        elif not found[1]:
            twice = escaped
        elif twice:
            twice = False
        else:
            return found.start()
    return -1

"""Finds the places in a mail's HTML where a pixel belongs, and the images that the mail has. Reads only."""

from __future__ import annotations

import re
from typing import NamedTuple

from pixel_server.mail.html_tokens import MAX_DEPTH, TEXT_ELEMENTS, HtmlToken, attribute, tokens
from pixel_server.mail.surroundings import Surroundings, SurroundingsTracker, is_hidden_image
from pixel_server.mail.template_text import is_comment

_INERT = frozenset({b"template", b"noscript"})
"""Elements whose content some or all mail programs do not show."""
_HEAD_ELEMENTS = frozenset(b"html head meta link title base style script".split())
"""Elements that show nothing themselves, and so may stand before the first thing that is shown."""
_INERT_OR_REPLACED = _INERT | frozenset(b"audio canvas object select video".split())
"""Elements whose content programs show only instead of something else, or not at all."""
_BODY = (b"body", "start")
_double_bytes = re.compile(rb"\x1b\$(?:[@AB]|\([@-D]).*?(?:\x1b\(|(\Z))", re.S)
"""A run of two-byte characters in ISO-2022-JP. Group 1 matches if the run never ends."""


class Image(NamedTuple):
    """An `<img>`. start, end: offsets of the tag in the HTML. source: `src` as written, b"" if absent.

    around: see `Surroundings`.
    """

    start: int
    end: int
    source: bytes
    around: Surroundings


class Places(NamedTuple):
    """The offsets for a top and a bottom pixel, and the images of the mail.

    top: before the first thing that is shown. bottom: before the last real `</body>`, which is an end tag
    outside comments, text and elements whose content is not shown. If there is no real `</body>`, bottom is
    before the first part that is never closed, or at the end of the HTML. images: each `<img>` outside
    comments and text. has_frameset: a `<frameset>` takes the place of the body.
    """

    top: int
    bottom: int
    images: list[Image]
    has_frameset: bool = False


def places(html: bytes) -> Places:
    """Returns the places for pixels in a mail, and its images.

    html: one byte for each character. Any byte above 127 stands for a character outside ASCII.
    """
    html = _without_double_bytes(html)
    scan = _Scan(html)
    for token in tokens(html):
        scan.add(token)
    return scan.places()


def shows_nothing(html: bytes) -> bool:
    """Returns whether a part of a mail consists of blanks, comments and end tags only."""
    at = 0
    for token in tokens(html):
        text = html[token.start : token.end]
        is_nothing = (
            (token.kind == "comment" and not text.startswith(b"</"))  # `</#if>` of FreeMarker
            or (token.kind == "end" and b":" not in token.name)  # `</c:if>` of JSP
            or (token.kind == "expression" and is_comment(text) and not text.startswith(b"%%["))
        )
        if html[at : token.start].strip() or not is_nothing:
            return False
        at = token.end
    return not html[at:].strip()


class _Scan:
    """State of the scan after the tokens so far.

    at: end of the last token. end: offset of the part that is never closed, or of the end of the HTML. inert:
    open elements whose content is not shown, as (name, start), outermost first. in_non_outlook_part: whether
    the scan is in a part that Outlook does not show. body_ends: offset of each real `</body>`.
    non_outlook_body_ends: offset of each `</body>` in the current part that Outlook does not show; such tags
    are real if that part is never closed. has_content: whether a token so far is shown. has_body: whether a
    token so far is a `<body>` tag. top: `Places.top` as far as it is known. top_moves: whether `top` will
    still move behind the `<body>` tag.
    """

    def __init__(self, html: bytes) -> None:
        self.html = html
        self.at = self.top = 0
        self.end = len(html)
        self.inert: list[tuple[bytes, int]] = []
        self.in_non_outlook_part = False
        self.body_ends: list[int] = []
        self.non_outlook_body_ends: list[int] = []
        self.images: list[Image] = []
        self.surroundings = SurroundingsTracker()
        self.has_body = self.has_content = self.top_moves = False

    def add(self, token: HtmlToken) -> None:
        kind, start, name = token.kind, token.start, token.name
        if not self.has_content:
            is_blank = not self.html[self.at : start].strip(b"\t\n\x0c\r \xef\xbb\xbf\xff")
            self.has_content = not is_blank or not (
                kind == "comment"
                or (kind == "expression" and self.html[start : token.end].lstrip(b" \t").startswith(b"##"))
                or name in _HEAD_ELEMENTS
                or (name, kind) == _BODY
            )
        self.at = token.end
        if kind in ("start", "end", "expression"):
            self.surroundings.add(token, self.html[start : token.end] if kind == "expression" else b"")
        if kind == "unclosed":
            self.end = start
        elif kind == "comment":
            self._add_comment(self.html[start : token.end])
        elif name in _INERT:
            self._add_inert(kind, name, start)
        elif name == b"img" and kind == "start":
            around = self.surroundings.current()._replace(is_hidden_from_outlook=self.in_non_outlook_part)
            if is_hidden_image(token.rest) or any(
                name in _INERT_OR_REPLACED for name in self.surroundings.open_names()
            ):
                around = around._replace(is_hidden=True)
            self.images.append(Image(start, token.end, attribute(token.rest, b"src"), around))
        elif name == b"body" and not self.inert:
            self._add_body(kind, start)
        is_before_content = self.top_moves or not (self.has_content or self.has_body)
        if (
            is_before_content
            and not self.in_non_outlook_part
            and not (kind == "start" and name in TEXT_ELEMENTS)
        ):
            self.top, self.top_moves = self.at, False

    def _add_comment(self, text: bytes) -> None:
        """Notes where a part that Outlook does not show begins and ends.

        `<!--[if !mso]><!-->` and `<![if !mso]>` begin such a part. `<![endif]` ends it.
        """
        inside = text[4:] if text.startswith(b"<!--") else text[2:]
        begins, ends = inside[:3].lower() == b"[if", b"[endif]" in text.lower()
        if begins and not ends:
            self.in_non_outlook_part = True
        elif ends and not begins:
            self.in_non_outlook_part, self.non_outlook_body_ends = False, []

    def _add_inert(self, kind: str, name: bytes, start: int) -> None:
        if kind == "start":
            if len(self.inert) < MAX_DEPTH:
                self.inert.append((name, start))
        elif any(name == open_name for open_name, _ in self.inert):
            while self.inert.pop()[0] != name:
                pass

    def _add_body(self, kind: str, start: int) -> None:
        if kind == "end":
            (self.non_outlook_body_ends if self.in_non_outlook_part else self.body_ends).append(start)
        elif not self.has_body:
            self.has_body = self.top_moves = True

    def places(self) -> Places:
        end = min(self.end, self.inert[0][1]) if self.inert else self.end
        bottom = max([*self.body_ends, *self.non_outlook_body_ends], default=end)
        return Places(min(self.top, bottom), bottom, self.images, self.surroundings.has_frameset)


def _without_double_bytes(html: bytes) -> bytes:
    """Replaces two-byte characters of ISO-2022-JP, whose bytes look like ASCII, with `x` for each byte.

    If a run of such characters never ends, cuts the HTML where the run begins.
    """
    end = len(html)
    for run in _double_bytes.finditer(html) if b"\x1b$" in html else ():
        if run[1] is not None:
            end = run.start()
    return _double_bytes.sub(lambda run: b"x" * len(run[0]), html)[:end]

"""The pixels move nothing in a mail or page: Chromium and WebKit show it the same with and without them."""

from __future__ import annotations

import io
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageChops

from pixel_server.collect.image import GIF
from pixel_server.dashboard.pixel import image
from pixel_server.mail.links import Minter, embed
from pixel_server.secret import Secrets
from tests.journeys.webkit import missing_programs, webkit_page
from tests.stack import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 640, 600
"""Pixels of the window."""
MAX_MOVE = 1
"""Pixels by which an element may move in a program that removes `position` from styles, as Gmail does."""
MINTER = Minter("https://mail.example.org", Secrets.derive(("signing",), "recipient"))
QUIRKS = "<!-- in quirks mode -->"
NO_INLINE_STYLES = """<meta http-equiv="Content-Security-Policy" content="style-src 'nonce-x'">"""
ARE_LOADED = "[...document.querySelectorAll('img[alt]')].every(image => image.naturalWidth === 1)"
AS_IN_GMAIL = "<style>body{margin:0!important}</style>"
LOADED = f"data:image/gif;base64,{b64encode(GIF).decode()}"
RECTANGLES = """[...document.querySelectorAll('body, body *')]
    .filter(one => !(one.tagName === 'IMG' && one.getAttribute('width') === '1'))
    .map(one => one.getBoundingClientRect())
    .map(box => [box.left, box.top, box.right, box.bottom])
    .concat([[document.documentElement.scrollWidth, document.documentElement.scrollHeight]])"""

_TABLE = (
    "<table width=600 align=center cellspacing=0 cellpadding=0 bgcolor=#dde><tr><td style='padding:20px'>"
    "<h2>Spring</h2><p>Hello Ada, here is what is new.</p></td></tr></table>"
)
LAYOUTS = {
    "HTML5": "<body><p>Hello Ada</p><p>Bye</p></body>",
    "a heading first": "<body bgcolor=#eee><h1>Spring</h1><p>Hello</p><h2>Bye</h2></body>",
    "images as wide as the mail": "<style>img{width:100%!important;height:auto!important}"
    f"</style><body>{_TABLE}</body>",
    "images with room": "<style>img{display:inline!important;margin:20px!important;"
    "border:9px solid red!important;padding:9px!important;float:right!important;min-width:300px!important;"
    "max-width:none!important;min-height:50px!important;position:relative!important;"
    "outline:9px solid red!important;box-shadow:0 0 9px red!important;background:red!important}</style>"
    f"<body>{_TABLE}</body>",
    "a table in quirks mode": f"{QUIRKS}<body topmargin=0 leftmargin=0>{_TABLE}{_TABLE}</body>",
    "a table of the whole window": "<body style='margin:0'><table width='100%' height='600' "
    "bgcolor=#cfc><tr><td align=center>In the middle</td></tr></table></body>",
    "high lines": "<body style='font-size:20px;line-height:40px'>Hello<br>Ada<hr>Bye</body>",
    "a flexible body": "<body style='display:flex;justify-content:space-between;gap:30px'>"
    "<div>One</div><div>Two</div><div>Three</div></body>",
    "a grid": "<body style='display:grid;grid-template-columns:1fr 1fr;gap:20px'>"
    "<div>One</div><div>Two</div><div>Three</div><div>Four</div></body>",
    "right to left": f"<body dir=rtl><p>שלום</p>{_TABLE}<p>Bye</p></body>",
    "columns": "<body style='font-size:0;text-align:center'><div style='display:inline-block;"
    "width:50%;font-size:16px'>Left</div><div style='display:inline-block;width:50%;font-size:16px'>Right"
    "</div></body>",
    "a fragment without an end": f"{_TABLE}<table><tr><td bgcolor=#fdd>Hello<td bgcolor=#ddf>Ada",
    "hybrid cells": "<style>td{width:50%}td *{display:block}</style><body><center>"
    "<table width='100%'><tr><td bgcolor=#eee>Left<td bgcolor=#ddd><a>Right</a></table></center></body>",
}

Look = tuple[list[list[float]], Callable[[], Image.Image]]
"""Corners of all elements but the pixels, the size of the page, and a function that takes a screenshot."""


def document(html: str) -> str:
    """Returns a whole document. A scroll bar may still fade when a screenshot is taken, so it has none."""
    doctype = "" if html.startswith(QUIRKS) else "<!doctype html>"
    return f"{doctype}<style>html{{scrollbar-width:none}}</style>{html}"


def settled(screenshot: Callable[[], bytes]) -> Image.Image:
    """Returns a screenshot once it is the same as the one before."""
    pictures = [screenshot()]

    def is_same_again() -> bool:
        pictures.append(screenshot())
        return pictures[-1] == pictures[-2]

    until(is_same_again)
    return Image.open(io.BytesIO(pictures[-1])).convert("RGB")


def in_chromium(browser: Browser, path: Path) -> Iterator[Callable[[str], Look]]:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})

    def look(html: str) -> Look:
        path.write_text(document(html))
        page.goto(path.as_uri())
        return page.evaluate(RECTANGLES), lambda: settled(page.screenshot)

    yield look
    page.close()


def in_webkit(path: Path) -> Iterator[Callable[[str], Look]]:
    with webkit_page(WIDTH, HEIGHT) as page:

        def look(html: str) -> Look:
            path.write_text(document(html))
            page.open(path.as_uri())
            return page.run(RECTANGLES), lambda: settled(page.screenshot)

        yield look


@pytest.fixture(scope="module", params=["chromium", "webkit"])
def look(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Returns a function that shows a mail. Without WebKit, skips the test, or fails it if CI is set."""
    path = tmp_path_factory.mktemp("mail") / "mail.html"
    if request.param == "chromium":
        yield from in_chromium(request.getfixturevalue("browser"), path)
        return
    if packages := missing_programs():
        missing = f"NO WEBKIT: no mail was shown in it (Debian: apt install {' '.join(packages)})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    yield from in_webkit(path)


def with_pixels(html: str, source: str = LOADED) -> str:
    """Returns the mail with a pixel at the top and at the bottom, which have another address."""
    made, count = re.subn('src="https://mail.example.org/o/[^"]+"', f'src="{source}"', embedded(html))
    assert count == 2
    return made


def embedded(html: str) -> str:
    return embed(html, MINTER, "spring", "ada@example.org", twin=True)


@pytest.mark.parametrize("name", LAYOUTS)
def test_pixels_move_nothing(look: Callable[[str], Look], name: str):
    """WebKit paints some corners and letters in two ways, so both pictures are repeated."""
    html = LAYOUTS[name]
    for source in (LOADED, "nothing.gif"):  # shown, and blocked
        assert look(with_pixels(html, source))[0] == look(html)[0]
        until(lambda source=source: is_same(look(with_pixels(html, source))[1](), look(html)[1]()))


def with_web_images(html: str) -> str:
    """Returns the page with the image of a web campaign at the top and at the bottom."""
    tag = image("https://img.example.org", "docs").replace("https://img.example.org/p/docs.gif", LOADED)
    made, count = re.subn("<img [^>]+ border=[^>]+>", tag, embedded(html))
    assert count == 2
    return made


@pytest.mark.parametrize(("head", "name"), [*(("", name) for name in LAYOUTS), (NO_INLINE_STYLES, "HTML5")])
def test_web_images_move_nothing(look: Callable[[str], Look], head: str, name: str):
    """A policy that blocks inline styles blocks those of the page too."""
    page, page_with_images = head + LAYOUTS[name], head + with_web_images(LAYOUTS[name])
    assert look(page_with_images)[0] == look(page)[0]
    until(lambda: is_same(look(page_with_images)[1](), look(page)[1]()))


@pytest.mark.parametrize("head", ["", NO_INLINE_STYLES])
def test_web_image_is_loaded(browser: Browser, tmp_path: Path, head: str):
    page = browser.new_page()
    (tmp_path / "page.html").write_text(document(head + with_web_images(LAYOUTS["HTML5"])))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate(ARE_LOADED)
    page.close()


@pytest.mark.parametrize("name", ["README.md", "docs/web.md"])
def test_web_image_in_the_docs_is_that_of_the_dashboard(name: str):
    tag = image("https://img.example.org", "docs")
    assert re.findall("<img [^>]+/p/docs.gif[^>]+>", (ROOT / name).read_text()) == [tag, tag]


def is_same(picture: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(picture, other).getbbox() is None


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("a flexible body", "a grid")])
def test_each_pixel_in_gmail_moves_one_pixel_at_most(look: Callable[[str], Look], name: str):
    """Gmail removes `position` and negative margins, and makes a block without margins of the body."""
    boxes, _ = look(AS_IN_GMAIL + LAYOUTS[name])
    mail = with_pixels(LAYOUTS[name])
    for declaration in ("position:absolute!important;", "margin-top:-1px!important;"):
        assert mail.count(declaration) == 2
        mail = mail.replace(declaration, "")
    tag = re.search("<img [^>]+ border=[^>]+>", mail)
    assert tag is not None
    top_only, bottom_only = (
        mail[: tag.end()] + mail[tag.end() :].replace(tag[0], ""),
        mail.replace(tag[0], "", 1),
    )
    for one_pixel in (top_only, bottom_only):
        moved, _ = look(AS_IN_GMAIL + one_pixel)
        elements = list(zip(boxes, moved, strict=True))[1:-1]  # without the body and the whole page
        assert max(abs(box[side] - other[side]) for box, other in elements for side in range(4)) <= MAX_MOVE


def test_tag_is_not_hidden_and_has_a_size():
    """Gmail does not load an image that is hidden or has no size."""
    for part in re.findall("<img [^>]+>", embedded("<p>Hi</p>")):
        assert not re.search(r"display:none|visibility|opacity|(?:width|height)[:=]\"?0|hidden", part)
        assert 'width="1" height="1"' in part

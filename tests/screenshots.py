"""Pictures of every page: empty, busy, and while Redis is away; light and dark, on a desk and on a phone.

python -m tests.screenshots [DIR]

It starts `pixel-server up`, looks at it while it is empty, adds the demo and a few campaigns more, and at
last stops its Redis. Files are DIR/NAME-{desk,phone}-{light,dark}.png (default: screenshots); names are those
of tests/journeys/every_page.py. It needs a Chromium on the path, and takes some two minutes. `--docs` makes
only the two that the README shows.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.journeys.conftest import QUIET
from tests.journeys.every_page import BROKEN, BUSY, EMPTY, Lookers, Shown, started

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parent.parent / "docs"
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
IN_DOCS = {"list": "campaigns.png", "campaign-email": "campaign.png"}
MOST_HIGH = 870
"""px of a picture of the README."""
SETTLED = 250
"""ms that a chart takes to be drawn anew for another width, and then some."""


def take(page: Page, name: str, directory: Path) -> None:
    """The whole page as it is, in each size and scheme."""
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(SETTLED)
            page.screenshot(path=directory / f"{name}-{size}-{scheme}.png", full_page=True)


def take_for_readme(page: Page, path: Path) -> None:
    """Its upper part, without the empty rest of a short page."""
    page.wait_for_timeout(SETTLED)
    box = page.locator("main").bounding_box()
    assert box is not None
    height = min(round(box["y"] + box["height"]), MOST_HIGH)
    page.screenshot(
        path=path, full_page=True, clip={"x": 0, "y": 0, "width": SIZES["desk"][0], "height": height}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("screenshots"))
    parser.add_argument("--only", nargs="+", default=[], help="names of pages")
    parser.add_argument("--docs", action="store_true", help="make the two of the README anew, and no others")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no chromium on the path (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    chosen.directory.mkdir(parents=True, exist_ok=True)
    only = set(IN_DOCS if chosen.docs else chosen.only)
    with started() as filled, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        lookers = Lookers(browser, filled, device_scale_factor=1)

        def look(pages: Iterable[Shown]) -> None:
            for shown in pages:
                if only and shown.name not in only:
                    continue
                page = lookers.of(shown.who)
                page.set_viewport_size({"width": 1280, "height": 800})
                filled.show(page, shown)
                if chosen.docs:
                    take_for_readme(page, DOCS / IN_DOCS[shown.name])
                else:
                    take(page, shown.name, chosen.directory)
                print(shown.name, flush=True)

        look(EMPTY)
        filled.fill()
        look(BUSY)
        if not only or only & {shown.name for shown in BROKEN}:
            for shown in BROKEN:
                lookers.of(shown.who)
            with filled.redis_away():
                look(BROKEN)
        lookers.close()
        browser.close()


if __name__ == "__main__":
    main()

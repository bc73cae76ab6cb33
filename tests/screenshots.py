"""Pictures of every page: empty, busy, and while Redis is away; light and dark, on a desk and on a phone.

python -m tests.screenshots [DIR]

Starts `pixel-server up`, takes pictures while it is empty, adds the demo and a few more campaigns, and at
last stops Redis. Files are DIR/NAME-{desk,phone}-{light,dark}.png (DIR is by default `screenshots`); NAME is
a name in tests/journeys/every_page.py. Needs Chromium on the path, and takes some two minutes. `--docs` makes
only the two pictures of the README.
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
MAX_README_HEIGHT = 870
"""Largest height of a picture of the README, in px."""
REDRAW_MS = 250
"""More than the time that a chart needs to be drawn again in another width."""


def take(page: Page, name: str, directory: Path) -> None:
    """Takes pictures of the whole page in each size and color scheme."""
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(REDRAW_MS)
            page.screenshot(path=directory / f"{name}-{size}-{scheme}.png", full_page=True)


def take_for_readme(page: Page, path: Path) -> None:
    """Takes a picture of the page's upper part, without the empty rest of a short page."""
    page.wait_for_timeout(REDRAW_MS)
    box = page.locator("main").bounding_box()
    assert box is not None
    height = min(round(box["y"] + box["height"]), MAX_README_HEIGHT)
    page.screenshot(
        path=path, full_page=True, clip={"x": 0, "y": 0, "width": SIZES["desk"][0], "height": height}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("screenshots"))
    parser.add_argument("--only", nargs="+", default=[], help="names of pages")
    parser.add_argument("--docs", action="store_true", help="make only the two pictures of the README")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no chromium on the path (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    if not chosen.docs:
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

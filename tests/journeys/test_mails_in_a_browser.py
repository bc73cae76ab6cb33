"""A browser loads the pixels of every mail of the corpus, at any place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mail.corpus import MAILS, with_tags

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_mail_in_browser_loads_both_pixels(browser: Browser, tmp_path: Path):
    page = browser.new_page()
    wrong = []
    for i, mail in enumerate(MAILS):
        if mail.encoding and mail.mark not in (b"\xff\xfe", b"\xfe\xff"):
            continue  # browsers know it by its mark alone, and no UTF-32
        path = tmp_path / f"{i}.html"
        html = with_tags(mail, b'<img src="x:top">', b'<img src="x:end">')
        path.write_bytes(re.sub(rb"<<[\w ]+>>", b"merged", html))
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        found = page.evaluate("[...document.images].map(one => one.getAttribute('src'))")
        places = ("x:top", "x:end")
        if [src for src in found if src in places] != list(places):
            wrong.append((mail.reason, found))
    assert wrong == []

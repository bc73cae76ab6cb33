"""Text that a spreadsheet would run as a formula gets an apostrophe before it."""

from __future__ import annotations

import pytest

from pixel_server.figures import csv_export


@pytest.mark.parametrize(
    "blank", ["", " ", "\u00a0", "\u3000", "\ufeff", "\u200b", "\u2060\u200d", "\u3164", "\t"]
)
@pytest.mark.parametrize(
    "start", [*"=+-@", *"\uff1d\uff0b\uff0d\uff20", *"\ufe66\ufe62\ufe63\ufe6b", "\u2212"]
)
def test_csv_export_formula_gets_an_apostrophe(blank, start):
    text = f"{blank}{start}1"
    assert csv_export.lines([[text]]) == f"'{text}\r\n".encode()


@pytest.mark.parametrize("text", ["\tx", "\rx", "\nx"])
def test_csv_export_control_character_gets_an_apostrophe(text):
    assert csv_export.lines([[text]]).lstrip(b'"').startswith(b"'")


@pytest.mark.parametrize("text", ["", " ", "a=1", "ada@example.org", "2025-06-10", "\uff11", "\ufeff", "Ada"])
def test_csv_export_other_text_stays(text):
    assert csv_export.lines([[text, None, -5]]) == f"{text},,-5\r\n".encode()

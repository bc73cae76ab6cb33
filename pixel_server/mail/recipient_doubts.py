"""Warns of oddly spelled recipients. The opens of each spelling of a recipient are counted separately."""

from __future__ import annotations

import re
import unicodedata

_is_usual = re.compile(
    r"(?!')[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*|[\w-]+", re.ASCII
).fullmatch
_invisible_categories = frozenset({"Cf", "Zl", "Zp", "Cn", "Co"})
_joiners = "\u200c\u200d"
"""Characters that some scripts need between letters. They count as invisible too."""
_is_blank_letter = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
).match
"""Matches letters and marks that show nothing, such as the variation selector U+FE0F (Unicode's property
Default_Ignorable_Code_Point), and the empty Braille pattern."""
_scheme = re.compile(r"[a-z][a-z0-9+.-]*:", re.I).match


_is_in_no_address = re.compile(
    r"[\u00ab\u00bb\u2018-\u201f\u2039\u203a]|[()\[\]\\:](?=.*@)|^@|@.*(?:[^\w.@-](?<=[\0-\x7f])|\.\.)|@\.|@$"
).search
"""Matches typographic quotation marks, brackets before the `@`, odd signs and empty labels of the domain, and
an address that lacks a part."""
_is_literal = re.compile(r"[^@]*@\[[\w.:]+\]").fullmatch
"""Matches an address whose domain is an IP address: `ada@[192.0.2.1]`."""

_CAPITALS = "capital letters"


def doubt(recipient: str) -> str:
    """Returns a warning about the spelling of a recipient, or "" if the spelling is usual.

    `the recipient has capital letters: Ada@x and ada@x count as two people` is such a warning.
    """
    if _is_usual(recipient):
        return ""
    odd = [text for text, applies in _checks(recipient) if applies]
    if not odd:
        return ""
    effect = "Ada@x and ada@x count" if odd == [_CAPITALS] else "with and without, it counts"
    return f"the recipient has {', '.join(odd)}: {effect} as two people"


def _checks(recipient: str) -> list[tuple[str, bool]]:
    """Returns the name of each odd feature, and whether the recipient has the feature."""
    visible = "".join(character for character in recipient if not _is_invisible(character))
    composed = unicodedata.normalize("NFC", visible)
    folded = unicodedata.normalize("NFKC", visible).replace("\u3002", ".")
    scheme = _scheme(recipient.strip())
    checks = [
        ("invisible characters", visible != recipient),
        ("blanks at its ends", recipient != recipient.strip()),
        ("letters that are not composed (NFC)", not unicodedata.is_normalized("NFC", recipient)),
        ("letters of another width or form (NFKC)", folded != composed),
    ]
    if "@" in folded:
        text = recipient.strip().lower()
        checks += [
            (f"`{scheme[0].lower()}`" if scheme else "", scheme is not None),
            ("a name or brackets beside the address", "<" in text or ">" in text),
            ("several addresses", text.count("@") > 1 and '"' not in text),
            ("quotes", '"' in text or text.startswith("'")),
            ("a blank, comma or semicolon", re.search(r"[\s,;]", text) is not None),
            ("a dot at its end", text.endswith(".")),
            (_CAPITALS, recipient != recipient.lower()),
        ]
        has_other = any(applies for _, applies in checks)
        has_odd_sign = not has_other and not _is_literal(text) and _is_in_no_address(text) is not None
        checks.append(("a sign or dot that no address has", has_odd_sign))
    else:
        checks.append(("`%40` in place of `@`", "%40" in folded))
    return checks


def _is_invisible(character: str) -> bool:
    if character in _joiners or _is_blank_letter(character):
        return True
    category = unicodedata.category(character)
    return category in _invisible_categories or (category == "Zs" and character != " ")

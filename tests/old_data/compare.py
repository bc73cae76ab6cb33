"""Starts the current code on a directory of `tests.old_data.make`, and compares every answer.

    python -m tests.old_data.compare OUT [--figures] [--steady]

Prints each difference, line by line. Exits with 1 if there are differences. Reads a copy of OUT, so OUT does
not change. --figures: compares only the words of pages that contain a digit, for pages whose words have
changed. --steady: compares only answers that do not depend on the day, for a directory that was made long ago
(see `answers.is_steady`).
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.old_data import answers
from tests.old_data.answers import Answer
from tests.old_data.make import started

MAX_LINES = 40
"""Largest number of lines of one difference that are printed."""
READ_WITH_LISTS = ("referrer_kind",)
"""Fields whose values depend on lists of the current code, and not on the stored data alone."""


def compare(out: Path, figures: bool = False, steady: bool = False) -> tuple[int, list[str]]:
    """Returns the number of answers that were compared, and each difference in readable form."""
    stored = [Answer(**fields) for fields in json.loads((out / "answers.json").read_text())["answers"]]
    before = [answer for answer in stored if not steady or answers.is_steady(answer.path)]
    with started(out / "data", is_old=steady) as (client, _):
        after = list(answers.repeat(client, before))
    if steady:  # of an earlier version
        after = [as_earlier_version(old, new) for old, new in zip(before, after, strict=True)]
    pairs = list(zip(before, after, strict=True))
    return len(pairs), list(differences(pairs, figures))


def as_earlier_version(before: Answer, after: Answer) -> Answer:
    """Returns the later answer with only those changes that a later version must not make.

    Leaves out fields of JSON that the earlier answer lacks, and takes READ_WITH_LISTS from the earlier
    answer. A later version may answer a request for breakdowns that an earlier version refused.
    """
    if before.status in (409, 422) and urlsplit(before.path).path.endswith("/breakdowns"):
        return before
    if not before.type == after.type == "application/json":
        return after
    content = _common(json.loads(before.body), json.loads(after.body))
    return after._replace(body=json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False))


def _common(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            name: old[name] if name in READ_WITH_LISTS else _common(old[name], value)
            for name, value in new.items()
            if name in old
        }
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_common(old_item, new_item) for old_item, new_item in zip(old, new, strict=True)]
    return new


def differences(pairs: list[tuple[Answer, Answer]], figures: bool) -> Iterator[str]:
    """Yields a unified diff for each pair of answers that differ."""
    for before, after in pairs:
        old, new = _lines(before, figures), _lines(after, figures)
        if old != new:
            lines = list(difflib.unified_diff(old, new, "before", "after", n=2, lineterm=""))
            rest = [f"... and {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
            yield "\n".join([f"{before.who} {before.path}", *lines[:MAX_LINES], *rest])


def _lines(answer: Answer, figures: bool) -> list[str]:
    """Returns an answer in lines: JSON as it is, a page by its elements, a problem without its wording."""
    head = [f"{answer.status} {answer.type}"]
    if answer.type == "application/problem+json":
        wording = ('"detail": ', '"message": ')
        return head + [line for line in answer.body.splitlines() if not line.lstrip().startswith(wording)]
    if answer.type != "text/html":
        return head + answer.body.splitlines()
    if figures:
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", "\n", answer.body, flags=re.S)
        return head + [word for word in text.split() if re.search(r"\d", word)]
    return head + [line.strip() for line in re.sub(r"(>)\s*(<)", r"\1\n\2", answer.body).splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--steady", action="store_true")
    chosen = parser.parse_args()
    number, different = compare(chosen.out, chosen.figures, chosen.steady)
    print("\n\n".join([*different, f"{number} answers compared, {len(different)} differ"]))
    sys.exit(bool(different))

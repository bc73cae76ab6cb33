"""The events of the log, read from the code. `python -m tests.log_events` writes them to docs/logs.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "logs.md"
LEVELS = ("debug", "info", "warning", "error", "critical")
TABLE_HEAD = "| event | level | message |\n| --- | --- | --- |\n"


class LogCall(NamedTuple):
    """A call such as `log.warning("redis-away", "Redis does not answer: %(error)s", error=error)`.

    event, sentence: None if the argument is not a literal text. fields: names of the keyword arguments.
    """

    place: str
    level: str
    event: str | None
    sentence: str | None
    fields: frozenset[str]

    @property
    def shown_sentence(self) -> str:
        """Returns the sentence with `{error}` in place of `%(error)s`."""
        return re.sub(r"%\((\w+)\)[-.\d]*[a-z]", r"{\1}", self.sentence or "").replace("%%", "%")


def sources() -> list[Path]:
    """Returns the files whose log lines are checked."""
    return sorted([*(ROOT / "pixel_server").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])


def calls_in(path: Path) -> Iterator[LogCall]:
    """Yields the calls of a file's `log`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        target = node.func.value
        if (
            isinstance(target, ast.Name)
            and target.id == "log"
            and node.func.attr in (*LEVELS, "exception", "log")
        ):
            texts = [
                arg.value if isinstance(arg, ast.Constant) and isinstance(arg.value, str) else None
                for arg in node.args
            ]
            event, sentence = [*texts, None, None][:2] if len(texts) <= 2 else (None, None)
            names = frozenset(keyword.arg or "**" for keyword in node.keywords) - {"exc"}
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield LogCall(place, node.func.attr, event, sentence, names)


def all_calls() -> list[LogCall]:
    return [call for path in sources() for call in calls_in(path)]


def table(calls: Iterable[LogCall]) -> str:
    """Returns the table of events as it stands in docs/logs.md."""
    rows = {f"| `{call.event}` | {call.level} | {call.shown_sentence} |\n" for call in calls}
    return TABLE_HEAD + "".join(sorted(rows))


def replace_table(text: str, new_table: str) -> str:
    """Returns the text of docs/logs.md with another table of events, which is its last part."""
    return text[: text.index(TABLE_HEAD)] + new_table


if __name__ == "__main__":
    DOCS.write_text(replace_table(DOCS.read_text(), table(all_calls())))

"""What the programs of this folder share: options, a temporary directory, and figures with limits."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.machine import Cores, describe, on
from tests.bench.sides import Bench


@dataclass(frozen=True)
class Figure:
    """One result. most, least: its largest and smallest allowed value, or None."""

    name: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    def line(self) -> str:
        limit = ""
        if self.most is not None or self.least is not None:
            bound = f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"
            limit = f"{bound}: {'met' if self.met else 'NOT MET'}"
        return f"  {self.name:<66}{number(self.value):>10} {self.unit:<8}{limit}".rstrip()


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that this share (0 to 1) of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, figures: Sequence[Figure]) -> None:
    print(f"\n{title}")
    for figure in figures:
        print(figure.line(), flush=True)


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cores", type=Cores.parse, default=Cores(0, 1), help="serving core, other core")
    parser.add_argument("--dir", type=Path, help="directory for data, on a disk and not on a tmpfs")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    return parser


@contextlib.contextmanager
def prepared(chosen: argparse.Namespace) -> Iterator[Bench]:
    """Makes a temporary directory and the tokens, and moves this process to the other core."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))  # so that all started processes are stopped
    home = Path(tempfile.mkdtemp(prefix="px-bench-", dir=chosen.dir))
    try:
        with on(chosen.cores.other):
            print(describe(home), flush=True)
            yield Bench.make(home, chosen.cores)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def alone(
    description: str | None,
    measure: Callable[..., list[Figure]],
    **defaults: Any,
) -> None:
    """Runs a program around one `measure(bench, ...)`, whose parameters become options."""
    parser = options(description)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    chosen = parser.parse_args()
    with prepared(chosen) as bench:
        figures = measure(bench, **{name: getattr(chosen, name) for name in defaults})
        show((description or "").partition("\n")[0].rstrip("."), figures)
    if chosen.json:
        write(chosen.json, {"figures": [asdict(figure) for figure in figures]})


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")

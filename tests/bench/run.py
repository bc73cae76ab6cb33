"""Measures all servers in turn, on given cores, and then every other promise of speed.

make bench
make bench BENCH="--rounds 3 --seconds 3 --json bench.json"
make bench BENCH="--only hits latency --processes 1 --cores 2,3 --dir /some/disk"

Installs missing programs: wrk and nginx as Debian packages if it runs as root, and pixel-ping from npm into
the virtual environment. Each part but `hits` is also a program of its own, such as `python -m
tests.bench.rollup`. A run with the defaults takes some 20 minutes. docs/proof.md has the results.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.bench import (
    audience,
    flood,
    freshness,
    latency,
    links,
    memory,
    overview,
    pages,
    rollup,
    shards,
    site,
    stats,
    upload,
    webhooks,
    withdrawals,
    wrk,
)
from tests.bench.machine import cpu_us
from tests.bench.program import Figure, number, options, prepared, show, write
from tests.bench.sides import Bench, Side, nginx, pixel_ping, plain, server, settled
from tests.bench.wrk import Load

CAMPAIGNS = 5000
PARTS = (
    "hits",
    "latency",
    "withdrawals",
    "rollup",
    "site",
    "memory",
    "stats",
    "overview",
    "pages",
    "shards",
    "upload",
    "audience",
    "webhooks",
    "links",
    "freshness",
    "flood",
)
CASES = {
    "64 keep-alive connections": Load(64, 0),
    "256 keep-alive connections": Load(256, 0),
    "64 connections, a new one each request": Load(64, 0, close=True),
    "64 keep-alive connections, every head another": Load(64, 0, forwarded=True),
}
LEGEND = (
    "p50, p99: ms. CPU, store: us a hit, of the serving processes and of their Valkey. busy: cores.\n"
    "bad: not 2xx. lost: answered, not stored. x hits, x CPU: to nginx."
)
NGINX, PING, OURS = "nginx empty_gif", "pixel-ping", "pixel-server"


@dataclass(frozen=True)
class Round:
    """Result of one server in one case.

    rate: hits a second. p50, p99: latency in ms. cpu: CPU of the serving processes in us a hit. store: CPU of
    the Valkey in us a hit. busy: number of cores that the serving processes kept busy. bad: number of answers
    that are not 2xx, and of socket errors. lost: hits that were answered but not stored. extra: hits that
    were stored but not answered, without the requests that were open at the end.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    store: float
    busy: float
    bad: int
    lost: int
    extra: int


def one_round(bench: Bench, side: Side, load: Load) -> Round:
    side.tidy()
    both = [bench.cores.serving, bench.cores.other]
    store = [side.store.pid] if side.store else []
    cpu, store_cpu = cpu_us(side.pids()), cpu_us(store)
    answers = wrk.run(bench, side, load, both if side.floating else ())
    cpu, store_cpu = cpu_us(side.pids()) - cpu, cpu_us(store) - store_cpu
    lost = extra = 0
    if side.stored is not None:
        stored = settled(side.stored, answers.requests - answers.bad)
        lost = max(0, answers.requests - answers.bad - stored)
        extra = max(0, stored - answers.requests - load.connections)
    return Round(
        answers.rate,
        answers.p50,
        answers.p99,
        cpu / max(1, answers.requests),
        store_cpu / max(1, answers.requests),
        cpu / 1e6 / answers.seconds,
        answers.bad + answers.errors,
        lost,
        extra,
    )


def median(rounds: list[Round]) -> dict[str, float]:
    """Returns the median of each figure, and the sum of figures that must be 0."""
    medians = {}
    for name in Round.__annotations__:
        values = [getattr(result, name) for result in rounds]
        medians[name] = sum(values) if name in ("bad", "lost", "extra") else statistics.median(values)
    return medians


def hits(bench: Bench, rounds: int, seconds: float, processes: int) -> dict[str, Any]:
    """Returns {case: {side: {median, rounds}}}."""
    cases: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(start(bench)) for start in (nginx, pixel_ping, plain, server)]
        if processes > 1:
            sides.append(stack.enter_context(server(bench, processes)))
        token = bench.tokens.open().readline().strip()
        for side in sides:
            side.check(token)
            wrk.run(bench, side, Load(64, 1))
        for case, of_case in CASES.items():
            load = replace(of_case, seconds=seconds)
            results: dict[str, list[Round]] = {side.name: [] for side in sides}
            for number_of_round in range(rounds):
                print(f"... {case}, round {number_of_round + 1} of {rounds}", file=sys.stderr, flush=True)
                for side in sides:
                    results[side.name].append(one_round(bench, side, load))
            cases[case] = {
                name: {"median": median(of_side), "rounds": [asdict(result) for result in of_side]}
                for name, of_side in results.items()
            }
            table(case, cases[case])
    return cases


def table(case: str, sides: dict[str, Any]) -> None:
    print(f"\n{case}")
    heads = ("hits/s", "p50", "p99", "CPU", "busy", "store", "bad", "lost", "x hits", "x CPU")
    print(f"  {'':<26}" + "".join(f"{head:>8}" for head in heads))
    limit = sides[NGINX]["median"]
    for name, side in sides.items():
        median_of_side = side["median"]
        cells = [number(median_of_side[field]) for field in ("rate", "p50", "p99", "cpu", "busy", "store")]
        cells += [str(median_of_side["bad"]), str(median_of_side["lost"])]
        cells += [
            f"{median_of_side['rate'] / limit['rate']:.2f}",
            f"{median_of_side['cpu'] / limit['cpu']:.2f}",
        ]
        print(f"  {name:<26}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


def ratios(cases: dict[str, Any]) -> list[Figure]:
    """Returns the ratios of the medians of one run, with their limits."""
    figures = []
    for (case, sides), floor in zip(cases.items(), (0.40, 0.50, None, None), strict=True):
        ours, limit, ping = (sides[name]["median"] for name in (OURS, NGINX, PING))
        has_floor = floor is not None
        most, least = (1.8, 2.0) if has_floor else (None, None)
        figures += [
            Figure(f"{case}: hits to nginx", ours["rate"] / limit["rate"], least=floor),
            Figure(f"{case}: CPU to nginx", ours["cpu"] / limit["cpu"], most=most),
            Figure(f"{case}: hits to pixel-ping", ours["rate"] / ping["rate"], least=least),
        ]
    for name in (name for name in next(iter(cases.values())) if name.startswith(OURS)):
        medians = [of_case[name]["median"] for of_case in cases.values()]
        wrong = sum(result[field] for result in medians for field in ("bad", "lost", "extra"))
        figures.append(Figure(f"{name}: hits refused, lost or doubled", wrong, most=0.0))
    return figures


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each server and case")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each server in a round")
    parser.add_argument(
        "--processes", type=int, default=2, help="of one more server, on both cores; 1 leaves it out"
    )
    parser.add_argument("--recipients", type=int, default=1_000_000, help="of the campaign that is read")
    parser.add_argument("--minutes", type=float, default=1.0, help="of flood while Redis is stopped")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    chosen = parser.parse_args()
    report: dict[str, Any] = {"arguments": sys.argv[1:]}
    figures: dict[str, list[Figure]] = {}

    def keep(title: str, of_part: list[Figure]) -> None:
        figures[title] = of_part
        show(title, of_part)

    with prepared(chosen) as bench:
        rounds, seconds = chosen.rounds, chosen.seconds
        if "hits" in chosen.only:
            print(
                f"{rounds} rounds of {seconds:g} s a side, medians; serving on core {bench.cores.serving}, "
                f"wrk and Valkey on core {bench.cores.other}\n{LEGEND}"
            )
            report["cases"] = hits(bench, rounds, seconds, chosen.processes)
            keep("Ratios of medians", ratios(report["cases"]))
        if "latency" in chosen.only:
            keep("Latency at half the maximum rate", latency.measure(bench, min(rounds, 3), seconds))
        if "withdrawals" in chosen.only:
            keep("A million withdrawals", withdrawals.measure(bench, rounds + 2, seconds))
        if "rollup" in chosen.only:
            keep("Roll-up", rollup.measure(bench, rounds=min(rounds, 3), seconds=seconds))
        if "site" in chosen.only:
            keep("A web site of 200,000 visitors", site.measure(bench, seconds=seconds))
        if {"memory", "stats"} & set(chosen.only):
            with server(bench) as side:
                keep("Memory of a million recipients", memory.measure_on(bench, side, chosen.recipients))
                if "stats" in chosen.only:
                    keep("Stats over 90 days of that campaign", stats.measure_on(side))
        if {"overview", "pages"} & set(chosen.only):
            with server(bench) as side:
                overview.fill(bench, side, CAMPAIGNS)
                if "overview" in chosen.only:
                    keep("The list of 5,000 campaigns", overview.measure_on(side, CAMPAIGNS, 40))
                if "pages" in chosen.only:
                    keep("The dashboard's pages, with them", pages.measure_on(side, 40))
        if "shards" in chosen.only:
            keep("Figures with many shards", shards.measure(bench, campaigns=20))
        if "upload" in chosen.only:
            keep("An upload of a million recipients", upload.measure(bench))
        if "audience" in chosen.only:
            keep("The audience of 20 campaigns", audience.measure(bench))
        if "webhooks" in chosen.only:
            keep("Webhooks", webhooks.measure(bench))
        if "links" in chosen.only:
            keep("A million links for a list", links.measure(bench))
        if "freshness" in chosen.only:
            keep("Freshness at half the maximum rate", freshness.measure(bench))
        if "flood" in chosen.only:
            keep("A flood while Redis is stopped", flood.measure(bench, chosen.minutes))
    if chosen.json:
        report["figures"] = {title: [asdict(figure) for figure in part] for title, part in figures.items()}
        write(chosen.json, report)
    missed = [figure for part in figures.values() for figure in part if not figure.met]
    print("\nAll limits are met." if not missed else f"\n{len(missed)} limits are NOT met.")


if __name__ == "__main__":
    main()

"""All sides in turn, on stated cores, in one run; then everything else that is promised of speed.

make bench
make bench BENCH="--rounds 3 --seconds 3 --json bench.json"
make bench BENCH="--only hits latency --processes 1 --cores 2,3 --dir /some/disk"

It installs what is missing: wrk and nginx as Debian packages where it is root, pixel-ping from npm into the
virtual environment. Each part is also a program of its own: `python -m tests.bench.rollup`, and latency,
withdrawals, site, memory, stats, overview, pages, upload, links, freshness, flood. Defaults take some 20
minutes. `--only hits latency rollup --rounds 3 --seconds 3` printed, `--only withdrawals upload --rounds 5
--seconds 3` the last two, and for the rest an earlier run of all:

2 cores (Intel(R) Xeon(R) Processor), Python 3.11.7; data on ext4, fsync 0.14 ms
3 rounds of 3 s a side, medians; serving on core 0, wrk and Valkey on core 1
p50, p99: ms. CPU, store: us a hit, of the serving processes and of their Valkey. busy: cores.
bad: not 2xx. lost: answered, not stored. x hits, x CPU: to nginx.

64 keep-alive connections
                              hits/s     p50     p99     CPU    busy   store     bad    lost  x hits   x CPU
  nginx empty_gif            147,386    0.39    1.27    6.54    0.97    0.00       0       0    1.00    1.00
  pixel-ping                  46,752    1.19    7.16    21.2    0.99    0.00       0       0    0.32    3.24
  Starlette + XADD             6,366    9.61    22.0   155.7    1.00    17.0       0       0    0.04   23.79
  pixel-server                46,973    1.21    2.19    16.3    0.76    5.37       0       0    0.32    2.50
  pixel-server, 2 processes   29,328    2.14    3.20    24.1    0.73    11.3       0       0    0.20    3.68

256 keep-alive connections
                              hits/s     p50     p99     CPU    busy   store     bad    lost  x hits   x CPU
  nginx empty_gif            144,162    1.72    3.30    6.75    0.96    0.00       0       0    1.00    1.00
  pixel-ping                  41,336    5.71    12.9    24.0    0.99    0.00       0       0    0.29    3.55
  Starlette + XADD             5,232    44.2    81.2   188.6    1.00    14.6       0       0    0.04   27.92
  pixel-server                61,812    3.79    5.96    14.8    0.92    2.29       0       0    0.43    2.20
  pixel-server, 2 processes   56,272    4.19    7.80    17.6    1.01    3.66       0       0    0.39    2.61

64 connections, a new one each request
                              hits/s     p50     p99     CPU    busy   store     bad    lost  x hits   x CPU
  nginx empty_gif             31,288    0.73    2.08    16.1    0.52    0.00       0       0    1.00    1.00
  pixel-ping                  12,698    4.37    16.1    77.9    0.98    0.00       0       0    0.41    4.83
  Starlette + XADD             4,487    14.1    16.7   220.6    0.99    67.3       0       0    0.14   13.67
  pixel-server                11,960    5.15    8.16    80.7    0.96    22.6       0       0    0.38    5.00
  pixel-server, 2 processes   12,656    4.29    9.99    86.0    1.09    14.2       0       0    0.40    5.33

64 keep-alive connections, every head another
                              hits/s     p50     p99     CPU    busy   store     bad    lost  x hits   x CPU
  nginx empty_gif            147,710    0.39    1.15    6.57    0.97    0.00       0       0    1.00    1.00
  pixel-ping                  44,882    1.25    2.72    22.0    0.99    0.00       0       0    0.30    3.35
  Starlette + XADD             5,685    10.7    25.1   174.4    0.99    17.6       0       0    0.04   26.56
  pixel-server                30,677    1.98    3.46    29.5    0.91    5.31       0       0    0.21    4.49
  pixel-server, 2 processes   23,798    2.46    30.4    40.1    0.95    12.0       0       0    0.16    6.11

Ratios of medians
  64 keep-alive connections: hits to nginx                                0.32         at least 0.4: NOT MET
  64 keep-alive connections: CPU to nginx                                 2.50         at most 1.8: NOT MET
  64 keep-alive connections: hits to pixel-ping                           1.00         at least 2: NOT MET
  256 keep-alive connections: hits to nginx                               0.43         at least 0.5: NOT MET
  256 keep-alive connections: CPU to nginx                                2.20         at most 1.8: NOT MET
  256 keep-alive connections: hits to pixel-ping                          1.50         at least 2: NOT MET
  64 connections, a new one each request: hits to nginx                   0.38
  64 connections, a new one each request: CPU to nginx                    5.00
  64 connections, a new one each request: hits to pixel-ping              0.94
  64 keep-alive connections, every head another: hits to nginx            0.21
  64 keep-alive connections, every head another: CPU to nginx             4.49
  64 keep-alive connections, every head another: hits to pixel-ping       0.68
  pixel-server: hits refused, lost or doubled                             0.00         at most 0: met
  pixel-server, 2 processes: hits refused, lost or doubled                0.00         at most 0: met

Latency at half the maximum rate
  maximum, 256 connections                                              65,521 hits/s
  rate at which latency was taken                                       32,620 hits/s
  p50                                                                     1.02 ms      at most 3: met
  p99                                                                     2.01 ms      at most 10: met
  answers that are no 2xx                                                 0.00         at most 0: met

Roll-up (a later run)
  one worker counts                                                     46,203 hits/s
  CPU of the worker a hit                                                 14.9 us
  CPU of Valkey a hit                                                     9.90 us
  one web process stores, 64 connections                                45,709 hits/s
  one web process stores, 256 connections                               63,514 hits/s
  ratio, 64 connections                                                   1.01         at least 1: met
  ratio, 256 connections                                                  0.73         at least 1: NOT MET

Memory of a million recipients
  a recipient, by used_memory_dataset                                     24.8 bytes   at most 40: met
  a recipient, by used_memory                                             25.4 bytes
  recipients                                                         1,000,000
  hits made and counted                                                 34,934 hits/s

Stats over 90 days of that campaign
  p50                                                                     2.43 ms
  p99                                                                     4.10 ms      at most 10: met
  unique opens shown                                                 1,000,000

Freshness at half the maximum rate
  rate                                                                  16,575 hits/s
  p50                                                                     0.15 s
  p99                                                                     0.36 s       at most 2: met
  probes                                                                 191.0
  probes not shown within 10 s                                            0.00         at most 0: met

A flood while Redis is stopped
  minutes of flood                                                        1.00
  resident at the start                                                   48.4 MB
  resident after a flood with Redis                                       53.1 MB
  most resident while Redis was stopped                                   54.3 MB      at most 117.148: met
  requests with Redis                                                   39,100 a second
  requests while Redis was stopped                                      39,611 a second
  of these answered 2xx                                                 39,611 a second
  p99 while Redis was stopped                                             15.7 ms

A million withdrawals
  CPU a hit, nobody has withdrawn                                         15.4 us
  CPU a hit, a million have                                               16.6 us
  ratio                                                                   1.08         at most 1.1: met
  withdrawn over the API                                                55,358 a second

An upload of a million recipients
  rows                                                                  41,059 a second
  memory of the web process before                                        49.0 MB
  memory after                                                            50.7 MB      at most 65.0352: met
  pixels meanwhile: p50                                                   2.58 ms
  pixels meanwhile: p99                                                   13.1 ms      at most 300: met
  pixels meanwhile: not recorded                                          0.00         at most 0: met
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.bench import (
    flood,
    freshness,
    latency,
    links,
    memory,
    overview,
    pages,
    rollup,
    site,
    stats,
    upload,
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
    "upload",
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
    """p50, p99: ms. cpu: us of the serving processes a hit. store: the same of its Valkey.
    busy: cores that the serving processes kept busy. bad: answers that are no 2xx, and errors of sockets.
    lost: hits answered but not stored. extra: hits stored and never answered, beyond the open requests."""

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
    found = wrk.run(bench, side, load, both if side.floating else ())
    cpu, store_cpu = cpu_us(side.pids()) - cpu, cpu_us(store) - store_cpu
    lost = extra = 0
    if side.stored is not None:
        stored = settled(side.stored, found.requests - found.bad)
        lost = max(0, found.requests - found.bad - stored)
        extra = max(0, stored - found.requests - load.connections)
    return Round(
        found.rate,
        found.p50,
        found.p99,
        cpu / max(1, found.requests),
        store_cpu / max(1, found.requests),
        cpu / 1e6 / found.seconds,
        found.bad + found.errors,
        lost,
        extra,
    )


def median(rounds: list[Round]) -> dict[str, float]:
    """Of each figure; of what must not be, the sum."""
    found = {}
    for name in Round.__annotations__:
        values = [getattr(one, name) for one in rounds]
        found[name] = sum(values) if name in ("bad", "lost", "extra") else statistics.median(values)
    return found


def hits(bench: Bench, rounds: int, seconds: float, processes: int) -> dict[str, Any]:
    """case -> side -> {median, rounds}."""
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
            found: dict[str, list[Round]] = {side.name: [] for side in sides}
            for number_of_round in range(rounds):
                print(f"... {case}, round {number_of_round + 1} of {rounds}", file=sys.stderr, flush=True)
                for side in sides:
                    found[side.name].append(one_round(bench, side, load))
            cases[case] = {
                name: {"median": median(of_side), "rounds": [asdict(one) for one in of_side]}
                for name, of_side in found.items()
            }
            table(case, cases[case])
    return cases


def table(case: str, sides: dict[str, Any]) -> None:
    print(f"\n{case}")
    heads = ("hits/s", "p50", "p99", "CPU", "busy", "store", "bad", "lost", "x hits", "x CPU")
    print(f"  {'':<26}" + "".join(f"{head:>8}" for head in heads))
    limit = sides[NGINX]["median"]
    for name, side in sides.items():
        found = side["median"]
        cells = [number(found[field]) for field in ("rate", "p50", "p99", "cpu", "busy", "store")]
        cells += [str(found["bad"]), str(found["lost"])]
        cells += [f"{found['rate'] / limit['rate']:.2f}", f"{found['cpu'] / limit['cpu']:.2f}"]
        print(f"  {name:<26}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


def ratios(cases: dict[str, Any]) -> list[Figure]:
    """What is asked of medians of one run."""
    figures = []
    for (case, sides), floor in zip(cases.items(), (0.40, 0.50, None, None), strict=True):
        ours, limit, ping = (sides[name]["median"] for name in (OURS, NGINX, PING))
        asked = floor is not None
        most, least = (1.8, 2.0) if asked else (None, None)
        figures += [
            Figure(f"{case}: hits to nginx", ours["rate"] / limit["rate"], least=floor),
            Figure(f"{case}: CPU to nginx", ours["cpu"] / limit["cpu"], most=most),
            Figure(f"{case}: hits to pixel-ping", ours["rate"] / ping["rate"], least=least),
        ]
    for name in (name for name in next(iter(cases.values())) if name.startswith(OURS)):
        found = [of_case[name]["median"] for of_case in cases.values()]
        wrong = sum(one[field] for one in found for field in ("bad", "lost", "extra"))
        figures.append(Figure(f"{name}: hits refused, lost or doubled", wrong, most=0.0))
    return figures


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each side and case")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each side in a round")
    parser.add_argument("--processes", type=int, default=2, help="of one more side, on both cores; 1: none")
    parser.add_argument("--recipients", type=int, default=1_000_000, help="of the campaign that is read")
    parser.add_argument("--minutes", type=float, default=1.0, help="of flood while Redis is stopped")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"arguments": sys.argv[1:]}
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
            found["cases"] = hits(bench, rounds, seconds, chosen.processes)
            keep("Ratios of medians", ratios(found["cases"]))
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
        if "upload" in chosen.only:
            keep("An upload of a million recipients", upload.measure(bench))
        if "links" in chosen.only:
            keep("A million links for a list", links.measure(bench))
        if "freshness" in chosen.only:
            keep("Freshness at half the maximum rate", freshness.measure(bench))
        if "flood" in chosen.only:
            keep("A flood while Redis is stopped", flood.measure(bench, chosen.minutes))
    if chosen.json:
        found["figures"] = {title: [asdict(one) for one in part] for title, part in figures.items()}
        write(chosen.json, found)
    missed = [one for part in figures.values() for one in part if not one.met]
    print("\nAll that is asked is met." if not missed else f"\n{len(missed)} figures are NOT as asked.")


if __name__ == "__main__":
    main()

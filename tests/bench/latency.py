"""Latency at half the maximum rate.

python -m tests.bench.latency [--rounds 3] [--seconds 5]

The maximum is the rate of 256 keep-alive connections. Then 256 connections together send half of that rate.
Each connection pauses for random times, so that requests arrive as from many independent people; see
`wrk.paced`. Latency is measured from the sending of a request.
"""

from __future__ import annotations

import statistics

from tests.bench import wrk
from tests.bench.program import Figure, alone
from tests.bench.sides import Bench, Side, server
from tests.bench.wrk import Answers, Load, paced


def maximum(bench: Bench, side: Side, seconds: float) -> float:
    """Returns the hits a second of 256 connections."""
    rate = wrk.run(bench, side, Load(256, seconds)).rate
    side.tidy()
    return rate


def pacing(bench: Bench, side: Side, rate: float, seconds: float) -> Load:
    """Returns a load of this rate, after a short trial of its pauses."""
    trial = wrk.run(bench, side, paced(rate, 2))
    side.tidy()
    wanted_ms, trial_ms = 256 / rate * 1000, 256 / trial.rate * 1000
    return paced(rate, seconds, latency=max(0.0, 1.0 + trial_ms - wanted_ms))


def measure(bench: Bench, rounds: int = 3, seconds: float = 5.0) -> list[Figure]:
    rounds_answers: list[Answers] = []
    rates: list[float] = []
    with server(bench) as side:
        wrk.run(bench, side, Load(64, 1))
        for _ in range(rounds):
            rates.append(maximum(bench, side, seconds))
            load = pacing(bench, side, rates[-1] / 2, seconds)
            rounds_answers.append(wrk.run(bench, side, load))
            side.tidy()
    return [
        Figure("maximum, 256 connections", statistics.median(rates), "hits/s"),
        Figure(
            "rate at which latency was taken",
            statistics.median(answers.rate for answers in rounds_answers),
            "hits/s",
        ),
        Figure("p50", statistics.median(answers.p50 for answers in rounds_answers), "ms", most=3.0),
        Figure("p99", statistics.median(answers.p99 for answers in rounds_answers), "ms", most=10.0),
        Figure("answers that are not 2xx", sum(answers.bad for answers in rounds_answers), most=0.0),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, rounds=3, seconds=5.0)

"""Readers: generators that read from Redis in steps, so that several of them can share their round trips.

    def length(pipe: Pipeline, shard: int) -> Reader[int]:
        pipe.xlen(keys.hits(shard))
        (entries,) = yield
        return int(entries)

    lengths = read(store, lambda pipe: together(pipe, length(pipe, 0), length(pipe, 1)))

A reader queues commands on the pipeline, yields, and is sent their replies, as often as it needs. If Redis is
150 ms away, nine reads in turn take longer than a second, and nine reads together take 150 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import islice
from typing import Any, TypeVar

from pixel_server.store.protocols import Pipeline, Redis

T = TypeVar("T")
Reader = Generator[None, Any, T]


def read(store: Redis, make: Callable[[Pipeline], Reader[T]]) -> T:
    """Runs the reader that `make` returns, with one round trip for each step. Returns its result."""
    pipe = store.pipeline(transaction=False)
    return run(make(pipe), pipe.execute)


def run(reader: Reader[T], execute: Callable[[], list[Any]]) -> T:
    """Runs a reader to its end, and returns its result.

    execute: sends the commands that a step has queued, and returns their replies.
    """
    replies: list[Any] | None = None
    while True:
        try:
            reader.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result
        replies = execute()


def together(pipe: Pipeline, *readers: Reader[Any]) -> Reader[list[Any]]:
    """Runs readers side by side: their steps share each round trip. Returns their results, in this order."""
    results: list[Any] = [None] * len(readers)
    running = dict(enumerate(readers))
    replies: dict[int, list[Any]] = {}
    while True:
        queued: dict[int, int] = {}
        for number, reader in list(running.items()):
            before = len(pipe)
            try:
                reader.send(replies.get(number))
            except StopIteration as end:
                results[number] = end.value
                del running[number]
            else:
                queued[number] = len(pipe) - before
        if not running:
            return results
        answers = iter((yield))
        replies = {number: list(islice(answers, count)) for number, count in queued.items()}

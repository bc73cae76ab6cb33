"""The union of HyperLogLogs, compared with Redis's own."""

from __future__ import annotations

import pytest

from pixel_server.figures.hyperloglog import count_union


def fill(client, name, numbers):
    numbers = list(numbers)
    for i in range(0, len(numbers), 10_000):
        client.pfadd(name, *numbers[i : i + 10_000])


@pytest.mark.parametrize(
    ("ranges", "encodings"),
    [
        ([], set()),
        ([(0, 0)], {1}),
        ([(0, 1)], {1}),
        ([(0, 100), (50, 150)], {1}),
        ([(0, 100), (0, 5000)], {0, 1}),
        ([(0, 5000), (2500, 7500), (0, 0)], {0, 1}),
        ([(0, 200_000), (100_000, 300_000), (0, 100), (7, 8)], {0, 1}),
    ],
)
def test_hyperloglog_union_agrees_with_redis(client, ranges, encodings):
    names = [f"{{hll}}-{i}" for i in range(len(ranges))]
    for name, (first, end) in zip(names, ranges, strict=True):
        client.pfadd(name)
        fill(client, name, range(first, end))
    values = [client.get(name) for name in names]
    assert {value[4] for value in values} == encodings  # 0 dense, 1 sparse
    assert count_union([*values, None]) == (client.pfcount(*names) if names else 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"HYLL",
        b"GIF89a" + bytes(20),
        b"HYLL\x02" + bytes(11),
        b"HYLL\x00" + bytes(100),
        b"HYLL\x01" + bytes(20),
    ],
)
def test_hyperloglog_other_bytes_are_refused(value):
    with pytest.raises(ValueError, match="HyperLogLog"):
        count_union([value])

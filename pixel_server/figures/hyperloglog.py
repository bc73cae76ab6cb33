"""The union of Redis HyperLogLogs that lie under different hash tags.

PFCOUNT over several keys wants them on one node, and this project's commands name keys of one shard only.
So the values are read, and united here: a register each of 16,384, the greatest counts. Layout: `HYLL`,
encoding (0 dense, 1 sparse), 3 unused, 8 of cached count, registers (Redis `hyperloglog.c`). Estimator: Otmar
Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017, as in Redis since 4.0.
The standard error is 0.81 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log, sqrt

REGISTERS = 16_384
STANDARD_ERROR = 0.0081
ABOUT = {"method": "HyperLogLog", "standard_error": STANDARD_ERROR}
"""As answers tell of it."""
_Q = 50
_HIGH = int.from_bytes(b"\x80" * REGISTERS, "little")
_LOW = _HIGH >> 7


def count_union(values: Iterable[bytes | None]) -> int:
    """How many different elements went into these. ValueError: bytes that are no HyperLogLog."""
    united = 0
    for value in values:
        if value is not None:
            united = _greatest(united, int.from_bytes(_registers(value), "little"))
    return _estimate(united.to_bytes(REGISTERS, "little")) if united else 0


def _greatest(a: int, b: int) -> int:
    """The greater of each pair of bytes, all at once. Registers are below 128, so the top bit is free."""
    not_less = (((a | _HIGH) - b) & _HIGH) >> 7  # 1 in each byte where a >= b
    mask = not_less * 0xFF
    return (a & mask) | (b & ~mask & (_LOW * 0xFF))


def _registers(value: bytes) -> bytes:
    if value[:4] != b"HYLL" or len(value) < 16 or value[4] > 1:
        raise ValueError("not a HyperLogLog")
    return _dense(value[16:]) if value[4] == 0 else _sparse(value[16:])


def _table(move: int) -> bytes:
    return bytes((byte << move if move >= 0 else byte >> -move) & 0x3F for byte in range(256))


_KEEP, _DOWN6, _UP2, _DOWN4, _UP4, _DOWN2 = (_table(move) for move in (0, -6, 2, -4, 4, -2))


def _dense(packed: bytes) -> bytes:
    """Four registers of 6 bits in three bytes, least significant bits first."""
    if len(packed) < REGISTERS * 3 // 4:
        raise ValueError("a HyperLogLog cut short")
    packed = packed[: REGISTERS * 3 // 4]
    one, two, three = packed[0::3], packed[1::3], packed[2::3]
    found = bytearray(REGISTERS)
    found[0::4] = one.translate(_KEEP)
    found[1::4] = _either(one.translate(_DOWN6), two.translate(_UP2))
    found[2::4] = _either(two.translate(_DOWN4), three.translate(_UP4))
    found[3::4] = three.translate(_DOWN2)
    return bytes(found)


def _either(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(len(a), "little")


def _sparse(codes: bytes) -> bytes:
    """Runs: 00xxxxxx zeros, 01xxxxxx+8 zeros, 1vvvvvxx a value."""
    found = bytearray()
    i = 0
    while i < len(codes):
        code = codes[i]
        if code & 0x80:
            found += bytes([(code >> 2 & 0x1F) + 1]) * ((code & 0x03) + 1)
        elif code & 0x40:
            i += 1
            found += bytes(((code & 0x3F) << 8 | codes[i]) + 1)
        else:
            found += bytes((code & 0x3F) + 1)
        i += 1
    if len(found) != REGISTERS:
        raise ValueError("a HyperLogLog of another size")
    return bytes(found)


def _estimate(registers: bytes) -> int:
    histogram = [registers.count(value) for value in range(_Q + 2)]
    z = REGISTERS * _tau((REGISTERS - histogram[_Q + 1]) / REGISTERS)
    for value in range(_Q, 0, -1):
        z = (z + histogram[value]) * 0.5
    z += REGISTERS * _sigma(histogram[0] / REGISTERS)
    return round(REGISTERS * REGISTERS / (2 * log(2)) / z)


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while z != before:
        before, x, y = z, sqrt(x), y * 0.5
        z -= (1.0 - x) ** 2 * y
    return z / 3.0


def _sigma(x: float) -> float:
    if x == 1.0:
        return float("inf")
    y, z, before = 1.0, x, -1.0
    while z != before:
        before, x = z, x * x
        z += x * y
        y += y
    return z

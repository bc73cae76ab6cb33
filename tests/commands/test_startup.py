"""What `serve` and `work` log when they start."""

from __future__ import annotations

import pytest

from pixel_server.commands.startup import warn_of_few_sentinels
from pixel_server.settings import Settings


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("a", "REDIS_URL names one sentinel: nothing contradicts it"),
        ("a,b", "REDIS_URL names two sentinels: if one of them is away"),
        ("a,b,c", ""),
    ],
)
def test_warn_of_few_sentinels_says_what_fewer_than_three_cost(
    hosts: str, expected: str, caplog: pytest.LogCaptureFixture
):
    warn_of_few_sentinels(Settings(redis_url=f"redis+sentinel://{hosts}/main"))
    assert len(caplog.records) == bool(expected)
    assert expected in caplog.text

"""What `make up` says before it installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("target", ["up", "test"])
def test_makefile_says_that_it_installs_and_how_long(target):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, _, after = done.stdout.partition("pip install")
    assert "Installing into .venv" in before
    assert "minute" in before
    assert after

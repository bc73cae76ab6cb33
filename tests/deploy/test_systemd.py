"""The units of deploy/systemd: valid for systemd, hardened, and with commands that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pixel_server.run import supervisor, up
from tests.deploy.containers import OTHER_VARIABLES, ROOT, SETTING_NAMES, assert_exists
from tests.stack import PROGRAM

HOME = ROOT / "deploy" / "systemd"
UNITS = sorted(path.name for path in HOME.glob("*.service"))
COMMON = HOME / "pixel-server-.service.d" / "common.conf"
INSTALLED = "/opt/pixel-server/bin/pixel-server"
"""Path of the program in the units and in docs/deploying.md."""
MAX_EXPOSURE = 15
"""Largest exposure that `systemd-analyze security` may find, in tenths: 0 is safe, 100 is not."""


def values(unit: str, name: str) -> list[str]:
    """Returns the values of a directive in a unit and in what the units have in common."""
    text = COMMON.read_text() + (HOME / unit).read_text()
    return re.findall(rf"^{name}=(.*)$", text, re.M)


def analyze(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `systemd-analyze` on the units in a directory. Skips without it, or fails if CI is set."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing = "systemd-analyze is missing: apt-get install systemd"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"}
    return subprocess.run(
        [program, *words], env=environ, cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Returns a directory with the units. They run the program under test."""
    for path in [COMMON, *HOME.glob("*.service")]:
        place = tmp_path / path.relative_to(HOME)
        place.parent.mkdir(exist_ok=True)
        place.write_text(path.read_text().replace(INSTALLED, PROGRAM))
    return tmp_path


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_clean_for_systemd(unit: str, installed: Path):
    done = analyze(installed, "verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_units_a_mistake_is_found(installed: Path):
    with (installed / UNITS[0]).open("a") as file:
        file.write("[Service]\nProtectSistem=strict\n")
    assert "ProtectSistem" in analyze(installed, "verify", "--man=no", UNITS[0]).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_hardened(unit: str, installed: Path):
    words = ["security", "--offline=true", "--no-pager"]
    done = analyze(installed, *words, f"--threshold={MAX_EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout
    (installed / COMMON.parent.name / COMMON.name).unlink()
    assert analyze(installed, *words, f"--threshold={MAX_EXPOSURE}", unit).returncode != 0


@pytest.mark.parametrize("unit", UNITS)
def test_units_commands_and_settings_exist(unit: str):
    [line] = values(unit, "ExecStart")
    program, *words = line.split()
    assert program == INSTALLED
    assert_exists(["pixel-server", *words])
    environ = dict(word.split("=", 1) for line in values(unit, "Environment") for word in line.split())
    assert environ.keys() <= SETTING_NAMES | OTHER_VARIABLES | {"PYTHONUNBUFFERED"}
    assert set(re.findall(r"\$\{(\w+)\}", line)) <= environ.keys()


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_given_the_time_that_they_need_to_stop(unit: str):
    [seconds] = map(int, values(unit, "TimeoutStopSec"))
    needed = supervisor.STOP_TIMEOUT_SECONDS
    if unit == "pixel-server-up.service":
        needed += up.TIMEOUT_SECONDS  # Valkey ends after the others
    assert seconds > needed
    assert values(unit, "KillMode") == ["mixed"], "only the main process knows the order"


def test_command_runs_as_the_services_do():
    text = (HOME / "pixel-server").read_text()
    assert subprocess.run(["sh", "-n", HOME / "pixel-server"], check=False).returncode == 0
    for name in ("DynamicUser", "User", "UMask", "StateDirectory", "StateDirectoryMode", "EnvironmentFile"):
        [value] = values(UNITS[0], name)
        assert re.search(rf'--property="?{name}={re.escape(value)}[" ]', text), name
    [environ] = values(UNITS[0], "Environment")
    assert environ.split()[0] in text
    assert f'{INSTALLED} "$@"' in text


def test_docs_install_what_exists():
    docs = (ROOT / "docs" / "deploying.md").read_text()
    named = set(re.findall(r"deploy/systemd/[\w.*-]+", docs))
    assert named
    assert all(list(ROOT.glob(name)) for name in named)
    assert set(re.findall(r"pixel-server-(?:up|web|worker|relay)", docs)) == {
        unit.removesuffix(".service") for unit in UNITS
    }

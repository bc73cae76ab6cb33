"""The list of commands, and the modules that a process loads to print it."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from pixel_server.cli import COMMANDS, main

NOT_FOR_HELP = ("redis", "starlette", "uvicorn", "msgspec", "pixel_server.settings", "pixel_server.run")


@pytest.mark.parametrize("name", COMMANDS)
def test_lazy_group_table_agrees_with_each_command(name: str):
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help is not None
    first_sentence = command.help.replace("\n", " ").partition(". ")[0].removesuffix(".") + "."
    assert COMMANDS[name][1] == first_sentence


def test_lazy_group_help_loads_no_command():
    code = (
        "import sys; from click.testing import CliRunner; from pixel_server.cli import main; "
        "result = CliRunner().invoke(main, ['--help']); print(result.output); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.rstrip().rpartition("\n")
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert not set(NOT_FOR_HELP) & set(modules.split())
    assert [name for name in modules.split() if name.startswith("pixel_server.commands.")] == [
        "pixel_server.commands.lazy_group"
    ]


def test_lazy_group_command_mistyped_is_refused_with_a_name():
    done = subprocess.run(
        [sys.executable, "-m", "pixel_server", "campain"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "No such command 'campain'" in done.stderr


def test_lazy_group_campaign_command_does_not_load_the_user_agent_lists():
    code = "import sys, pixel_server.commands.campaign; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"ua_parser", "is_bot"} & set(done.stdout.split())

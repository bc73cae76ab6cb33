"""`pixel-server up` when its parts or itself are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.journeys.up_steps import children, create_link, send_hits
from tests.stack import PROGRAM, Stack, until


def test_up_killed_parts_are_restarted_in_turn(stack: Stack):
    url = create_link(stack)
    for number, part in enumerate(("web", "worker", "valkey", "workers"), 1):
        send_hits(stack, url, 20)
        kill_part(stack, part)
        until(lambda: stack.get(url) == (200, "recorded"))
        until(lambda: stack.call("GET", "/api/campaigns")[0] == 200)
        until(lambda number=number: stack.totals("mail")["opens"] >= 21 * number)
    assert "traceback=" not in stack.output()
    assert f"killed by signal 9 (see {stack.data}/valkey/valkey.log); restarting" in stack.output()


def kill_part(stack: Stack, part: str) -> None:
    """Kills a part, and waits until another process has its place. The other parts must go on."""
    until(lambda: all(children(stack).values()))
    before, printed = children(stack), len(stack.output())
    os.kill(before[part], signal.SIGKILL)
    until(lambda: children(stack)[part] not in (0, before[part]))
    lines = until(lambda: re.findall(r".*killed by signal 9.*", stack.output()[printed:]))
    assert "restarting it in 0.3 s" in lines[0]
    untouched = [name for name in before if name != part and (part, name) != ("workers", "worker")]
    assert {name: children(stack)[name] for name in untouched} == {name: before[name] for name in untouched}


def test_up_part_killed_repeatedly_is_restarted_with_longer_pauses(stack: Stack):
    for _ in range(3):
        pid = until(lambda: children(stack)["web"])
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: children(stack)["web"] not in (0, pid))
    assert re.findall(r"web was killed.*restarting it in (\S+) s", stack.output()) == ["0.3", "0.6", "1.2"]


@pytest.mark.parametrize("with_valkey", [False, True], ids=["up", "up-and-valkey"])
def test_up_killed_next_up_continues(stack: Stack, with_valkey: bool):
    url = create_link(stack)
    send_hits(stack, url, 20)
    before = children(stack)
    assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
    if with_valkey:
        os.kill(before["valkey"], signal.SIGKILL)
    until(lambda: not stack.pids("pixel_server"))
    assert bool(stack.pids("valkey-server")) is not with_valkey

    stack.start()
    assert (children(stack)["valkey"] == before["valkey"]) is not with_valkey
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 21)
    assert stack.stop() == 0
    assert stack.pids("") == []


def test_up_right_after_kill_waits_for_old_children(stack: Stack):
    url = create_link(stack)
    send_hits(stack, url, 20)
    stack.stop(signal.SIGKILL)
    stack.start()
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 21)


def test_up_adopted_valkey_is_restarted(stack: Stack):
    url = create_link(stack)
    stack.stop(signal.SIGKILL)
    stack.start()
    adopted = children(stack)["valkey"]
    os.kill(adopted, signal.SIGKILL)
    until(lambda: children(stack)["valkey"] not in (0, adopted))
    until(lambda: stack.get(url) == (200, "recorded"))


def test_up_ctrl_c_while_valkey_hangs_ends(stack: Stack):
    url = create_link(stack)
    send_hits(stack, url, 1)
    stack.stop(signal.SIGKILL)
    until(lambda: not stack.pids("pixel_server"))
    pid = children(stack)["valkey"]
    os.kill(pid, signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(
            [PROGRAM, "up", "--port", str(stack.port), "--data", str(stack.data)], stderr=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert waiting.returncode == 0
    assert b"left running" in stderr
    stack.start()
    assert children(stack)["valkey"] == pid
    until(lambda: stack.totals("mail")["opens"] == 1)

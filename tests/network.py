"""Hosts with a network namespace each, linked by a router, so that each link can be cut.

The thread that makes a `Network` moves into the router's namespace: the hosts reach it by `ROUTER`, and it
reaches each host by the host's address. Threads and processes that it starts later are there too.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.stack import until

ROUTER = "10.77.0.1"
"""Address of this process for the hosts."""
CLONE_NEWNET = 0x40000000
"""Flag of a new network namespace, for unshare(2) and setns(2)."""


class Host(NamedTuple):
    """A host. enter: words before a command that runs it on this host."""

    address: str
    enter: tuple[str, ...] = ()


LOCAL = Host("127.0.0.1")
"""This machine."""


class Network:
    """Raises OSError if this process must not make network namespaces. `close` leaves and removes them."""

    def __init__(self, count: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._holders: list[subprocess.Popen[bytes]] = []
        self._former = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if self._libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "address", "add", f"{ROUTER}/32", "dev", "lo")
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            self.hosts = [self._add_host(number) for number in range(1, count + 1)]
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise OSError(str(error)) from error

    def cut(self, one: Host, other: Host) -> None:
        """Drops silently what two hosts send each other."""
        for sender, receiver in ((one, other), (other, one)):
            _run("ip", "rule", "add", "from", sender.address, "to", receiver.address, "blackhole")

    def heal(self, one: Host, other: Host) -> None:
        """Ends a cut."""
        for sender, receiver in ((one, other), (other, one)):
            _run("ip", "rule", "delete", "from", sender.address, "to", receiver.address, "blackhole")

    def close(self) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()
        self._libc.setns(self._former, CLONE_NEWNET)
        os.close(self._former)

    def _add_host(self, number: int) -> Host:
        router, address, link = f"10.77.{number}.1", f"10.77.{number}.2", f"host{number}"
        holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
        self._holders.append(holder)
        namespace = f"/proc/{holder.pid}/ns/net"
        own = os.readlink("/proc/thread-self/ns/net")
        until(lambda: os.readlink(namespace) != own)
        enter = ("nsenter", f"--net={namespace}", "--")
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _run("ip", "address", "add", f"{router}/24", "dev", link)
        _run("ip", "link", "set", link, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", router),
        ):
            _run(*enter, "ip", *words)
        return Host(address, enter)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)

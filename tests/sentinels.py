"""A real Valkey primary, its replica and three sentinels that watch them, on ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pixel_server.run.valkey import binary
from pixel_server.store_url import shown_address
from tests.stack import free_port, until

NAME = "main"
WEB, PEER, RULES = "web", "peer", "~* &* +@all"
"""Users of the server, and of the sentinels and the replica. Each has its name as the password."""
DOWN_AFTER_MS = 1000
"""ms without an answer after which a sentinel holds a server for dead."""


class Program:
    """A Valkey process that listens on a port. arguments: of the binary, after the port and the directory."""

    def __init__(self, home: Path, *arguments: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.home = home / str(self.port)
        self.home.mkdir()
        self._arguments = arguments
        self.address = ("127.0.0.1", self.port)
        self.start()

    def start(self) -> None:
        config = self.home / "valkey.conf"
        if not config.exists():  # a sentinel and a failover change it
            lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.home}", *self._arguments]
            config.write_text("\n".join(lines) + "\n")
        with (self.home / "log").open("ab") as log:
            is_sentinel = any(line.startswith("sentinel ") for line in self._arguments)
            options = ["--sentinel"] if is_sentinel else []
            self.process = subprocess.Popen([str(binary()), str(config), *options], stdout=log, stderr=log)
        until(self._answers)

    def client(self, timeout: float = 2.0) -> redis.Redis:
        user = WEB if f"user {WEB} on >{WEB} {RULES}" in self._arguments else None
        return redis.Redis(port=self.port, username=user, password=user, socket_timeout=timeout, protocol=2)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False


class Watched:
    """Two Valkeys, the first of which is the primary, and three sentinels that know each other."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="px-"))
        store = (
            *("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0", 'save ""'),
            *(f"user {name} on >{name} {RULES}" for name in (WEB, PEER)),
            "user default off",
            f"masteruser {PEER}",
            f"masterauth {PEER}",
        )
        first = Program(self.home, *store)
        self.stores = [first, Program(self.home, *store, f"replicaof 127.0.0.1 {first.port}")]
        ports = [free_port() for _ in range(3)]
        self.sentinels = [Program(self.home, *self._watch(port, ports), port=port) for port in ports]
        self.hurry_sentinels()
        until(self._is_complete)

    def _watch(self, port: int, ports: list[int]) -> list[str]:
        """Returns the configuration of a sentinel. It names the others, which saves the time to find them."""
        others = [
            f"sentinel known-sentinel {NAME} 127.0.0.1 {other} {other:040}"
            for other in ports
            if other != port
        ]
        return [
            f"sentinel myid {port:040}",
            f"sentinel monitor {NAME} 127.0.0.1 {self.stores[0].port} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 3000",
            f"sentinel auth-user {NAME} {PEER}",
            f"sentinel auth-pass {NAME} {PEER}",
            f"sentinel known-replica {NAME} 127.0.0.1 {self.stores[1].port}",
            *others,
        ]

    def hurry_sentinels(self) -> None:
        """Makes sentinels that were started turn an old primary into a replica after 2 s, not 8."""
        for number in range(len(self.sentinels)):
            self.ask(number, "DEBUG", "publish-period", "500", "info-period", "200")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{WEB}:{WEB}@{hosts}/{NAME}"

    @property
    def programs(self) -> list[Program]:
        return [*self.stores, *self.sentinels]

    @property
    def primary(self) -> Program:
        """Returns the Valkey that all sentinels name, as soon as they name the same one."""
        port = until(self._agreed_port)
        return next(store for store in self.stores if store.port == port)

    @property
    def replica(self) -> Program:
        """Returns the Valkey that is not the primary."""
        primary = self.primary
        return next(store for store in self.stores if store is not primary)

    def fail_over(self) -> None:
        """Makes the replica the primary, and returns when all sentinels name the new primary."""
        old = self.primary
        until(lambda: self._has_failed_over(old))
        self.wait_for_failover(old)

    def wait_for_failover(self, old: Program) -> None:
        """Returns when all sentinels name another primary than the old primary."""
        until(lambda: self.primary is not old)

    def wait_for_replica(self) -> None:
        """Returns when the replica has all that the primary has."""
        with self.replica.client() as client:
            until(lambda: client.info("replication").get("master_link_status") == "up")

    def cut_off(self) -> None:
        """Cuts the primary off from the sentinels and the replica. It answers others on."""
        with self.primary.client() as client:
            client.acl_deluser(PEER)

    def rejoin(self, program: Program) -> None:
        """Lets a primary that was cut off meet the sentinels again, which make it a replica."""
        with program.client() as client:
            client.execute_command("ACL", "SETUSER", PEER, "on", f">{PEER}", *RULES.split())
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # sentinels try again only after 15 s

    def ask(self, sentinel: int, *words: str) -> object:
        with self.sentinels[sentinel].client() as client:
            return client.execute_command("SENTINEL", *words)

    def _has_failed_over(self, old: Program) -> bool:
        """Returns whether the first sentinel names another primary. Asks it for a failover otherwise.

        On a busy machine a failover may time out.
        """
        with self.sentinels[0].client() as client:
            if int(client.sentinel_get_master_addr_by_name(NAME)[1]) != old.port:
                return True
        with contextlib.suppress(redis.ResponseError):  # a failover is under way
            self.ask(0, "FAILOVER", NAME)
        return False

    def _agreed_port(self) -> int:
        """Returns the port of the primary that all sentinels name, or 0 if they disagree."""
        ports = set()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                ports.add(int(client.sentinel_get_master_addr_by_name(NAME)[1]))
        return ports.pop() if len(ports) == 1 else 0

    def remove(self) -> None:
        for program in self.programs:
            program.process.kill()
            program.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def _is_complete(self) -> bool:
        """Returns whether each sentinel knows the two others and the replica."""
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state = client.execute_command("SENTINEL MASTER", NAME)
            if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                return False
        return True


UNKNOWN_NAME = b"*-1\r\n"


def names(port: int) -> bytes:
    """Returns a sentinel's reply that names a primary."""
    return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port)


class FakeSentinel(socketserver.ThreadingTCPServer):
    """Gives one reply to each request, or hangs if the reply is empty."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, reply: bytes) -> None:
        super().__init__(("127.0.0.1", 0), None)  # type: ignore[arg-type]
        self.reply = reply
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def finish_request(self, request: object, client_address: object) -> None:
        while request.recv(4096):  # type: ignore[attr-defined]
            request.sendall(self.reply)  # type: ignore[attr-defined]

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Fakes:
    """Starts fake sentinels."""

    def __init__(self) -> None:
        self.servers: list[FakeSentinel] = []

    def __call__(self, *replies: bytes) -> str:
        """Returns the URL of sentinels that give these replies."""
        self.servers += [FakeSentinel(reply) for reply in replies]
        hosts = ",".join(shown_address(server.server_address) for server in self.servers)
        return f"redis+sentinel://{hosts}/main"

    def reply(self, reply: bytes) -> None:
        """Makes each sentinel give this reply from now on, or hang if the reply is empty."""
        for server in self.servers:
            server.reply = reply


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    fakes = Fakes()
    yield fakes
    for server in fakes.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.remove()

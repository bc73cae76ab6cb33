"""Decides which node of a cluster is sent which command of a call, and what its reply means.

This module does no I/O. `cluster` and `async_cluster` send the commands, one client that blocks and one for
asyncio. A node can reply that it does not have a slot (MOVED), that a key has just gone to another node
(ASK), or that it cannot carry out the command now (TRYAGAIN, CLUSTERDOWN, LOADING). It has then changed
nothing, so the command is sent again, to the node that the reply names or after a pause, until the call's
deadline. All other replies are final. If a connection ends in between, nobody knows what was carried out: the
call fails, and nothing is sent twice.

A slot that moves key by key is on two nodes for a while. A command with one key follows ASK, and so does a
command whose keys have all moved. If only some of its keys have moved, both nodes reply TRYAGAIN. The key
`px:{s}:none`, which no node has, therefore holds up each script that declares it until the whole slot has
moved; see `script.script_call`.

Replies come in the order of the commands. Commands of one slot are carried out in their order too, unless the
slot moves meanwhile. Commands of different slots have no order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import redis
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

from pixel_server.store.protocols import Value
from pixel_server.store.slots import SlotMap, slot_of
from pixel_server.store_url import Address, shown_address

PAUSE_SECONDS = 0.02
"""Seconds until a command is sent again that a node could not carry out."""
MAX_MOVES = 5
"""Times that a call follows MOVED and ASK without a pause. Two nodes can name each other for a moment."""

_GLOBAL_SLOT = slot_of("{all}")
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})
_ANY_NODE = frozenset({"PING", "TIME"})
"""Commands without a key, which the node of `{all}` answers: its clock is the time of the store."""
_EACH_NODE = frozenset(
    {"ACL", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "DEBUG", "FLUSHALL"}
    | {"FLUSHDB", "HELLO", "INFO", "KEYS", "LATENCY", "RANDOMKEY", "ROLE", "SAVE", "SCAN", "SCRIPT", "SELECT"}
    | {"SHUTDOWN", "SLOWLOG", "WAIT", "WAITAOF"}
)
"""Commands that concern one node, see `nodes`."""
_CLIENT_OPTIONS = frozenset({"keys", "NEVER_DECODE", "EMPTY_RESPONSE"})
"""Options of a command that are not meant for the function that parses its reply."""

Command = tuple[tuple[Value, ...], Mapping[str, Any]]
"""The words of a command, and the options by which redis-py parses its reply."""


class Request(NamedTuple):
    """Commands that one node carries out together: a single command, or all of a transaction."""

    slot: int
    commands: tuple[Command, ...]


class Part(NamedTuple):
    """Requests for one node. numbers: the positions of its requests in the call."""

    address: Address
    numbers: list[int]
    commands: list[Command]


def request(command: Command) -> Request:
    """Returns the request of a single command."""
    return Request(slot_of_command(command[0]), (command,))


def transaction(commands: Sequence[Command]) -> Request:
    """Returns the request of a transaction. Raises redis.DataError if its keys are in several slots."""
    slots = {slot_of_command(words) for words, _ in commands}
    if len(slots) != 1:
        raise redis.DataError("the keys of a transaction must have one tag")
    return Request(slots.pop(), ((("MULTI",), {}), *commands, (("EXEC",), {})))


class QueuedCommands:
    """The commands of a pipeline, until it is executed. is_transaction: whether one node carries out all."""

    def __init__(self, is_transaction: bool) -> None:
        self._is_transaction = is_transaction
        self._commands: list[Command] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __bool__(self) -> bool:
        return True

    def execute_command(self, *words: Any, **options: Any) -> Self:
        """Queues a command. redis-py's methods, such as `hget`, call this method."""
        self._commands.append((words, options))
        return self

    def take(self) -> list[Command]:
        """Returns the queued commands, and empties the queue."""
        commands, self._commands = self._commands, []
        return commands

    def requests(self, commands: Sequence[Command]) -> list[Request]:
        """Returns the requests for these commands. Raises redis.DataError as `transaction` does."""
        return [transaction(commands)] if self._is_transaction else [request(each) for each in commands]

    def parse(
        self, replies: list[Any], commands: Sequence[Command], client: Any, raise_on_error: bool
    ) -> list[Any]:
        """Returns the parsed replies to `requests`; see `parse_all`. client: the client of the cluster."""
        if self._is_transaction:
            (replies,) = replies
            if isinstance(replies, Exception):
                raise replies
        return parse_all(replies, commands, client.callbacks, raise_on_error)


def slot_of_command(words: Sequence[Value]) -> int:
    """Returns the slot of a command's first key. Raises redis.DataError if the command concerns one node."""
    name = str(words[0])
    has_key = name not in _ANY_NODE and name.partition(" ")[0] not in _EACH_NODE
    position = 1
    if name in _SCRIPTS:
        has_key, position = int(words[2]) > 0, 3
    if has_key:
        return slot_of(words[position])  # type: ignore[arg-type]  # a key is text or bytes
    if name in _ANY_NODE:
        return _GLOBAL_SLOT
    raise redis.DataError(f"{name} names no key: a cluster's nodes must be asked one by one")


class Call:
    """The requests of one call, until each has its reply."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.replies: list[Any] = [None] * len(requests)
        self._requests = requests
        self._open = list(range(len(requests)))
        self._asked: dict[int, Address] = {}
        self._rounds = 0
        self.refusal = ""
        """Why the last request that must wait was refused: `"node 10.0.0.1:7000: Loading ..."`."""

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    @property
    def must_pause(self) -> bool:
        """Returns whether to wait PAUSE_SECONDS before the next round."""
        return bool(self._open) and (bool(self.refusal) or self._rounds > MAX_MOVES)

    def parts(self, slot_map: SlotMap) -> list[Part]:
        """Returns what to send to each node next."""
        parts: dict[Address, Part] = {}
        unserved, self._open, self.refusal = self._open, [], ""
        self._rounds += 1
        for number in unserved:
            slot, commands = self._requests[number]
            address = self._asked.get(number) or slot_map.primary(slot)
            if address is None:
                self._postpone(number, f"no node of the cluster has slot {slot}")
                continue
            part = parts.get(address)
            if part is None:
                part = parts[address] = Part(address, [], [])
            part.numbers.append(number)
            if number in self._asked:
                part.commands.append((("ASKING",), {}))
            part.commands.extend(commands)
        return list(parts.values())

    def take(self, part: Part, replies: Sequence[Any], slot_map: SlotMap) -> bool:
        """Takes the replies of a node, errors as values. Notes MOVED in the map.

        Returns whether the map is out of date.
        """
        is_outdated = False
        position = 0
        for number in part.numbers:
            slot, commands = self._requests[number]
            if len(commands) == 1 and not self._asked and not isinstance(replies[position], Exception):
                self.replies[number] = replies[position]  # the common case
                position += 1
                continue
            position += number in self._asked
            own = replies[position : position + len(commands)]
            position += len(commands)
            self._asked.pop(number, None)
            refusal = _refusal(own)
            if refusal is None:
                errors = (reply for reply in own if isinstance(reply, Exception))
                self.replies[number] = next(errors, own[-1])
            elif isinstance(refusal, MovedError):
                slot_map.note_moved(slot, _named_by(refusal, part.address))
                self._open.append(number)
                is_outdated = True
            elif isinstance(refusal, AskError) and len(commands) == 1:
                self._asked[number] = _named_by(refusal, part.address)
                self._open.append(number)
            else:
                self._postpone(number, f"node {shown_address(part.address)}: {refusal}")
                is_outdated = is_outdated or isinstance(refusal, ClusterDownError)
        return is_outdated

    def fail(self, part: Part, error: redis.RedisError) -> None:
        """Makes an error the reply to the requests of a part."""
        for number in part.numbers:
            self.replies[number] = error

    def give_up(self) -> None:
        """Makes the last refusal the reply to all open requests, because no time is left."""
        error = redis.ConnectionError(self.refusal or "the nodes of the cluster disagree on a slot")
        for number in self._open:
            self.replies[number] = error
        self._open = []

    def reopen(self, part: Part) -> None:
        """Opens the requests of a part again, none of which was sent."""
        for number in part.numbers:
            self._asked.pop(number, None)
        self._open.extend(part.numbers)

    def _postpone(self, number: int, reason: str) -> None:
        self._open.append(number)
        self.refusal = reason


def _refusal(replies: Sequence[Any]) -> Exception | None:
    """Returns the first reply by which a node refused a command and changed nothing."""
    for reply in replies:
        if isinstance(reply, AskError | TryAgainError | ClusterDownError | BusyLoadingError):
            return reply
    return None


def _named_by(refusal: AskError, asked: Address) -> Address:
    """Returns the address in MOVED or ASK. A node that does not know its own host leaves the host out."""
    return refusal.host or asked[0], refusal.port


def parse(reply: Any, command: Command, callbacks: Mapping[str, Any]) -> Any:
    """Returns a reply as redis-py's plain client would. Raises the reply if it is an error.

    callbacks: redis-py's functions that parse replies, by command.
    """
    if isinstance(reply, Exception):
        raise reply
    words, options = command
    callback = callbacks.get(str(words[0]))
    if callback is None:
        return reply
    if options:
        options = {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS}
    return callback(reply, **options)


def parse_all(
    replies: Sequence[Any], commands: Sequence[Command], callbacks: Mapping[str, Any], raise_on_error: bool
) -> list[Any]:
    """Returns the replies of a pipeline. If `raise_on_error` is False, an error is a value in the list."""
    parsed = []
    for number, (reply, command) in enumerate(zip(replies, commands, strict=True), 1):
        if not isinstance(reply, Exception):
            parsed.append(parse(reply, command, callbacks))
        elif not raise_on_error:
            parsed.append(reply)
        else:
            if isinstance(reply, ResponseError):
                place = f"command {number} of the pipeline, {command[0][0]!s}"
                reply.args = (f"{place}: {reply}", *reply.args[1:])
            raise reply
    return parsed

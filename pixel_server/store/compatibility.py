"""Decides whether this server may use a store, and makes a new store this server's own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import redis

from pixel_server import __version__
from pixel_server.logs import Log, describe
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import keys, migration, store_mark
from pixel_server.store.client import (
    StoreAwayError,
    StoreError,
    StoreNewerError,
    StoreRefusedError,
    connect,
)
from pixel_server.store.nodes import ask_each, node_name
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.store.store_version import (
    FORMAT,
    VERSION_FIELD,
    describe_newer_format,
    is_newer_format,
    newer_version,
)
from pixel_server.store_url import without_password

log = Log(__name__)

MIN_VERSION = (7, 0)
"""Oldest Redis that has all needed commands."""
_NO_WRITES_ERRORS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
)
"""Transient write errors: out of memory, read-only replica, cluster not ready."""
_NO_WRITES_WORDS = ("MISCONF", "NOREPLICAS")
"""First words of transient write errors without a class: disk full, too few replicas."""
UNFINISHED_FIELD = "copying"
"""Field of the record of a store to which `pixel-server copy` has not finished a copy: the source's mark."""
_CONFIG = ("appendonly", "appendfsync", "maxmemory-policy")
"""Redis parameters that `Durability` holds, in the order of its fields."""
_EVICTION_RANKS = {"noeviction": 0, "unknown": 1}
"""Ranks of eviction policies, worst last. All others have the rank 2."""


@dataclass(frozen=True, slots=True)
class Durability:
    """The settings by which Redis keeps its data, each "unknown" if CONFIG is forbidden.

    aof: "yes" or "no". fsync: "always", "everysec" or "no". eviction: the `maxmemory-policy`.
    """

    aof: str
    fsync: str
    eviction: str

    @property
    def text(self) -> str:
        """Describes for the operator what a crash of Redis may cost."""
        if self.aof == "unknown":
            return "unknown: Redis does not let this server read CONFIG"
        if self.aof != "yes":
            return "none: no append-only file, a crash of Redis loses all hits since its last snapshot"
        if self.fsync == "always":
            return "every hit: synced to disk before it is answered"
        if self.fsync == "everysec":
            return "one second: a crash of the machine of Redis may lose the last second"
        return "left to the operating system: a crash of the machine of Redis may lose half a minute"


async def check_store(
    store: AsyncRedis,
    url: str,
    shards: int,
    secrets: Secrets | None,
    mark: StoreMark | None = None,
    *,
    is_server: bool = False,
) -> None:
    """Makes a new store this server's own, and refuses a store that does not fit.

    Does not write to a store that is this server's already, so that the check works on a full or read-only
    store. Skips the ownership check if `secrets` is None. mark: the mark of the store that this process
    knows; None to skip the comparison. is_server: whether this process goes on to use the store as a web
    process or worker. If so, notes this version in the store, and migrates a store of an earlier format.

    Raises StoreAwayError if the store does not answer or accepts no writes now, StoreEmptiedError if the
    store has another mark, and StoreNewerError if it has a newer format. Raises StoreError if the store is
    too old, evicts keys, has another number of shards, or belongs to other secrets, and if it must be
    migrated first.
    """
    where = f"Redis at {without_password(url)}"
    try:
        await _refuse_unfit(store)
        if secrets is not None:
            record = await _claim(store, shards, secrets, mark)
            await _bring_up_to_date(store, shards, record, is_server)
    except StoreRefusedError as error:
        raise type(error)(f"{where}: {error}") from None
    except StoreError as error:
        raise type(error)(f"{where} {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreAwayError(f"{where} holds values that cannot be read ({describe(error)})") from None
    except redis.AuthenticationError as error:
        raise StoreError(f"{where} refuses the password: {describe(error)}") from None
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError, OSError) as error:
        raise StoreAwayError(f"{where} does not answer: {describe(error)}") from None
    except redis.RedisError as error:
        if isinstance(error, _NO_WRITES_ERRORS) or str(error).startswith(_NO_WRITES_WORDS):
            raise StoreAwayError(f"{where} takes no writes: {describe(error)}") from None
        raise StoreError(f"{where} cannot be used: {describe(error)}") from None


def secrets_for(settings: Settings, url: str) -> Secrets:
    """Returns the secrets of a server that starts. Makes new secrets in its data directory if no server
    owns the store.

    Asks the store only if the data directory has no secrets: a store that hangs must not keep a web process
    from starting. Raises SecretsError if the secrets cannot be read, or if there are none and the store
    belongs to a server.
    """
    places = settings.data, settings.signing_secrets, settings.recipient_secret
    with contextlib.suppress(SecretsError):
        return Secrets.load(*places)
    try:
        with connect(url) as client:
            is_owned = client.hexists(keys.STORE, "recipient")
    except (redis.RedisError, OSError):
        is_owned = False  # `check_store` says what is wrong with the store
    return Secrets.load(*places) if is_owned else Secrets.load_or_create(*places)


async def durability(store: AsyncRedis) -> Durability:
    """Returns how Redis keeps its data. In a cluster, the worst setting of any node that answers counts.

    Managed services refuse CONFIG, and some of them INFO.
    """
    settings = [each for _, each in await ask_each(store, _durability_of)]
    return Durability(
        min((each.aof for each in settings), key=("no", "unknown", "yes").index),
        min((each.fsync for each in settings), key=("no", "unknown", "everysec", "always").index),
        max((each.eviction for each in settings), key=lambda policy: _EVICTION_RANKS.get(policy, 2)),
    )


async def _durability_of(node: AsyncRedis) -> Durability:
    try:
        reply = await node.config_get(*_CONFIG)
    except redis.ResponseError:
        try:
            eviction = (await node.info("memory")).get("maxmemory_policy", "unknown")
        except redis.ResponseError:
            eviction = "unknown"
        return Durability("unknown", "unknown", eviction)
    config = {_text(name): _text(value) for name, value in reply.items()}
    return Durability(*(config.get(name, "unknown") for name in _CONFIG))


async def _refuse_unfit(store: AsyncRedis) -> None:
    """Raises StoreError if Redis is too old, is a node of a cluster, or evicts keys.

    In a cluster, each node that answers must be fit.
    """

    async def refuse(node: AsyncRedis) -> None:
        is_cluster = node is not store
        try:
            await _refuse_unfit_node(node, is_cluster)
        except StoreError as error:
            raise StoreError(
                f"has the node {node_name(node)}, which {error}" if is_cluster else error
            ) from None

    await ask_each(store, refuse)


async def _refuse_unfit_node(node: AsyncRedis, is_cluster: bool) -> None:
    try:
        hello = await node.execute_command("HELLO")  # managed services refuse INFO
    except redis.ResponseError as error:
        raise StoreError(
            f"does not tell its version ({describe(error)}); 7.0 or newer is needed (or Valkey)"
        ) from None
    server = dict(zip(hello[::2], hello[1::2], strict=True))
    version = server[b"version"].decode()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        raise StoreError(f"is version {version}; 7.0 or newer is needed (or Valkey)")
    if server[b"mode"] == b"cluster" and not is_cluster:
        raise StoreError("is a node of a cluster: its address must begin with redis+cluster://")
    policy = (await _durability_of(node)).eviction
    if policy not in ("noeviction", "unknown"):
        raise StoreError(f"evicts keys when full (maxmemory-policy {policy}); set it to noeviction")


async def _claim(store: AsyncRedis, shards: int, secrets: Secrets, mark: StoreMark | None) -> dict[str, str]:
    """Makes a new store this server's own. Returns the fields of its record.

    Raises StoreError if the store belongs to another server.
    """
    recipient, signers = secrets.fingerprints()
    stored = await _read_fields(store)
    if mark is not None:
        mark.compare([stored.get(name, "").encode() for name in store_mark.FIELDS])
    if UNFINISHED_FIELD in stored:
        raise StoreError("holds an unfinished copy: run `pixel-server copy` again, or empty it")
    fields = {"format": str(FORMAT), "shards": str(shards), "recipient": recipient}
    if not fields.keys() <= stored.keys():
        for field, value in fields.items():
            await store.hsetnx(keys.STORE, field, value)
        stored = await _read_fields(store)
    if is_newer_format(stored["format"]):
        raise StoreNewerError(describe_newer_format(stored["format"], stored.get(VERSION_FIELD, "")))
    if stored["shards"] != str(shards):
        count = stored["shards"]
        raise StoreError(f"holds {count} shards, not {shards}: set PIXEL_SHARDS={count}")
    if stored["recipient"] != recipient:
        raise StoreError(
            "belongs to another recipient secret: restore secrets.json, or PIXEL_RECIPIENT_SECRET"
        )
    known_signers = {name.decode() for name in await store.smembers(keys.SIGNERS)}
    if known_signers and not known_signers & set(signers):
        raise StoreError(
            "knows none of this server's signing keys: add an old key to PIXEL_SECRET, after the new key"
        )
    if not known_signers.issuperset(signers):
        await store.sadd(keys.SIGNERS, *signers)
    if mark is not None:
        await _learn_mark(store, shards, stored, mark)
    return stored


async def _bring_up_to_date(store: AsyncRedis, shards: int, record: dict[str, str], is_server: bool) -> None:
    """Notes this version in the store, and migrates the store to FORMAT. record: the fields of `keys.STORE`.

    If `is_server` is false, only raises StoreError if the store must be migrated.
    """
    stored = record.get(VERSION_FIELD, "")
    if is_server and (newer := newer_version(stored)):
        log.warning(
            "version-older",
            "version %(newer)s has used this store, and this is %(version)s: see docs/upgrading.md",
            newer=newer,
            version=__version__,
        )
    elif is_server and stored != __version__:
        with contextlib.suppress(redis.ResponseError):  # the store may be full or read-only
            await store.hset(keys.STORE, VERSION_FIELD, __version__)
    if not migration.is_needed(record):
        return
    if not is_server:
        raise StoreError(
            f"has format {record['format']}, and this version needs format {FORMAT}: first start the web "
            "processes or workers of this version"
        )
    await migration.migrate(store, shards, record)


async def _learn_mark(store: AsyncRedis, shards: int, stored: dict[str, str], mark: StoreMark) -> None:
    """Copies the store's mark to `mark`. Gives the store a mark if the store has no mark."""
    stored_mark = stored.get("mark", "")
    is_marked = bool(stored_mark) and "marked" in stored
    try:
        mark.learn(await store_mark.ensure_mark(store, shards, stored_mark, is_marked))
    except redis.ResponseError as error:  # an old store that is full or read-only is marked later
        log.warning(
            "store-not-marked",
            "the store cannot be marked now; this server would not notice that the store was emptied: "
            "%(error)s",
            error=error,
        )
    mark.is_checked = True


async def _read_fields(store: AsyncRedis) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in (await store.hgetall(keys.STORE)).items()}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

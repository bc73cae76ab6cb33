"""Endpoints in the store: created, read, changed, and deleted; and their states.

`keys.WEBHOOKS` holds each endpoint under its id. `keys.hook_state` holds what happened to it:

    sent            number of events delivered
    failed          number of tries that failed
    dropped         number of events that were dropped because the queue was full
    failures        number of tries that failed since the last success
    failing_since   time (ms) of the first of them
    paused_until    time (ms) before which nothing is sent, because the last try failed
    success         time (ms) of the last success
    failure         time (ms) of the last failure
    error           why it failed
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys, replication
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.store.readers import Reader
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.times import DAY, iso_ms
from pixel_server.webhooks import endpoint as endpoints
from pixel_server.webhooks.endpoint import (
    MAX_SECRETS,
    NOTHING_WANTED,
    Endpoint,
    EndpointError,
    Secret,
    Wanted,
    union,
)

log = Log(__name__)

MAX_ENDPOINTS = 20
"""Largest number of endpoints. Each event may be queued once for each of them."""
OVERLAP_SECONDS = DAY
"""Seconds for which a replaced secret still signs, unless the caller says otherwise."""
MAX_OVERLAP_SECONDS = 30 * DAY
CHANGEABLE = ("url", "name", "events", "campaigns", "is_enabled")
"""Fields that `change` can set."""


class UnknownEndpoint(LookupError):
    """No endpoint has this id."""


class TooManyEndpoints(ValueError):
    """There are MAX_ENDPOINTS endpoints already."""

    def __init__(self) -> None:
        super().__init__(f"there are {MAX_ENDPOINTS} webhooks already: delete one first")


class State(NamedTuple):
    """Counts and times of the deliveries to an endpoint. See the top of this file.

    Times are ms since 1970, 0 for never.
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    failures: int = 0
    failing_since: int = 0
    paused_until: int = 0
    success: int = 0
    failure: int = 0
    error: str = ""


_CREATE = """
-- KEYS: webhooks. ARGV: largest number of endpoints, id, record.
-- Returns 1, or 0 if there are too many endpoints.
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
return redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
"""

_CHANGE = (
    EVEN_IF_FULL
    + """
-- KEYS: webhooks. ARGV: id, record as read, new record. Returns 1, or 0 if the record has changed since.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
)

_DELETE = (
    EVEN_IF_FULL
    + """
-- KEYS: webhooks, the endpoint's own keys. ARGV: id. Returns whether there was such an endpoint.
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return removed
"""
)


def own_keys(endpoint_id: str) -> list[str]:
    """Returns the keys of an endpoint's queue, log and state."""
    kinds = (
        *(keys.hook_due, keys.hook_units, keys.hook_events),
        *(keys.hook_aside, keys.hook_log, keys.hook_state),
    )
    return [kind(endpoint_id) for kind in kinds]


async def create(
    store: AsyncRedis,
    settings: Settings,
    *,
    url: str,
    events: Iterable[str],
    scopes: Iterable[str],
    name: str = "",
    campaigns: Iterable[str] = (),
    events_per_request: int = 1,
    secret: str | None = None,
    who: str = audit_log.COMMAND,
) -> tuple[Endpoint, str]:
    """Creates an endpoint. Returns it and its secret, which is shown only now.

    scopes: the caller's scopes; without `people` the endpoint can want no events on recipients. secret: the
    sender's own `whsec_...`, or None for a random secret. who: name for the audit log. Raises EndpointError,
    TooManyEndpoints, or NotReplicatedError if no replica has confirmed the endpoint, which then is not made.
    """
    text = endpoints.new_secret() if secret is None else secret
    made = endpoints.check(
        Endpoint(
            id=endpoints.new_id(),
            url=url,
            name=name,
            events=tuple(events),
            campaigns=tuple(campaigns),
            events_per_request=events_per_request,
            secrets=(Secret(text),),
            scopes=tuple(scopes),
            created=int(time.time()),
            made_by=who,
        ),
        bool(settings.webhook_private),
    )
    await audit_log.note(store, who, "webhook.made", webhook=made.id, events=",".join(made.events))
    if not await store.eval(*_create_call(made)):
        raise TooManyEndpoints
    try:
        await replication.confirm(store)
    except replication.NotReplicatedError:
        await store.eval(*_delete_call(made.id))  # the caller is not shown the secret
        raise
    return made, text


def _create_call(made: Endpoint) -> ScriptCall:
    arguments = (MAX_ENDPOINTS, made.id, endpoints.encode(made))
    return script_call(_CREATE, keys=(keys.WEBHOOKS,), arguments=arguments)


async def get(store: AsyncRedis, endpoint_id: str) -> Endpoint:
    """Returns the endpoint with an id. Raises UnknownEndpoint, or ValueError if it cannot be read."""
    record = await store.hget(keys.WEBHOOKS, endpoint_id)
    if record is None:
        raise UnknownEndpoint(endpoint_id)
    return endpoints.decode(record)


async def list_all(store: AsyncRedis) -> list[Endpoint]:
    """Returns all endpoints that this version can read, oldest first."""
    return parse_all(await store.hgetall(keys.WEBHOOKS))


async def change(
    store: AsyncRedis, settings: Settings, endpoint_id: str, fields: Mapping[str, Any], who: str
) -> Endpoint:
    """Sets fields of an endpoint, some of CHANGEABLE. Returns the changed endpoint.

    To enable an endpoint also forgets why it was disabled, and its pause. who: name for the audit log. Raises
    UnknownEndpoint or EndpointError.
    """
    if unknown := sorted(fields.keys() - set(CHANGEABLE)):
        raise EndpointError(unknown[0], f"cannot be changed; only {', '.join(CHANGEABLE)} can")
    new = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    if new.get("is_enabled"):
        new["disabled_because"] = ""
    endpoints.check(
        msgspec.structs.replace(await get(store, endpoint_id), **new), bool(settings.webhook_private)
    )
    await audit_log.note(store, who, "webhook.changed", webhook=endpoint_id, fields=",".join(sorted(fields)))
    changed = await _amend(store, endpoint_id, lambda before: msgspec.structs.replace(before, **new))
    if new.get("is_enabled"):
        await store.hdel(keys.hook_state(endpoint_id), "paused_until")
    await replication.confirm(store)
    return changed


async def rotate_secret(
    store: AsyncRedis,
    endpoint_id: str,
    who: str,
    *,
    secret: str | None = None,
    overlap_seconds: int = OVERLAP_SECONDS,
) -> str:
    """Gives an endpoint a new secret, and returns it. The old secrets sign too for `overlap_seconds`.

    secret: the sender's own `whsec_...`, or None for a random secret. At most MAX_SECRETS are kept. Raises
    UnknownEndpoint or EndpointError.
    """
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        raise EndpointError("overlap_seconds", f"must be from 0 to {MAX_OVERLAP_SECONDS}")
    text = endpoints.new_secret() if secret is None else endpoints.check_secret(secret)
    await get(store, endpoint_id)
    await audit_log.note(store, who, "webhook.secret", webhook=endpoint_id)
    now = int(time.time())

    def edit(before: Endpoint) -> Endpoint:
        limit = now + overlap_seconds
        old = [
            Secret(known.text, limit if known.until is None else min(known.until, limit))
            for known in before.secrets
            if known.until is None or known.until > now
        ]
        kept = [known for known in old if overlap_seconds and known.text != text]
        return msgspec.structs.replace(before, secrets=(Secret(text), *kept[: MAX_SECRETS - 1]))

    await _amend(store, endpoint_id, edit)
    await replication.confirm(store)
    return text


async def disable(store: AsyncRedis, endpoint_id: str, reason: str) -> None:
    """Disables an endpoint because of its own answer. Does nothing if the endpoint is gone.

    reason: for the operator, after "it": `"answered 410 Gone"`.
    """
    try:
        await _amend(
            store,
            endpoint_id,
            lambda before: msgspec.structs.replace(before, is_enabled=False, disabled_because=reason),
        )
    except UnknownEndpoint:
        return
    log.warning(
        "webhook-disabled",
        "the webhook %(webhook)s is disabled, because it %(reason)s; enable it when it can take events again",
        webhook=endpoint_id,
        reason=reason,
    )


async def delete(store: AsyncRedis, endpoint_id: str, who: str = audit_log.COMMAND) -> None:
    """Deletes an endpoint with its queue and its log. who: name for the audit log. Raises UnknownEndpoint."""
    if not await store.hexists(keys.WEBHOOKS, endpoint_id):
        raise UnknownEndpoint(endpoint_id)
    await audit_log.note(store, who, "webhook.deleted", webhook=endpoint_id)
    if not await store.eval(*_delete_call(endpoint_id)):
        raise UnknownEndpoint(endpoint_id)
    await replication.confirm(store)


def _delete_call(endpoint_id: str) -> ScriptCall:
    return script_call(_DELETE, keys=(keys.WEBHOOKS, *own_keys(endpoint_id)), arguments=(endpoint_id,))


async def _amend(store: AsyncRedis, endpoint_id: str, edit: Callable[[Endpoint], Endpoint]) -> Endpoint:
    """Applies `edit` to the endpoint as it is now, and returns the result. Raises UnknownEndpoint."""
    while True:
        record = await store.hget(keys.WEBHOOKS, endpoint_id)
        if record is None:
            raise UnknownEndpoint(endpoint_id)
        after = edit(endpoints.decode(record))
        arguments = (endpoint_id, record, endpoints.encode(after))
        if await store.eval(*script_call(_CHANGE, keys=(keys.WEBHOOKS,), arguments=arguments)):
            return after


def parse_all(records: Mapping[bytes, bytes]) -> list[Endpoint]:
    """Returns the endpoints in the content of `keys.WEBHOOKS` that this version can read, oldest first."""
    found = _parse(tuple(sorted(records.items())))
    return sorted(found, key=lambda endpoint: (endpoint.created, endpoint.id))


@lru_cache(4)
def _parse(records: tuple[tuple[bytes, bytes], ...]) -> tuple[Endpoint, ...]:
    """Returns the endpoints. Cached: each pass of the roll-up reads them, and they seldom change."""
    found = []
    for endpoint_id, record in records:
        try:
            found.append(endpoints.decode(record))
        except ValueError as error:
            log.error(
                "webhook-unreadable",
                "the webhook %(webhook)s gets no events, because its record cannot be read (%(error)s): "
                "update this server",
                webhook=endpoint_id.decode(errors="replace"),
                error=error,
            )
    return tuple(found)


@lru_cache(4)
def _union(records: tuple[tuple[bytes, bytes], ...]) -> Wanted:
    return union(_parse(records))


def read_wanted(pipe: Pipeline) -> Reader[Wanted]:
    """Returns what all endpoints want together."""
    pipe.hgetall(keys.WEBHOOKS)
    (records,) = yield
    return _union(tuple(sorted(records.items()))) if records else NOTHING_WANTED


async def wanted(store: AsyncRedis) -> Wanted:
    """Returns what all endpoints want together."""
    records = await store.hgetall(keys.WEBHOOKS)
    return _union(tuple(sorted(records.items()))) if records else NOTHING_WANTED


async def read_state(store: AsyncRedis, endpoint_id: str) -> State:
    """Returns what happened to an endpoint."""
    return parse_state(await store.hgetall(keys.hook_state(endpoint_id)))


def parse_state(fields: Mapping[bytes, bytes]) -> State:
    """Returns the state in the content of `keys.hook_state`. Leaves out what it cannot read."""
    values: dict[str, Any] = {}
    for name in State._fields:
        value = fields.get(name.encode(), b"").decode(errors="replace")
        if name == "error":
            values[name] = value
        elif value.isdigit():
            values[name] = int(value)
    return State(**values)


def state_json(state: State) -> dict[str, Any]:
    """Returns the state as the API shows it: times in ISO 8601, null for never."""
    shown: dict[str, Any] = state._asdict()
    for name in ("failing_since", "paused_until", "success", "failure"):
        shown[name] = iso_ms(shown[name]) if shown[name] else None
    renamed = {"success": "last_success", "failure": "last_failure", "error": "last_error"}
    return {renamed.get(name, name): value for name, value in shown.items()}

"""The hosts that share this store: their last beats, and the settings that differ between them.

Each process writes a beat into `keys.HOSTS`, again and again. A process that has a spool writes under the id
of the spool's directory, and every other process under its own name. If a host with a spool goes away, its
last beat stays in the store, so that the other hosts report the spool. A beat is JSON:

    {"format": 1, "at": 1790000000.0, "name": "web-3", "kind": "web", "is_stopped": false, "has_left": false,
     "spool": {"hits": 12, "since": 1789999990000}, "settings": {"PIXEL_SHARDS": "0f3c..."}}

at: Redis's time, s. has_left: whether the process has stopped using the store, because the store has another
mark. spool: null if the process has no spool; hits: null if the spool cannot be read; since: time (ms) of the
oldest hit, or null. settings: a keyed hash of each setting that must agree, by name.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple

from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, even_if_full_call, script_call
from pixel_server.times import DAY

FORMAT = 1
BEAT_SECONDS = 5.0
"""Seconds between two beats."""
AWAY_SECONDS = 20.0
"""Seconds after its last beat at which a host counts as away."""
FORGET_SECONDS = 60.0
"""Seconds for which the last beat of a process without a spool is kept."""
FORGET_SPOOL_SECONDS = 60 * DAY
"""Seconds for which the last beat of a host with a spool is kept."""

Kind = Literal["web", "worker"]

_MAY_DIFFER = frozenset(
    {
        *("redis_url", "queue_url", "data", "trusted_proxies", "trust_unix", "client_ip_header"),
        *("pending_bytes", "spool_bytes", "memory_reserve", "rewrite_minutes", "hang_seconds"),
        "networks_refresh",
        *("log_form", "log_level"),
        *("signing_secrets", "recipient_secret"),
        *(setting.name for setting in fields(Settings) if setting.name.startswith("relay_")),
    }
)
"""Settings that may differ between hosts. Of secrets the keys are compared, not where they come from."""
_OF_WORKERS = frozenset(
    {
        *("max_mode", "own_networks", "soon_seconds", "delivery_seconds", "rules_file", "shards"),
        *("keep_buckets", "keep_days", "keep_recipients", "keep_names"),
        *("max_dead_letters", "keep_dead_letters"),
        *("webhook_private", "webhook_queue", "keep_webhooks"),
    }
)
"""Settings that workers use. The others are compared between web processes only."""

_BEAT = (
    EVEN_IF_FULL
    + """
-- KEYS: hosts. ARGV: id; beat. Stores the beat, and returns all beats: id, beat, id, beat...
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""
)


class Host(NamedTuple):
    """The last beat of a host or process.

    id: the field in `keys.HOSTS`. at: Redis's time, s. is_stopped: whether the host ended while its spool
    held hits. has_left: whether it has stopped using the store. spool_hits: hits in its spool, None if it has
    no spool, or the spool could not be read. spool_since: time (ms) of the oldest hit. settings: keyed hashes
    of settings, by name.
    """

    id: str
    at: float
    name: str
    kind: str
    is_stopped: bool
    has_left: bool
    has_spool: bool
    spool_hits: int | None
    spool_since: int | None
    settings: dict[str, str]

    def is_away(self, now: float) -> bool:
        """Returns whether the host has stopped, or has not been seen for AWAY_SECONDS. now: s."""
        return self.is_stopped or now - self.at > AWAY_SECONDS

    def is_forgotten(self, now: float) -> bool:
        """Returns whether the beat is no longer kept. now: s."""
        return now - self.at > (FORGET_SPOOL_SECONDS if self.has_spool else FORGET_SECONDS)


def fingerprints(settings: Settings, secrets: Secrets, kind: Kind) -> dict[str, str]:
    """Returns a keyed hash of each setting that must agree on all hosts, by name. Raises OSError.

    Of PIXEL_RULES the content of the file is hashed.
    """
    values: dict[str, str | bytes] = {"PIXEL_SECRET": " ".join(secrets.fingerprints()[1])}
    for setting in fields(settings):
        if setting.name in _MAY_DIFFER or (kind == "worker" and setting.name not in _OF_WORKERS):
            continue
        value = getattr(settings, setting.name)
        is_file = setting.name == "rules_file" and value is not None
        values[setting.metadata["env"]] = value.read_bytes() if is_file else repr(value)
    return {
        name: secrets.setting_fingerprint(value.encode() if isinstance(value, str) else value)
        for name, value in values.items()
    }


def encode_beat(
    *,
    at: float,
    name: str,
    kind: Kind,
    settings: Mapping[str, str],
    spool: tuple[int | None, int | None] | None = None,
    is_stopped: bool = False,
    has_left: bool = False,
) -> str:
    """Returns a beat. spool: (hits, time of the oldest hit in ms), None if the process has no spool."""
    beat: dict[str, Any] = {
        "format": FORMAT,
        "at": round(at, 3),
        "name": name,
        "kind": kind,
        "is_stopped": is_stopped,
        "has_left": has_left,
        "spool": None if spool is None else {"hits": spool[0], "since": spool[1]},
        "settings": dict(settings),
    }
    return json.dumps(beat, separators=(",", ":"))


def beat_call(*, host: str, beat: str) -> ScriptCall:
    """Returns the call that stores a beat, also in a full Redis. `parse_reply` reads its reply."""
    return script_call(_BEAT, keys=(keys.HOSTS,), arguments=(host, beat))


def forget_call(*ids: str) -> ScriptCall:
    """Returns the call that removes the beats of hosts. Its reply is the number of removed beats."""
    return even_if_full_call("HDEL", keys.HOSTS, *ids)


def parse_reply(reply: list[bytes]) -> list[Host]:
    """Returns the hosts of a reply to `beat_call`, except beats of another format."""
    return parse(dict(zip(reply[::2], reply[1::2], strict=True)))


def parse(beats: Mapping[bytes, bytes]) -> list[Host]:
    """Returns the hosts in the content of `keys.HOSTS`, by name, except beats of another format."""
    found = (_parse_beat(field.decode("utf-8", "replace"), beat) for field, beat in beats.items())
    return sorted((host for host in found if host is not None), key=lambda host: (host.name, host.id))


def _parse_beat(host: str, beat: bytes) -> Host | None:
    try:
        content = json.loads(beat)
        if content["format"] != FORMAT:
            return None
        spool = content["spool"]
        return Host(
            id=host,
            at=float(content["at"]),
            name=str(content["name"]),
            kind=str(content["kind"]),
            is_stopped=bool(content["is_stopped"]),
            has_left=bool(content.get("has_left")),
            has_spool=spool is not None,
            spool_hits=None if spool is None or spool["hits"] is None else int(spool["hits"]),
            spool_since=None if spool is None or spool["since"] is None else int(spool["since"]),
            settings={str(name): str(value) for name, value in content["settings"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def describe_spools(hosts: Iterable[Host], now: float) -> list[str]:
    """Returns a warning for each host that went away and whose spool holds hits, or may hold hits. now: s."""
    texts = []
    for host in hosts:
        if not host.has_spool or not host.is_away(now):
            continue
        state = "has stopped" if host.is_stopped else f"has not been seen for {now - host.at:,.0f} s"
        content = f"holds {host.spool_hits:,} hits" if host.spool_hits else "may hold hits"
        texts.append(
            f"host {host.name} {state}, and its spool {content}: start it again, or run "
            "`pixel-server spool drain DIRECTORY` on a copy of its spool; if the spool is lost, run "
            f"`pixel-server hosts forget {host.id}`"
        )
    return texts


def describe_settings(hosts: Iterable[Host], now: float) -> list[str]:
    """Returns a line for each setting that differs between processes that run. now: s."""
    by_setting: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for host in hosts:
        if not host.is_away(now):
            for name, value in host.settings.items():
                by_setting[name][value].add(f"{host.kind} on {host.name}")
    texts = []
    for name, processes in sorted(by_setting.items()):
        if len(processes) > 1:
            groups = sorted(", ".join(sorted(group)) for group in processes.values())
            texts.append(f"{name} must agree on all hosts, and differs: {' / '.join(groups)}")
    return texts

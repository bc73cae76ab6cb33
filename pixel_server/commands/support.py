"""What commands share: one clear line for a failure, `--json`, and the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
import redis

from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis

T = TypeVar("T")


class Failure(click.ClickException):
    """One clear line, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"pixel-server: {self.message}", err=True)


class Group(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # a reader that has gone is nothing to tell of, and click's own
            if error.filename is None:
                _drop_output()
            Failure(f"{error.filename or 'cannot write'}: {error.strerror or error}").show()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        from pixel_server.classify.networks import NetworksError  # noqa: PLC0415
        from pixel_server.classify.rules import RulesError  # noqa: PLC0415
        from pixel_server.store.client import StoreError  # noqa: PLC0415 - offline commands need no Redis

        try:
            return super().invoke(ctx)
        except (SettingsError, SecretsError, StoreError, RulesError, NetworksError) as error:
            raise Failure(str(error)) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise Failure(f"Redis does not answer: {error}; is `pixel-server up` running?") from None
        except redis.RedisError as error:
            raise Failure(f"Redis refuses: {error}") from None


def _drop_output() -> None:
    """What could not be written is not tried again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def environment() -> dict[str, str]:
    """This one and, for what it does not set, that of the last `up` of its data directory."""
    from pixel_server.run.up_state import read_up_state  # noqa: PLC0415

    found = read_up_state(Settings.from_env().data)
    of_up = {**found.settings, "REDIS_URL": found.redis_url} if found else {}
    return {**of_up, **{name: value for name, value in os.environ.items() if value.strip()}}


def settings_here() -> Settings:
    """Those of `environment`."""
    return Settings.from_env(environment())


def store_url(settings: Settings) -> str:
    """REDIS_URL, else what `up` left in the data directory."""
    from pixel_server.run.up_state import read_up_state  # noqa: PLC0415

    found = None if is_redis_named() else read_up_state(settings.data)
    return found.redis_url if found else settings.redis_url


def left_base_url(settings: Settings) -> str | None:
    """Where the `up` of this data directory is reached; None: there was none."""
    from pixel_server.run.up_state import read_up_state  # noqa: PLC0415

    found = read_up_state(settings.data)
    return found.base_url if found else None


def is_redis_named() -> bool:
    return bool(os.environ.get("REDIS_URL", "").strip())


def _require_running(address: str, settings: Settings) -> None:
    """Failure: nobody named a Redis, and there is none: most likely `up` does not run."""
    from pixel_server.store.client import connect  # noqa: PLC0415

    try:
        with connect(address) as client:
            client.ping()
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        raise Failure(
            f"pixel-server does not run with {settings.data}, or its Redis does not answer: "
            "start it there with `pixel-server up`, or set PIXEL_DATA_DIR or REDIS_URL"
        ) from None
    except redis.RedisError:
        return  # it is there, and says more to who asks more


def with_store(act: Callable[[AsyncRedis, Settings], Awaitable[T]]) -> T:
    """Runs `act` with a store that was found fit, and the settings."""
    settings = settings_here()
    address = store_url(settings)
    if not is_redis_named():
        _require_running(address, settings)
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    return with_this(address, settings, secrets, act)


def _abort(number: int, frame: FrameType | None) -> None:
    """Ends the process at once, which leaves no more half-done than a kill does, and that is nothing.

    A cancelled task (asyncio's way) may miss it, and an exception may come up anywhere within asyncio: the
    task then goes on, or its ruins are told of.
    """
    os.write(sys.stderr.fileno(), b"\nAborted!\n")
    os._exit(1)


def with_this(
    address: str, settings: Settings, secrets: Secrets, act: Callable[[AsyncRedis, Settings], Awaitable[T]]
) -> T:
    """See `with_store`."""
    from pixel_server.store.client import connect_async  # noqa: PLC0415
    from pixel_server.store.compatibility import check  # noqa: PLC0415
    from pixel_server.store.store_mark import StoreMark  # noqa: PLC0415

    async def run() -> T:
        store = connect_async(address, timeout=10.0)
        try:
            await check(store, address, settings.shards, secrets, StoreMark(settings.data))
            return await act(store, settings)
        finally:
            await store.aclose()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # one that is ignored stays so
        signal.signal(signal.SIGINT, _abort)
    try:
        return asyncio.run(run())
    finally:
        signal.signal(signal.SIGINT, before)

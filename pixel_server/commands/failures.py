"""Failures of commands: one line on standard error, and exit code 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click
import redis

from pixel_server import lifeline, logs
from pixel_server.campaigns.campaign import UnfitField
from pixel_server.campaigns.storage import CampaignExists, SealedField, UnknownCampaign
from pixel_server.classify.networks import NetworksError
from pixel_server.classify.rule_file import RulesError
from pixel_server.secret import SecretsError
from pixel_server.settings import SettingsError
from pixel_server.store.client import StoreError

ONE_LINE_ERRORS = (
    *(SettingsError, SecretsError, StoreError, RulesError, NetworksError),
    *(UnknownCampaign, CampaignExists, UnfitField, SealedField),
)
"""Errors whose text is one line that an operator understands."""


log = logs.Log(__name__)


class Failure(click.ClickException):
    """Ends the command with one line and exit code 1.

    The line is one of the log if the process is a child of `up`, `serve` or `work`, or if the log is JSON.
    """

    def show(self, file: Any = None) -> None:
        if logs.is_json() or lifeline.is_held():
            log.critical("process-failed", "%(reason)s", reason=self.message)
        else:
            click.echo(f"pixel-server: {self.message}", err=True)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Raises Failure in place of the errors that any command may meet."""
    try:
        yield
    except ONE_LINE_ERRORS as error:
        raise Failure(str(error)) from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Failure(
            f"Redis does not answer: {logs.describe(error)}; is `pixel-server up` running?"
        ) from None
    except redis.RedisError as error:
        raise Failure(f"Redis refuses a command: {logs.describe(error)}") from None

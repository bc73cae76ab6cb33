"""`pixel-server webhook ...`"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from pixel_server.api.webhooks import to_json
from pixel_server.campaigns import storage as campaign_storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, print_table, settings_here, with_store
from pixel_server.scopes import SCOPES
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, clock
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import deliveries, queue, report, storage
from pixel_server.webhooks.endpoint import MAX_EVENTS_PER_REQUEST, Endpoint, EndpointError
from pixel_server.webhooks.event import TYPES

T = TypeVar("T")

_OPTIONS = {
    "events": "--event",
    "campaigns": "--campaign",
    "events_per_request": "--events-per-request",
    "url": "URL",
    "name": "--name",
    "secret": "--secret",
    "overlap_seconds": "--overlap",
}
"""How an option is written, by the name of the field."""

_event = click.option(
    "--event",
    "events",
    multiple=True,
    metavar="TYPE",
    help=f"Type of events that are sent: {', '.join(TYPES)}. Give it again for each further type.",
)
_campaign = click.option(
    "--campaign",
    "campaigns",
    multiple=True,
    metavar="ID",
    help="Campaign whose events are sent. Give it again for each further campaign.  [default: all]",
)
_secret = click.option("--secret", metavar="whsec_...", help="Your own secret.  [default: a random secret]")


@click.group()
def webhook() -> None:
    """Send events to an address of yours, such as a recipient's first open."""


def _with_endpoint(act: Callable[[AsyncRedis, Settings], Awaitable[T]]) -> T:
    """Calls `act` as `with_store` does. Raises Failure if the endpoint is unknown or a field is bad."""
    try:
        return with_store(act)
    except storage.UnknownEndpoint as error:
        raise Failure(f"there is no webhook {error.args[0]}") from None
    except EndpointError as error:
        raise Failure(f"{_OPTIONS.get(error.field, error.field)} {error}") from None
    except (storage.TooManyEndpoints, queue.DisabledError) as error:
        raise Failure(str(error)) from None


async def _check_campaigns(store: AsyncRedis, ids: tuple[str, ...]) -> None:
    """Raises UnknownCampaign if a campaign does not exist."""
    for campaign in ids:
        await campaign_storage.get(store, campaign)


async def _report(store: AsyncRedis, known: Endpoint) -> dict[str, Any]:
    return to_json(await report.read_one(store, known, await clock.read_time(store)))


@webhook.command("create")
@click.argument("url")
@_event
@_campaign
@click.option("--name", default="", help="A text for people.")
@click.option(
    "--events-per-request",
    type=click.IntRange(1, MAX_EVENTS_PER_REQUEST),
    default=1,
    show_default=True,
    help="Above 1, each request carries a list of up to so many events.",
)
@_secret
@as_json
def create_webhook(
    url: str,
    events: tuple[str, ...],
    campaigns: tuple[str, ...],
    name: str,
    events_per_request: int,
    secret: str | None,
    as_json: bool,
) -> None:
    """Send events to URL. Prints the secret that signs them, this once."""

    async def create(store: AsyncRedis, settings: Settings) -> tuple[dict[str, Any], str]:
        await _check_campaigns(store, campaigns)
        made, text = await storage.create(
            store,
            settings,
            url=url,
            events=events,
            scopes=SCOPES,
            name=name,
            campaigns=campaigns,
            events_per_request=events_per_request,
            secret=secret,
        )
        return await _report(store, made), text

    made, text = _with_endpoint(create)
    if as_json:
        click.echo(json.dumps({**made, "secret": text}))
        return
    click.echo(f"webhook {made['id']}\nsecret  {text}")


@webhook.command("list")
@as_json
def list_webhooks(as_json: bool) -> None:
    """List webhooks, with what waits and what failed."""

    async def read(store: AsyncRedis, _: object) -> list[report.Report]:
        return await report.read(store, await clock.read_time(store))

    reports = with_store(read)
    if as_json:
        click.echo(json.dumps({"items": [to_json(of) for of in reports], "next": None}))
        return
    if not reports:
        click.echo("there are no webhooks; make one with `pixel-server webhook create URL --event TYPE`")
        return
    rows = [("ID", "SENT", "WAITING", "ASIDE", "STATE", "EVENTS", "URL")]
    for of in reports:
        known, length = of.endpoint, of.length
        numbers = f"{of.state.sent:,}", f"{length.units:,}", f"{length.aside:,}"
        rows.append((known.id, *numbers, _state(of), ",".join(known.events), known.url))
    print_table(rows)


def _state(of: report.Report) -> str:
    """Returns how an endpoint fares, in a word or two."""
    if not of.endpoint.is_enabled:
        return "disabled"
    return f"failing for {of.failing_seconds / 60:.0f} min" if of.failing_seconds else "ok"


@webhook.command("show")
@click.argument("id")
@as_json
def show_webhook(id: str, as_json: bool) -> None:  # noqa: A002
    """Show a webhook."""

    async def show(store: AsyncRedis, _: object) -> dict[str, Any]:
        return await _report(store, await storage.get(store, id))

    shown = _with_endpoint(show)
    if as_json:
        click.echo(json.dumps(shown))
        return
    state = shown.pop("state")
    for field, value in {**shown, **state}.items():
        texts = [json.dumps(item) if isinstance(item, dict) else str(item) for item in _as_list(value)]
        click.echo(f"{field:<18}  {', '.join(texts) or '-'}")


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value in (None, "") else [value]


@webhook.command("change")
@click.argument("id")
@click.option("--url", help="New address.")
@_event
@_campaign
@click.option("--all-campaigns", is_flag=True, help="Send the events of all campaigns.")
@click.option("--name", help="A text for people.")
@click.option("--enable/--disable", "is_enabled", default=None, help="Send events, or stop sending.")
@as_json
def change_webhook(
    id: str,  # noqa: A002
    url: str | None,
    events: tuple[str, ...],
    campaigns: tuple[str, ...],
    all_campaigns: bool,
    name: str | None,
    is_enabled: bool | None,
    as_json: bool,
) -> None:
    """Change a webhook. What is not given stays as it is."""
    if all_campaigns and campaigns:
        raise Failure("give --campaign or --all-campaigns, not both")
    given: dict[str, Any] = {
        "url": url,
        "events": events or None,
        "campaigns": () if all_campaigns else campaigns or None,
        "name": name,
        "is_enabled": is_enabled,
    }
    fields = {field: value for field, value in given.items() if value is not None}
    if not fields:
        raise Failure("give at least one option: see `pixel-server webhook change --help`")

    async def change(store: AsyncRedis, settings: Settings) -> dict[str, Any]:
        await _check_campaigns(store, campaigns)
        changed = await storage.change(store, settings, id, fields, audit_log.COMMAND)
        return await _report(store, changed)

    changed = _with_endpoint(change)
    click.echo(json.dumps(changed) if as_json else f"changed {id}")


@webhook.command("secret")
@click.argument("id")
@_secret
@click.option(
    "--overlap",
    "overlap_seconds",
    type=click.IntRange(0, storage.MAX_OVERLAP_SECONDS),
    default=storage.OVERLAP_SECONDS,
    show_default=True,
    help="Seconds for which the old secret signs too.",
)
@as_json
def rotate_secret(id: str, secret: str | None, overlap_seconds: int, as_json: bool) -> None:  # noqa: A002
    """Give a webhook a new secret, and print it this once."""
    text = _with_endpoint(
        lambda store, _: storage.rotate_secret(
            store, id, audit_log.COMMAND, secret=secret, overlap_seconds=overlap_seconds
        )
    )
    click.echo(json.dumps({"secret": text}) if as_json else text)


@webhook.command("test")
@click.argument("id")
@as_json
def test_webhook(id: str, as_json: bool) -> None:  # noqa: A002
    """Send a test event to a webhook."""
    here = settings_here()
    secrets = Secrets.load(here.data, here.signing_secrets, here.recipient_secret)

    async def test(store: AsyncRedis, settings: Settings) -> str:
        return await queue.send_test(store, secrets, await storage.get(store, id), settings.webhook_queue)

    event_id = _with_endpoint(test)
    click.echo(
        json.dumps({"webhook_id": event_id})
        if as_json
        else f"{event_id} waits to be sent; see `pixel-server webhook deliveries {id}`"
    )


@webhook.command("again")
@click.argument("id")
@click.argument("units", metavar="[WEBHOOK_ID]...", nargs=-1)
@as_json
def send_again(id: str, units: tuple[str, ...], as_json: bool) -> None:  # noqa: A002
    """Send requests again now: the requests named, or all that were set aside."""

    async def again(store: AsyncRedis, _: object) -> int:
        if not (await storage.get(store, id)).is_enabled:
            raise queue.DisabledError
        return await queue.send_again(store, id, list(units) or None)

    found = _with_endpoint(again)
    click.echo(json.dumps({"sent_again": found}) if as_json else f"{found:,} requests are sent again")


@webhook.command("deliveries")
@click.argument("id")
@click.option("--limit", type=click.IntRange(1, deliveries.MAX_LINES), default=20, show_default=True)
@as_json
def list_deliveries(id: str, limit: int, as_json: bool) -> None:  # noqa: A002
    """List the last tries to deliver, newest first, with their answers."""

    async def read(store: AsyncRedis, _: object) -> tuple[list[deliveries.Delivery], str | None]:
        await storage.get(store, id)
        lines, next_cursor = await deliveries.page(store, id, limit=limit)
        return [line for _, line in lines], next_cursor

    lines, next_cursor = _with_endpoint(read)
    shown = [deliveries.to_json(line) for line in lines]
    if as_json:
        click.echo(json.dumps({"items": shown, "next": next_cursor}))
        return
    for line in shown:
        answered = f"{line['status'] or '-':>3}  {line['ms']:>6} ms"
        click.echo(
            f"{line['at']}  {line['type']:<18}  {answered if line['was_sent'] else 'not sent':<14}  "
            f"try {line['attempt']:<2}  "
            f"{line['outcome']:<9}  {line['webhook_id']}  {line['answer']}"
        )


@webhook.command("delete")
@click.argument("id")
@as_json
def delete_webhook(id: str, as_json: bool) -> None:  # noqa: A002
    """Delete a webhook, with all that waits for it."""
    _with_endpoint(lambda store, _: storage.delete(store, id))
    click.echo(json.dumps({"deleted": id}) if as_json else f"deleted {id}")

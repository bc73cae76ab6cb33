"""`pixel-server campaign ...`"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from pixel_server.campaigns.campaign import Campaign, UnfitField, campaign_json, new_campaign, refuse_unfit
from pixel_server.commands.support import Failure, as_json, settings_here, with_store
from pixel_server.consent import Consent
from pixel_server.settings import SIGNALS, Settings
from pixel_server.times import iso_ms
from pixel_server.tokens import MODES

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis

Command = TypeVar("Command", bound=Callable[..., Any])

NONE = "none"
_WHOLE = ("sent", "bounced", "min_cell")


@click.group()
def campaign() -> None:
    """Make, change, list, show and delete campaigns."""


def _fields(command: Command) -> Command:
    """The options that both a new campaign and one that is there take."""
    options = (
        click.option("--sent", help="How many mails went out."),
        click.option("--bounced", help="How many mails came back."),
        click.option("--sent-at", help="When it was sent, as 2026-11-24T09:00:00Z."),
        click.option("--time-zone", help="Whose days are counted."),
        click.option("--base-url", help="Where its links point, if not to PIXEL_BASE_URL."),
        click.option(
            "--mode",
            type=click.Choice(MODES),
            help="Most that is kept of a recipient.",
        ),
        click.option("--gpc", type=click.Choice((*SIGNALS, NONE)), help="What GPC and DNT do."),
        click.option(
            "--keep",
            multiple=True,
            metavar="KIND=DAYS",
            help="Days that less is kept than the server does: buckets, days, recipients or names.",
        ),
        click.option("--min-cell", help="Fewest visits, or opens, of a day that a shared page shows."),
        click.option("--identity", help="What visitors are told by: cookieless, cookie or own."),
        click.option("--origin", "origins", multiple=True, help="Of pages that may use p.js."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@campaign.command("create")
@click.argument("id")
@click.option("--name", help="Its name.  [default: the id]")
@click.option("--kind", type=click.Choice(["email", "web"]), default="email", show_default=True)
@_fields
@as_json
def create_campaign(id: str, kind: Literal["email", "web"], as_json: bool, **given: Any) -> None:  # noqa: A002
    """Make a campaign.

    What is left out is as PIXEL_TIME_ZONE, PIXEL_DEFAULT_MODE, PIXEL_GPC and PIXEL_BASE_URL say; visitors are
    told apart cookieless, and all pages may use p.js.
    """
    from pixel_server.api import fields as api_fields  # noqa: PLC0415
    from pixel_server.campaigns import storage  # noqa: PLC0415

    settings = settings_here()
    default = Consent(settings).default.mode.name.lower()
    fields = {"name": id, "mode": default, "time_zone": settings.time_zone, **_given(given)}
    try:
        slug = api_fields.slug(id)
    except ValueError as error:
        raise Failure(f"id {error}") from None
    made = new_campaign(slug, kind=kind, **_checked(fields, settings))
    try:
        refuse_unfit(kind, fields, made)
        with_store(lambda store, _: storage.create(store, made))
    except UnfitField as error:
        raise Failure(str(error)) from None
    except storage.CampaignExists:
        raise Failure(f"the id {made.id} is taken, or was: ids are never given twice") from None
    if as_json:
        click.echo(json.dumps(campaign_json(made)))
    else:
        click.echo(f"made {made.kind} campaign {made.id}")


@campaign.command("set")
@click.argument("id")
@click.option("--name", help="Its name.")
@_fields
@as_json
def set_campaign(id: str, as_json: bool, **given: Any) -> None:  # noqa: A002
    """Change a campaign: what is given. `none` takes away what it has."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.store import audit_log  # noqa: PLC0415

    found = _given(given)
    if not found:
        raise click.UsageError("give what is to be changed, as --sent 1200")
    fields = _checked(found, settings_here())
    try:
        changed = with_store(lambda store, _: storage.change(store, id, fields, audit_log.COMMAND))
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {id}") from None
    except (UnfitField, storage.SealedField) as error:
        raise Failure(str(error)) from None
    click.echo(json.dumps(campaign_json(changed)) if as_json else f"changed {', '.join(fields)} of {id}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """As the API takes them. Not those that were left out."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if value in (None, ()):
            continue
        if isinstance(value, tuple):
            values = [] if value == (NONE,) else list(value)
            found[name] = dict(map(_days, values)) if name == "keep" else values
        else:
            found[name] = None if value == NONE else _number(value, name in _WHOLE)
    return found


def _days(text: str) -> tuple[str, int | str]:
    kind, _, days = text.partition("=")
    return kind, _number(days, True)


def _number(text: str, is_wanted: bool) -> int | str:
    """What is none stays as it is, to be refused."""
    return int(text) if is_wanted and text.isascii() and text.isdigit() and len(text) < 13 else text


def _checked(fields: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Failure: a field cannot be used, by the name of its option."""
    from pixel_server.api import fields as api_fields  # noqa: PLC0415

    checks, good = api_fields.of_campaign(settings), {}
    for name, value in fields.items():
        try:
            good[name] = checks[name](value)
        except ValueError as error:
            option = "origin" if name == "origins" else name.replace("_", "-")
            raise Failure(f"--{option} {str(error).replace('null', NONE)}") from None
    return good


@campaign.command("list")
@as_json
def list_campaigns(as_json: bool) -> None:
    """List all campaigns."""
    from pixel_server.campaigns import storage  # noqa: PLC0415

    async def all_of_them(store: AsyncRedis, _: Settings) -> list[Campaign]:
        found, after = await storage.page(store, None, 1000)
        while after is not None:
            more, after = await storage.page(store, after, 1000)
            found += more
        return found

    items = [campaign_json(item) for item in with_store(all_of_them)]
    if as_json:
        click.echo(json.dumps({"items": items, "next": None}))
        return
    for item in items:
        sent = "" if item["sent"] is None else f"{item['sent']} sent"
        click.echo(f"{item['id']:<30}  {item['kind']:<5}  {sent:>14}  {item['name']}")


@campaign.command("show")
@click.argument("id")
@as_json
def show_campaign(id: str, as_json: bool) -> None:  # noqa: A002
    """Show a campaign's figures of all time."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.figures import ranges, stats  # noqa: PLC0415
    from pixel_server.store import clock  # noqa: PLC0415

    async def figures(store: AsyncRedis, settings: Settings) -> tuple[Campaign, dict[str, Any]]:
        found = await storage.get(store, id)
        now = await clock.now(store)
        wanted = ranges.parse({}, found.time_zone, now)
        return found, await stats.read(store, found, wanted, settings, now)

    try:
        found, read = with_store(figures)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {id}") from None
    if as_json:
        click.echo(json.dumps({**campaign_json(found), "stats": read}))
        return
    rows = [("campaign", f"{found.id} ({found.kind}) {found.name}"), ("counted up to", read["as_of"])]
    for name, value in read["totals"].items():
        if (not value and name in _RARE) or name == "bounces":
            continue  # nothing to tell, or told below
        estimate = read["estimates"].get(name)
        error = f" (estimate, \u00b1{estimate['standard_error']:.1%})" if estimate else ""
        rows.append((name.replace("_", " "), "not known" if value is None else f"{value:,}{error}"))
    if found.kind == "web" and read["bounce_share"] is not None:
        rows.append(("bounces", f"{read['bounce_share']:.1%} of visits"))
    for name in ("time_on_page", "time_of_visit"):
        if read[name] is not None:
            rows.append((name.replace("_", " "), f"{read[name]['median']:,.0f} s (median)"))
    if found.kind == "email":
        rows.append(("sent", "not set" if read["sent"] is None else f"{read['sent']:,}"))
        if found.sent_at is not None:
            rows.append(("sent at", iso_ms(found.sent_at * 1000)))
        if found.bounced:
            rows.append(("bounced", f"{found.bounced:,}"))
        rate = read["open_rate"]
        none = "more openers than delivered" if read["over"] else "none without `sent`"
        if read["delivered"] == 0:
            none = "none, as no mail was delivered"
        rows.append(("open rate", none if rate is None else _span(rate)))
        if rate and rate["interval"] and tuple(rate["interval"]) != (rate["low"], rate["low"]):
            low, high = rate["interval"]
            rows.append(("estimate", f"{rate['estimate']:.1%} (95 %: {low:.1%} to {high:.1%})"))
    if read["clipped"] is not None:
        rows.append(
            ("clipped", f"{read['clipped']['share']:.1%} of {read['clipped']['of']:,} with two pixels")
        )
    for name, shown in rows:
        click.echo(f"{name:<20} {shown}")


_RARE = (
    *("opens_anonymous", "hits_gpc", "dropped_gpc", "dropped_opted_out", "refused_origin"),
    *("views_bot", "views_no_visitor", "views_no_visit", "visits_new", "visits_returning"),
)


def _span(rate: dict[str, Any]) -> str:
    low, high = f"{rate['low']:.1%}", f"{rate['high']:.1%}"
    return low if low == high else f"{low} to {high}"


@campaign.command("delete")
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def delete_campaign(id: str, yes: bool, as_json: bool) -> None:  # noqa: A002
    """Delete a campaign and all that was counted for it. Its id is never given again."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.store import audit_log  # noqa: PLC0415

    async def delete(store: AsyncRedis, settings: Settings) -> None:
        await storage.get(store, id)
        await audit_log.note(store, audit_log.COMMAND, "campaign.deleted", campaign=id)
        await storage.delete(store, id, settings.shards)

    try:
        with_store(lambda store, _: storage.get(store, id))
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {id}") from None
    if not yes:
        click.confirm(f"Delete {id} and all that was counted for it?", abort=True, err=True)
    try:
        with_store(delete)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {id}") from None
    click.echo(json.dumps({"deleted": id}) if as_json else f"deleted {id}")

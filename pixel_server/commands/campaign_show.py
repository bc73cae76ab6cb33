"""`pixel-server campaign show`"""

from __future__ import annotations

import json
from typing import Any

import click

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, campaign_json
from pixel_server.commands.support import as_json, with_store
from pixel_server.figures import ranges, stats
from pixel_server.settings import Settings
from pixel_server.store import clock
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

_HIDDEN_IF_ZERO = (
    *("opens_anonymous", "hits_gpc", "dropped_gpc", "dropped_opted_out", "refused_origin"),
    *("views_bot", "views_no_visitor", "views_no_visit", "visits_new", "visits_returning"),
)
"""Totals that are shown only if they are not zero."""

MIN_NAME_WIDTH = 20
"""Smallest width of the column of names, in characters."""


@click.command()
@click.argument("id")
@as_json
def show_campaign(id: str, as_json: bool) -> None:  # noqa: A002
    """Show a campaign's figures of all time."""

    async def read_figures(store: AsyncRedis, settings: Settings) -> tuple[Campaign, dict[str, Any]]:
        campaign = await storage.get(store, id)
        now = await clock.read_time(store)
        all_time = ranges.parse({}, campaign.time_zone, now)
        return campaign, await stats.read(store, campaign, all_time, settings, now)

    campaign, figures = with_store(read_figures)
    if as_json:
        click.echo(json.dumps({**campaign_json(campaign), "stats": figures}))
        return
    rows = _rows(campaign, figures)
    width = max(MIN_NAME_WIDTH, *(len(name) for name, _ in rows))
    for name, text in rows:
        click.echo(f"{name:<{width}} {text}")


def _rows(campaign: Campaign, figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the lines to print, as (name, text)."""
    rows = [("campaign", f"{campaign.id} ({campaign.kind}) {campaign.name}")]
    rows += [("counted up to", figures["as_of"]), *_total_rows(figures)]
    if campaign.kind == "web" and figures["bounce_share"] is not None:
        rows.append(("bounces", f"{figures['bounce_share']:.1%} of visits"))
    for name in ("time_on_page", "time_of_visit"):
        if figures[name] is not None:
            rows.append((name.replace("_", " "), f"{figures[name]['median']:,.0f} s (median)"))
    if campaign.kind == "email":
        rows += _mail_rows(campaign, figures)
    if (clipped := figures["clipped"]) is not None:
        rows.append(("clipped", f"{clipped['share']:.1%} of {clipped['of']:,} opened mails with two pixels"))
    return rows


def _total_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in figures["totals"].items():
        if (not value and name in _HIDDEN_IF_ZERO) or name == "bounces":  # bounces get a row as a share
            continue
        estimate = figures["estimates"].get(name)
        error = f" (estimate, \u00b1{estimate['standard_error']:.1%})" if estimate else ""
        rows.append((name.replace("_", " "), "not known" if value is None else f"{value:,}{error}"))
    return rows


def _mail_rows(campaign: Campaign, figures: dict[str, Any]) -> list[tuple[str, str]]:
    source = {"deliveries": " (reported by a mail service)", "lists": " (on lists)"}
    why = source.get(figures["sent_source"], "")
    rows: list[tuple[str, str]] = [("preset", campaign.preset)] if campaign.preset else []
    rows.append(("sent", "not set" if figures["sent"] is None else f"{figures['sent']:,}{why}"))
    if campaign.sent_at is not None:
        rows.append(("sent at", iso_ms(campaign.sent_at * 1000)))
    if figures["bounced"]:
        rows.append(("bounced", f"{figures['bounced']:,}"))
    for name, value in (figures["deliveries"] or {}).items():
        rows.append((f"reported {name.replace('_', ' ')}", f"{value:,}"))
    rate = figures["open_rate"]
    if rate is not None:
        low, high = f"{rate['low']:.1%}", f"{rate['high']:.1%}"
        rows.append(("open rate", low if low == high else f"{low} to {high}"))
    elif figures["delivered"] == 0:
        rows.append(("open rate", "none, as no mail was delivered"))
    elif figures["over"]:
        rows.append(("open rate", "more openers than delivered"))
    else:
        why = ", as `sent` is not set" if figures["sent"] is None else ""
        rows.append(("open rate", f"not known{why}"))
    if rate and rate["interval"] and tuple(rate["interval"]) != (rate["low"], rate["low"]):
        low, high = rate["interval"]
        rows.append(("estimate", f"{rate['estimate']:.1%} (95 %: {low:.1%} to {high:.1%})"))
    return rows

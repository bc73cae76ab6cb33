"""The page that asks before a change of a campaign loses something for good, and what the change loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import campaigns as campaign_calls
from pixel_server.api.context import Api
from pixel_server.campaigns import purge, retention
from pixel_server.campaigns.campaign import Campaign, Uses
from pixel_server.consent import mode_named
from pixel_server.dashboard import campaign_form, formatting, render
from pixel_server.settings import Settings
from pixel_server.times import DAY
from pixel_server.tokens import Mode

CONFIRMED, BACK = "confirmed", "back"
"""Fields of the page that asks: the losses that it showed, and the button that leads back to the form."""
_DELETION = (
    "What is past its days is deleted within about 10 minutes. If that is more than one day of data, "
    "the deletion waits until the operator of this server allows it."
)
_IN_TEN_MINUTES = "is deleted within about 10 minutes"


def typed(form: Mapping[str, str]) -> dict[str, str]:
    """Returns the fields that the user typed, without those of the page that asks."""
    return {name: text for name, text in form.items() if name not in ("csrf", CONFIRMED, BACK)}


def is_back(form: Mapping[str, str]) -> bool:
    """Returns whether the user went back to the form from the page that asks."""
    return BACK in form


async def question(
    api: Api, request: Request, campaign: Campaign, uses: Uses, changes: Mapping[str, Any], path: str
) -> Response | None:
    """Returns the page that asks before the changes are stored. Returns None if they can be stored now.

    The page asks again if what the changes lose is no longer what the user confirmed. path: where the form
    is sent. Raises Problem if the changes are refused.
    """
    after = campaign_calls.preview_change(api, campaign, uses, changes)
    losses = await find(api, campaign, uses, after)
    form = request.state.form
    if not losses or form.get(CONFIRMED) == " ".join(losses):
        return None
    context = {"campaign": campaign, "losses": losses, "typed": typed(form), "action": path}
    return render.page(api, request, "campaign_change.html", context)


async def find(api: Api, before: Campaign, uses: Uses, after: Campaign) -> list[str]:
    """Returns sentences that say what a change of a campaign loses for good. Empty if it loses nothing."""
    losses = _lost_by_mode(api.settings, before, uses, after)
    if before.preset and not after.preset:
        losses.append(f"The preset {before.preset} is dropped. It cannot be chosen again.")
    due = await _lost_series(api, before, after)
    due += _lost_people(api.settings, before, uses, after, api.clock())
    return [*losses, *due, *([_DELETION] if due else [])]


def _lost_by_mode(settings: Settings, before: Campaign, uses: Uses, after: Campaign) -> list[str]:
    """Returns what a lowered mode loses. Before the first hit, link or upload there is nothing to lose."""
    if not any(uses) or mode_named(after.mode) >= mode_named(before.mode):
        return []
    old, new = retention.effective_mode(settings, before), retention.effective_mode(settings, after)
    is_email = before.kind == "email"
    ends_people = new < Mode.PSEUDONYMOUS <= old
    losses = []
    if ends_people and is_email and before.closed_at is None:
        losses.append(f"All that is stored about single recipients {_IN_TEN_MINUTES}.")
    elif new < Mode.IDENTIFIED == old and uses.last_upload and before.closed_at is None:
        losses.append(f"The uploaded list of recipients and names {_IN_TEN_MINUTES}. Their keys stay.")
    if ends_people and uses.first_hit:
        rates = "the open rate and other figures about recipients" if is_email else "figures about visitors"
        losses.append(f"From now on {rates} are not shown, also of the past.")
    if uses.first_hit or uses.last_link:
        person, modes = (
            ("recipient", campaign_form.MODES) if is_email else ("visitor", campaign_form.WEB_MODES)
        )
        losses.append(f"From now on this is stored about a {person}: {modes[after.mode]}")
        losses.append("An answer that stores more cannot be chosen again.")
    return losses


async def _lost_series(api: Api, before: Campaign, after: Campaign) -> list[str]:
    """Returns which figures are stored, and are older than the changed days to keep them."""
    old, new = (retention.campaign_days(api.settings, each) for each in (before, after))
    now, losses = api.clock(), []
    start = retention.oldest_bucket(before, old.buckets, now)
    end = retention.oldest_bucket(after, new.buckets, now)
    if await _has_buckets(api, before.id, start, end):
        losses.append(f"15-minute figures before {formatting.day(end)} (UTC) are not shown from now on.")
    first_day = retention.oldest_day(before, old.days, now)
    kept_from = retention.oldest_day(after, new.days, now)
    if await _has_days(api, before.id, first_day, kept_from):
        day = f"{kept_from[:4]}-{kept_from[4:6]}-{kept_from[6:]}T00:00Z"
        losses.append(f"Daily figures before {formatting.day(day)} are not shown from now on.")
    return losses


async def _has_buckets(api: Api, campaign: str, start: int, end: int) -> bool:
    """Returns whether 15-minute series from `start` to `end` (s) are stored."""
    for shard in range(api.settings.shards):
        if start < end and await purge.count_time_buckets(api.store, shard, campaign, start, end):
            return True
    return False


async def _has_days(api: Api, campaign: str, start: str, end: str) -> bool:
    """Returns whether daily series from one day to another (`"20261124"`) are stored."""
    for shard in range(api.settings.shards):
        if start < end:
            days = await purge.list_days_before(api.store, shard, campaign, end)
            if any(day >= start for day in days):
                return True
    return False


def _lost_people(settings: Settings, before: Campaign, uses: Uses, after: Campaign, now: float) -> list[str]:
    """Returns what the change loses because the days to keep recipients or names end by it."""
    mode = retention.effective_mode(settings, after)
    if before.kind != "email" or before.closed_at is not None or not any(uses) or mode < Mode.LAST:
        return []
    old, new = (_end_times(settings, campaign, uses) for campaign in (before, after))
    ended = {kind: end for kind, end in new.items() if end <= now < old.get(kind, math.inf)}
    if end := ended.get("recipients"):
        deletes = "All that is stored about single recipients is deleted. " if mode > Mode.LAST else ""
        return [
            f"The days to keep recipients ended on {formatting.day(end, after.time_zone)}. "
            f"{deletes}Further opens are only counted."
        ]
    if (end := ended.get("names")) and mode == Mode.IDENTIFIED and uses.last_upload:
        return [
            f"The days to keep names ended on {formatting.day(end, after.time_zone)}. "
            "The uploaded list of recipients and names is deleted. Their keys stay."
        ]
    return []


def _end_times(settings: Settings, campaign: Campaign, uses: Uses) -> dict[str, int]:
    """Returns the times (s) at which the days to keep recipients and names end, if sending has a time."""
    sent_at, days = retention.sending_time(campaign, uses), retention.campaign_days(settings, campaign)
    if sent_at is None:
        return {}
    return {"recipients": sent_at + days.recipients * DAY, "names": sent_at + days.names * DAY}

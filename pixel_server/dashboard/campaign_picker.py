"""Campaigns that are picked on a page. A query or a form names them, and a search offers others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.datastructures import QueryParams

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, Kind, UnreadableCampaign
from pixel_server.figures import overview
from pixel_server.figures.overview import MAX_QUERY_CHARACTERS

MAX_MATCHES = 20
"""Largest number of campaigns that a search offers."""

FIELD = "campaign_"
"""Prefix of the checkbox of a campaign in a form that is sent by POST: `campaign_spring`."""


def ticked(fields: Mapping[str, str]) -> list[str]:
    """Returns the ids of the campaigns that are ticked in a form."""
    return [name.removeprefix(FIELD) for name in fields if name.startswith(FIELD)]


def search_text(params: QueryParams) -> str:
    """Returns the text to search for."""
    return params.get("q", "").strip()[:MAX_QUERY_CHARACTERS]


def ids(params: QueryParams, name: str) -> list[str]:
    """Returns the ids in a query without duplicates: `id=a&id=b` from the form, or `ids=a,b` as in the API.

    name: name of the API's parameter.
    """
    found = params.getlist("id") or [text for text in params.get(name, "").split(",") if text]
    return list(dict.fromkeys(found))


async def chosen(api: Api, campaign_ids: Sequence[str]) -> tuple[list[Campaign], list[str]]:
    """Returns the campaigns with these ids, and error messages for ids that cannot be used."""
    campaigns, errors = [], []
    for campaign_id in campaign_ids:
        try:
            campaigns.append(await storage.get(api.store, campaign_id))
        except storage.UnknownCampaign:
            errors.append(f"There is no campaign “{campaign_id[:64]}”.")
        except UnreadableCampaign:
            errors.append(f"The campaign “{campaign_id[:64]}” cannot be read: update this server.")
    return campaigns, errors


async def search(
    api: Api, text: str, left_out: Sequence[Campaign], kind: Kind | None = None
) -> list[Campaign]:
    """Returns campaigns that match a text, the newest first. kind: of the campaigns, None for all."""
    newest_first = overview.Query(text, "-sent_at", kind)
    listing = await overview.read(api.store, api.settings, api.consent, newest_first, api.clock())
    others = [row.campaign for row in listing.rows if row.campaign not in left_out]
    return others[:MAX_MATCHES]

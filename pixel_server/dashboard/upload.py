"""`/campaigns/{id}/recipients/upload`: the upload of a list of recipients."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pixel_server.api import recipients, uploads
from pixel_server.api.context import Api
from pixel_server.api.recipient_lists import keeps_names
from pixel_server.api.request_file import FileForm
from pixel_server.api.request_stream import BodyError
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import render
from pixel_server.problems import Problem
from pixel_server.recipients import lists


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    try:
        keeps_names(api, campaign)
    except Problem as problem:
        return _page(api, request, campaign, refused=problem.detail, status=409)
    return _page(api, request, campaign)


async def upload(api: Api, request: Request) -> Response:
    """Stores the lines of the file that can be used, and returns a page that says what was left out."""
    campaign = await api.campaign(request.path_params["id"])
    file: FileForm = request.state.file
    is_sent = "sent" in request.state.form
    column = request.state.form.get("column", "").strip() or uploads.COLUMN
    mailed_at = uploads.time_of_sending(campaign, api.clock()) if is_sent else None

    def refuse(text: str, status: int) -> Response:
        return _page(api, request, campaign, refused=text, column=column, is_sent=is_sent, status=status)

    try:
        stored = await recipients.store_list(
            api,
            campaign,
            file.chunks(),
            request.state.who,
            is_csv=None,
            mailed_at=mailed_at,
            column=column,
        )
    except ClientDisconnect:
        return Response(status_code=400)  # the browser is gone and shows no answer
    except BodyError as error:
        raise Problem(error.status, f"this form {error}") from None
    except Problem as problem:
        if problem.status not in (409, 422):
            raise
        await file.skip()
        return refuse(problem.detail, problem.status)
    if not stored.lines:
        return refuse("there is no recipient in this file", 422)
    status = 422 if stored.bad and not stored.has_usable_lines else 200
    listed = await lists.count_listed(api.store, campaign.id, api.settings.shards)
    return _page(
        api, request, campaign, stored=stored, listed=listed, column=column, is_sent=is_sent, status=status
    )


def _page(
    api: Api,
    request: Request,
    campaign: Campaign,
    *,
    stored: uploads.Upload | None = None,
    listed: int = 0,
    refused: str = "",
    column: str = uploads.COLUMN,
    is_sent: bool = True,
    status: int = 200,
) -> Response:
    context: dict[str, Any] = {
        "campaign": campaign,
        "stored": stored,
        "listed": listed,
        "refused": refused,
        "fields": {"column": column},
        "is_sent": is_sent,
        "takes_lists": status != 409,
    }
    return render.page(api, request, "upload.html", context, status)

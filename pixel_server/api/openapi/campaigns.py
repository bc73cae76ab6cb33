"""Campaigns: listed, made, shown, changed, deleted."""

from __future__ import annotations

from pixel_server.api import fields
from pixel_server.api.openapi.operation import BODY, CAMPAIGN, GONE, SHARED, call, header, ok, page, query
from pixel_server.api.openapi.schema import (
    NAME,
    answer,
    array,
    choice,
    count,
    instant,
    or_null,
    ref,
    taken,
    text,
)
from pixel_server.campaigns.campaign import DATA_KINDS, IDENTITIES, MAX_MAILS, MAX_ORIGINS
from pixel_server.settings import SIGNALS, time_zones
from pixel_server.slug import PATTERN
from pixel_server.tokens import MODES

_SHOWN = ok("The campaign.", ref("Campaign"))
_CREATED = {"Location": header({"type": "string"}, "Its address, relative to this call's.")}

PATHS = {
    "/api/campaigns": {
        "get": call(
            "list_campaigns",
            "read",
            "Campaigns, in the order of their ids",
            (422,),
            {200: ok("A page of them.", page("Campaign"))},
            parameters=[
                query("after", {**ref("CampaignId"), "description": "`next` of the page before."}),
                query(
                    "limit",
                    {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": fields.MAX_PAGE_SIZE,
                        "default": fields.PAGE_SIZE,
                    },
                ),
            ],
        ),
        "post": call(
            "create_campaign",
            "write",
            "Make a campaign",
            (*BODY, 409),
            {201: {**_SHOWN, "headers": _CREATED}},
            description=(
                "Its pixel works at once. 409: the id is taken, or was once; or a field is for web ones."
            ),
            body="NewCampaign",
        ),
    },
    "/api/campaigns/{id}": {
        "parameters": [CAMPAIGN],
        "get": call(
            "show_campaign",
            "read",
            "A campaign",
            (404,),
            {200: ok("The campaign.", {"anyOf": [ref("Campaign"), ref("SharedCampaign")]})},
            description=f"{SHARED}, and is shown a `SharedCampaign`.",
        ),
        "patch": call(
            "change_campaign",
            "write",
            "Change a campaign",
            (*BODY, 404, 409),
            {200: _SHOWN},
            description=(
                "Fields that are not sent stay. 409: `time_zone` and `identity` are fixed after the "
                "first hit; `mode`, after that or the first link, can only fall."
            ),
            body="CampaignChange",
        ),
        "delete": call(
            "delete_campaign",
            "write",
            "Delete a campaign and all its figures",
            (404,),
            {204: GONE},
            description="Its id is never given again. Its pixels are answered 200 and counted no more.",
        ),
    },
}

KIND = choice(("email", "web"), "Whether its pixel stands in mails or in pages.")
_ZONE = {
    **ref("TimeZone"),
    "description": "Its days are days of this zone. Fixed after the first hit. Default: `PIXEL_TIME_ZONE`.",
}
_WEB = {
    "identity": choice(
        IDENTITIES,
        "What a visitor is told by: a hash of address and user agent, another each day; a cookie, where the "
        "page says that its reader agreed; the page's own `v`. Fixed after the first hit.",
    ),
    "origins": array(
        {"type": "string", "pattern": fields.ORIGIN},
        maxItems=MAX_ORIGINS,
        description="Of the pages that may send with `p.js`, as `https://www.example.org`; none: all may.",
    ),
}
_CHANGEABLE = {
    "name": NAME,
    "bounced": {**count("Mails that came back."), "maximum": MAX_MAILS},
    "sent_at": or_null(
        {"type": "string", "format": "date-time"},
        "When it was sent; its recipients and names are kept so many days from then. Null: not known.",
    ),
    "keep": {
        "type": "object",
        "properties": {data: {"type": "integer", "minimum": 1} for data in DATA_KINDS},
        "additionalProperties": False,
        "description": "Days, where fewer than the server's `PIXEL_KEEP_DAYS_*`.",
    },
    "sent": or_null({"type": "integer", "minimum": 0, "maximum": MAX_MAILS}, "Mails sent; null: not known."),
    "time_zone": _ZONE,
    "base_url": or_null(
        {"type": "string", "pattern": r"^https?://[!$%&()*+,./0-9:;=@A-Z\[\]_a-z~-]+$", "maxLength": 500},
        "Where its links point, perhaps with a path; null: the server's `PIXEL_BASE_URL`.",
    ),
    "mode": choice(
        MODES[::-1],
        "How much is kept of a recipient at most; can only fall after the first link or hit. "
        "Default: the server's `PIXEL_DEFAULT_MODE`.",
    ),
    "gpc": {
        "enum": [*SIGNALS, None],
        "description": "What `Sec-GPC: 1` and `DNT: 1` do; null: as the server's `PIXEL_GPC` says.",
    },
    "min_cell": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "description": "Visits (or opens) of a day below which a shared key is not shown a figure apart.",
    },
}
_NEW = {**_CHANGEABLE, **_WEB}

SCHEMAS = {
    "CampaignId": text("A slug.", pattern=f"^{PATTERN}$"),
    "TimeZone": text("A name from the IANA time zone database.", enum=sorted(time_zones())),
    "Campaign": answer(
        id=ref("CampaignId"),
        kind=KIND,
        **_CHANGEABLE,
        **{field: or_null(schema, "Null: of mail.") for field, schema in _WEB.items()},
        created=instant("When it was made."),
        closed_at=or_null(instant(""), "Since when its recipients are gone, and hits only counted."),
        made_by=choice(
            ("api", "hit", "demo"),
            "`hit`: a good link of a campaign that nobody had made yet. `demo`: all of it is made up.",
        ),
    ),
    "NewCampaign": taken(("id", "name", "kind"), id=ref("CampaignId"), kind=KIND, **_NEW),
    "CampaignChange": taken((), **_CHANGEABLE, **_WEB),
}

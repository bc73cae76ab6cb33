"""Campaigns, and the schema of each of their fields."""

from __future__ import annotations

from pixel_server.api.openapi.operation import MAY_SHARE, Operation, header, ok
from pixel_server.api.openapi.schema import body, page, record, ref
from pixel_server.api.openapi.values import (
    NAME,
    ORIGINS,
    TAGS,
    Schema,
    choice,
    instant,
    instant_or_null,
    or_null,
    text,
)
from pixel_server.campaigns.campaign import DATA_KINDS, FIELDS, KINDS, WEB_ONLY, Campaign, Field
from pixel_server.slug import PATTERN

_SHOWN = ok("The campaign.", ref("Campaign"))
_CREATED = {"Location": header({"type": "string"}, "Address of the campaign, relative to this call's.")}

OPERATIONS = {
    "list_campaigns": Operation(
        "Campaigns, in the order of their ids", ok("A page of campaigns.", page("Campaign"))
    ),
    "create_campaign": Operation(
        "Create a campaign",
        {**_SHOWN, "headers": _CREATED},
        "Its pixel works at once. 409: another campaign has or had this id, or a field belongs to the other "
        "kind of campaign.",
        status=201,
        body="NewCampaign",
        problems=(409,),
    ),
    "show_campaign": Operation(
        "A campaign",
        ok("The campaign.", {"anyOf": [ref("Campaign"), ref("SharedCampaign")]}),
        f"{MAY_SHARE}. The answer is then a `SharedCampaign`.",
    ),
    "change_campaign": Operation(
        "Change a campaign",
        _SHOWN,
        "Fields that are not sent keep their values. 409: after the first hit, `time_zone` and `identity` "
        "cannot change; after the first hit or link, `mode` can only be lowered. `preset` can only be "
        "dropped (null), and a campaign with a preset keeps the mode of the preset.",
        body="CampaignChange",
        problems=(409,),
    ),
    "delete_campaign": Operation(
        "Delete a campaign and all its figures",
        description="The id can never be used again. Its pixels still answer 200, but nothing is counted.",
    ),
}

KIND = choice(KINDS, "Whether the campaign's pixel is in mails or in web pages.")


def _schema_of(field: Field) -> Schema:
    """Returns the schema of a field that a campaign's sender sets."""
    by_type: dict[str, Schema] = {
        "text": NAME,
        "integer": {"type": "integer", "minimum": field.minimum, "maximum": field.maximum},
        "instant": {"type": "string", "format": "date-time"},
        "time_zone": ref("TimeZone"),
        "url": {
            "type": "string",
            "pattern": r"^https?://[!$%&()*+,./0-9:;=@A-Z\[\]_a-z~-]+$",
            "maxLength": 500,
        },
        "mode": {"type": "string", "enum": list(field.choices)},
        "choice": {"type": "string", "enum": list(field.choices)},
        "days_by_kind": {
            "type": "object",
            "properties": {kind: {"type": "integer", "minimum": 1} for kind in DATA_KINDS},
            "additionalProperties": False,
        },
        "origins": ORIGINS,
        "tags": TAGS,
    }
    schema = {**by_type[field.type], "description": field.help}
    return or_null(schema, f"{field.help} Null: not set.") if field.is_nullable else schema


_FIELDS = {field.name: _schema_of(field) for field in FIELDS}
_SHOWN_FIELDS = {
    name: or_null(schema, f"{schema['description']} Null for an email campaign.")
    if name in WEB_ONLY
    else schema
    for name, schema in _FIELDS.items()
}

SCHEMAS = {
    "CampaignId": text("A campaign's id: lower-case letters, digits and hyphens.", pattern=f"^{PATTERN}$"),
    "TimeZone": text(
        "A name from the IANA time zone database.", minLength=1, examples=["Europe/Berlin", "UTC"]
    ),
    "Campaign": record(
        Campaign,
        without=("leaving", "gone"),
        id=ref("CampaignId"),
        kind=KIND,
        **_SHOWN_FIELDS,
        created=instant("Time of creation."),
        closed_at=instant_or_null(
            "Time from which hits are only counted, because the campaign's recipients were removed; null if "
            "not closed."
        ),
        made_by=choice(
            ("api", "hit", "demo"),
            "How the campaign was created. `hit`: by the first hit of a link, because nobody had created the "
            "campaign. `demo`: all its data is made up.",
        ),
    ),
    "NewCampaign": body(("id", "name", "kind"), id=ref("CampaignId"), kind=KIND, **_FIELDS),
    "CampaignChange": body((), **_FIELDS),
}

"""The audience of several campaigns: the recipients who opened some, all or none of them."""

from __future__ import annotations

from pixel_server.api import media_types
from pixel_server.api.openapi.operation import Operation, content, ok
from pixel_server.api.openapi.recipients import LISTED
from pixel_server.api.openapi.schema import answer, array, page, ref, with_field
from pixel_server.api.openapi.values import count, instant_or_null, text

_BASE = text("Among whom the audience was chosen, as a sentence.")
_WITHOUT_LIST = array(
    ref("CampaignId"),
    description="Campaigns without a list. Only those of their recipients are known who opened.",
)
_WHO = (
    "Chosen among the recipients who are on the list of at least one of these campaigns (by an upload, or by "
    "links made with `sent`), or have any open in one of them. Recipients who withdrew are left out. The "
    "campaigns must be open email campaigns of mode `pseudonymous` or `identified`. 404: a campaign does not "
    "exist. 409: a campaign keeps no recipients"
)

OPERATIONS = {
    "list_audience": Operation(
        "The recipients who opened some, all or none of several campaigns",
        {
            "description": "A page, in no particular order. If `Accept` names NDJSON or CSV: all recipients.",
            "content": {
                **content(
                    with_field(
                        with_field(page("AudienceRecipient"), "base", _BASE), "without_list", _WITHOUT_LIST
                    )
                ),
                **content(text("A recipient as JSON on each line."), media_types.NDJSON),
                **content(text("A recipient on each line."), media_types.CSV),
            },
        },
        f"{_WHO}, or no campaign has a list and `opened` is `none`. A page ends after about a second of "
        "work, so it may be shorter than `limit`, or empty: go on until `next` is null.",
        problems=(404, 409),
    ),
    "count_audience": Operation(
        "How many recipients opened none, one, two and all of several campaigns",
        ok("The counts.", ref("AudienceCounts")),
        f"{_WHO}. Reads all recipients: about 20 seconds for a million recipients of 20 campaigns. 503: "
        "another audience is being counted.",
        problems=(404, 409),
    ),
}

SCHEMAS = {
    "AudienceRecipient": answer(
        key=ref("RecipientKey"),
        **LISTED,
        campaigns=count("Number of these campaigns that know the recipient: on the list, or with any open."),
        opened=count("Number of these campaigns that the recipient opened, by the conditions."),
        opens=count("Opens that count by `state`, in all these campaigns, of all time."),
        last_open=instant_or_null("Time of the last of these opens; null if there is none."),
    ),
    "AudienceCounts": answer(
        recipients=count("Number of all recipients."),
        opened=array(
            count("Number of recipients."),
            description="Recipients who opened 0, 1, 2 ... and all of these campaigns, by the conditions.",
        ),
        base=_BASE,
        without_list=_WITHOUT_LIST,
    ),
}

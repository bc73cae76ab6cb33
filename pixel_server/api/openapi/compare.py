"""Campaigns side by side."""

from __future__ import annotations

from pixel_server.api.openapi.operation import call, ok, page, query
from pixel_server.api.openapi.schema import answer, array, instant, or_null, ref, text

PATHS = {
    "/api/compare": {
        "get": call(
            "compare_campaigns",
            "read",
            "Campaigns side by side",
            (404, 422),
            {200: ok("In the order asked for; one page.", page("Compared"))},
            parameters=[query("ids", text("2 to 20 ids, with commas between."), required=True)],
        ),
    },
}

_OF = (
    "Of the shares that a person opened, among recipients whose client does not hide them (`hidden` in "
    "`Stats`): this less the first. So it does not matter how many use Apple's mail."
)

SCHEMAS = {
    "Compared": answer(
        campaign=ref("CampaignId"),
        name=text("Of the campaign."),
        totals={"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
        open_rate=or_null({"type": "object"}, "As in `Stats`."),
        over={"type": "boolean", "description": "As in `Stats`."},
        closed_at=or_null(instant(""), "As in `Stats`."),
        to_first=or_null(
            answer(
                difference={"type": "number", "description": _OF},
                interval=array({"type": "number"}, minItems=2, maxItems=2, description="95 %."),
                p_value={"type": "number", "minimum": 0, "maximum": 1},
                significant={"type": "boolean", "description": "More than chance: below 0.05."},
                method=text("Of interval and test."),
            ),
            "Null: the first itself, or one of the two has no rate, or has anonymous opens.",
        ),
    ),
}

"""Figures of many campaigns at once."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import CURSOR, answer, array, mapping, ref
from pixel_server.api.openapi.values import TAG, choice, count, flag, instant, instant_or_null, or_null, text
from pixel_server.figures import campaign_order, overview

OPERATIONS = {
    "show_overview": Operation(
        "Figures of many campaigns at once",
        ok(
            "A page of campaigns.",
            answer(
                items=array(ref("InOverview")),
                next=CURSOR,
                total=count("Number of campaigns that match `q`, `kind` and `tag`."),
                as_of=instant("As in `Stats`."),
                ordered_as_of=instant("Time at which the figures that decide the order were read."),
                tags=array(
                    answer(tag=TAG, campaigns=count("Number of all campaigns with this tag.")),
                    maxItems=overview.MAX_TAGS,
                    description="The most used tags of all campaigns, the most used first.",
                ),
                estimates=mapping(ref("Estimate"), "Figures that are estimates, and how good they are."),
            ),
        ),
        "The figures shown are read anew; the figures that decide the order "
        f"are at most {campaign_order.MAX_AGE_SECONDS:g} seconds old. Campaigns whose figure is not known "
        "come last.",
    ),
}

SCHEMAS = {
    "InOverview": answer(
        ("unique_opens_person", "unique_visitors", "views"),
        campaign=ref("CampaignId"),
        name=text("Name of the campaign."),
        kind=choice(("email", "web"), "Kind of the campaign."),
        tags=array(TAG, description="As in `Campaign`."),
        created=instant("Time of creation."),
        sent_at=instant_or_null("As in `Campaign`."),
        sent=or_null(count(""), "As in `Stats`."),
        open_rate=or_null({"type": "object"}, "As in `Stats`."),
        over=flag("As in `Stats`."),
        unique_opens_person=or_null(count(""), "As in `Stats`, of all time. Only for email campaigns."),
        unique_visitors=or_null(count(""), "As in `Stats`, of all time. Only for web campaigns."),
        views=or_null(count(""), "As in `Stats`, of all time. Only for web campaigns."),
        days=array(
            or_null(count(""), "Null if the day is not kept any more."),
            minItems=overview.DAYS,
            maxItems=overview.DAYS,
            description="Opens, or views of pages, on each of the last days in the campaign's time zone. The "
            "last item is for today.",
        ),
        last_hit=instant_or_null("As in `Stats`."),
    ),
}

"""Recipients: the lists of campaigns, inactive recipients, and single recipients."""

from __future__ import annotations

from pixel_server.api import fields, media_types, uploads
from pixel_server.api.openapi.operation import Operation, content, ok
from pixel_server.api.openapi.schema import answer, array, body, mapping, page, ref
from pixel_server.api.openapi.values import (
    RECIPIENT,
    Schema,
    count,
    flag,
    instant_or_null,
    or_null,
    text,
    text_or_null,
)
from pixel_server.api.openapi.withdrawals import PERIOD
from pixel_server.counters import delivery_record
from pixel_server.figures import sorted_recipients


def _page_or_lines(item: str) -> Schema:
    return {
        "description": "A page, in no particular order. If `Accept` names NDJSON or CSV: all recipients.",
        "content": {
            **content(page(item)),
            **content(text("A recipient as JSON on each line."), media_types.NDJSON),
            **content(text("A recipient on each line."), media_types.CSV),
        },
    }


_LIST = {"type": "string", "format": "binary"}

OPERATIONS = {
    "list_recipients": Operation(
        "The recipients of a campaign, by what they did",
        _page_or_lines("Recipient"),
        "`opened`: with any open. `person`: with an open by a person, or a proxy for a person. "
        "`machine_only`: every open was a prefetch's or a scanner's. `unknown`: opened, but neither of these "
        "two. `unopened`: on the list (by an upload, or by links made with `sent`) and without an open; "
        "recipients who withdrew are left out, because their opens are dropped. `withdrawn`: withdrew. "
        "`all`: on the list, or with an open. 409: `unopened` without a list, or recipients are not kept. A "
        "page may be shorter than `limit`. With `sort`, a page costs one reading of all recipients of the "
        "campaign, some seconds of a processor for a million, and the answer is 409 for more than "
        f"{sorted_recipients.MAX_RECIPIENTS:,}. A recipient without a value comes last. `recipient` and "
        "`name` need the mode `identified`.",
        problems=(409,),
    ),
    "count_recipients": Operation(
        "How many recipients of a campaign are in each state",
        ok("The counts.", ref("RecipientCounts")),
        "Reads all recipients of the campaign, as a sorted page does. These counts can be smaller than the "
        "totals in `stats`, which stay as they are when a recipient is erased.",
        problems=(409,),
    ),
    "search_recipients": Operation(
        "Find recipients of a campaign by a part of the address or name",
        ok(
            "The recipients, the newest open first.",
            answer(
                items=array(ref("Recipient")),
                found=count("Recipients who were found. `items` has at most `limit` of them."),
            ),
        ),
        "In mode `identified`: the recipients with `text` in the recipient or name, in any case; reads all "
        "recipients, as a sorted page does. In mode `pseudonymous`: the recipient that is exactly `text`.",
        body="RecipientSearch",
        problems=(409,),
    ),
    "upload_recipients": Operation(
        "Upload the recipients of a campaign",
        ok("Lines are stored.", ref("Uploaded")),
        "A line for each recipient: NDJSON of `{recipient, name, consent_ref}`, or CSV whose first line "
        "names the columns `recipient` and, optionally, `name` and `consent_ref` (the version of the notice "
        "and the time of the consent, as `2026-05@2026-05-04T09:30:00Z`). In a campaign of the preset "
        "`consented`, a line without a consent is bad. Any number of lines, in UTF-8 or another charset. An "
        "upload adds to the list; the same list can be sent again without harm. The mails to its recipients "
        "count as sent, each once, unless `sent` is false. Names are stored in mode `identified` only, and "
        "dropped in others. Lines that cannot be used are left out; `errors` names the first "
        f"{uploads.Upload.MAX_ERRORS}, and the others are stored. 422: no line can be used. If the body is "
        "cut off, the lines that arrived completely are stored.",
        body={**content(_LIST, media_types.NDJSON), **content(_LIST, media_types.CSV)},
        problems=(409, 415, 422),
    ),
    "list_quiet": Operation(
        "Recipients of all campaigns who had mail since a day, but no open by a person since then",
        _page_or_lines("QuietRecipient"),
        "Write to these recipients once more, or stop writing to them. Who had mail is known only from "
        "lists: links made with `sent`, and uploads. The mails of an upload have the day of the campaign's "
        "`sent_at`, or else of the upload. Without lists the answer is empty. Campaigns that are closed or "
        "do not tell recipients apart are left out, and so are recipients who withdrew.",
    ),
    "find_recipient": Operation(
        "The key of a recipient, by the recipient or by the token of a link",
        ok("The key.", answer(key=ref("RecipientKey"))),
        body="RecipientQuery",
    ),
    "show_recipient": Operation(
        "Everything that is stored about one recipient", ok("The stored data.", ref("KeptOfRecipient"))
    ),
    "erase_recipient": Operation(
        "Erase one recipient, and stop the recording",
        ok(
            "The recipient is erased.",
            answer(
                key=ref("RecipientKey"),
                removed_from=array(ref("CampaignId")),
                removed=mapping(
                    {"type": "integer", "minimum": 0}, "Number of removed entries, by kind of data."
                ),
                note=text("What an erasure cannot reach."),
            ),
        ),
        "Erases the recipient in all campaigns, and in hits that wait to be counted. Sums stay as they were.",
    ),
}

LISTED = {
    "recipient": text_or_null("The recipient as uploaded, in mode `identified`; null if not stored."),
    "name": text_or_null("The name as uploaded, in mode `identified`; null if not stored."),
}
_IS_LISTED = flag(
    "Whether the recipient is on the campaign's list: by an upload, or by links made with `sent`."
)
_OPENS = {
    "opens": count("All opens."),
    "opens_person": count("Opens by a person, or by an image proxy for a person."),
    "first_open": instant_or_null("First open by anybody, also by a machine; null if none."),
    "last_open": instant_or_null("Last open by anybody, also by a machine; null if none."),
    "first_open_person": instant_or_null("First open by a person or a proxy for a person; null if none."),
    "last_open_person": instant_or_null("Last open by a person or a proxy for a person; null if none."),
}

SCHEMAS = {
    "Recipient": answer(
        key=ref("RecipientKey"),
        **LISTED,
        listed=_IS_LISTED,
        **_OPENS,
        withdrawn=flag("Whether the recipient withdrew."),
    ),
    "RecipientCounts": answer(
        opened=count("Recipients with any open."),
        person=count("Recipients with an open by a person."),
        machine_only=count("Recipients whose opens were all by machines."),
        unknown=count("Recipients of whom it is not known whether a person or a machine opened."),
        unopened=or_null(count(""), "Recipients on the list without an open; null without a list."),
        withdrawn=count("Recipients who withdrew."),
        all=count("All recipients."),
    ),
    "RecipientSearch": body(
        ("text",),
        text=RECIPIENT,
        limit={
            "type": "integer",
            "minimum": 1,
            "maximum": fields.MAX_PAGE_SIZE,
            "default": fields.PAGE_SIZE,
            "description": "Largest number of items.",
        },
    ),
    "QuietRecipient": answer(
        key=ref("RecipientKey"),
        **LISTED,
        campaigns=count("Campaigns whose mail the recipient had since that day."),
        last_open_person=instant_or_null("Last open by a person or a proxy for a person; null if none."),
    ),
    "Uploaded": answer(
        lines=count(
            "Lines that were handled, without the header and empty lines: the sum of the next four numbers."
        ),
        new=count("Recipients that were not on the list."),
        known=count("Recipients that were on the list; their newest names are stored."),
        withdrawn=count("Recipients who withdrew; they are left out."),
        bad=count("Lines that cannot be used; they are left out."),
        errors=array(
            answer(
                line=count("Number of the line, from 1."),
                field={"const": "line"},
                message=text("What is wrong with the line."),
            ),
            maxItems=uploads.Upload.MAX_ERRORS,
            description="Why lines were left out.",
        ),
        warnings=array(
            answer(
                line=count("Number of the line, from 1."),
                field={"enum": ["recipient", "name"]},
                message=text("What the sender of the list should know."),
            )
        ),
    ),
    "RecipientKey": text("The keyed hash of a recipient.", pattern="^[0-9a-f]{16}$"),
    "RecipientQuery": {
        "oneOf": [
            body(("recipient",), recipient=RECIPIENT),
            body(("token",), token=text("The token of a link.")),
        ]
    },
    "RecipientList": body(
        ("recipients",), recipients=array(RECIPIENT, minItems=1, maxItems=fields.MAX_RECIPIENTS)
    ),
    "KeptOfRecipient": answer(
        key=ref("RecipientKey"),
        campaigns=array(
            answer(
                campaign=ref("CampaignId"),
                listed=_IS_LISTED,
                **LISTED,
                consent_ref=text_or_null(
                    "The version of the notice to which the recipient agreed, and the time of the consent: "
                    "`2026-05@2026-05-04T09:30:00Z`; null if none is stored."
                ),
                last_mail_day=or_null(
                    text("", format="date"), "Day of the last mail that is known to be sent; null if none."
                ),
                deliveries=array(
                    {"enum": list(delivery_record.KINDS)},
                    description="What mail services reported of the recipient's mails.",
                ),
                **_OPENS,
                opens_prefetch=count("Opens by a machine that loads images whether or not the mail is read."),
                opens_scanner=count("Opens by a scanner."),
                time_to_open=or_null(
                    {"type": "number", "minimum": 0},
                    "Seconds from sending to `first_open_person`, to within 5 %; null if not known.",
                ),
                hidden=flag("Whether the mail program loads all images by machine."),
                top=flag("Whether the mail's upper pixel was loaded."),
                bottom=flag("Whether the mail's lower pixel was loaded."),
            )
        ),
        last_open_day=or_null(
            text("", format="date"), "UTC day of the last open in mode `last`, over all campaigns."
        ),
        withdrawals=array(PERIOD),
        waiting=flag("Whether hits that may be this recipient's still wait to be counted."),
    ),
}

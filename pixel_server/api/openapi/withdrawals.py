"""Withdrawals: the recipients who are not recorded."""

from __future__ import annotations

from pixel_server.api.media_types import CSV, NDJSON
from pixel_server.api.openapi.operation import Operation, content, ok
from pixel_server.api.openapi.schema import answer, array, page
from pixel_server.api.openapi.values import count, instant_or_null, text

OPERATIONS = {
    "list_withdrawals": Operation(
        "Withdrawals, in no particular order",
        {
            "description": "A page of withdrawals. If `Accept` names NDJSON or CSV: all withdrawals.",
            "content": {
                **content(page("Withdrawal")),
                **content(text("A withdrawal as JSON on each line, with its consents."), NDJSON),
                **content(text("A line for each period and consent."), CSV),
            },
        },
        "As NDJSON or CSV, each withdrawal has the consents of the recipient that are stored: campaign and "
        "`consent_ref`.",
    ),
    "add_withdrawals": Operation(
        "Stop the recording of these recipients",
        ok(
            "They are not recorded any more.",
            answer(
                withdrawn=count("Number of recipients in the body."),
                new=count("Recipients among them that were recorded until now."),
            ),
        ),
        body="RecipientList",
    ),
    "end_withdrawals": Operation(
        "Record these recipients again",
        ok("They are recorded again.", answer(allowed=count("Recipients whose withdrawal ended."))),
        body="RecipientList",
    ),
}

PERIOD = answer(
    **{
        "from": instant_or_null("Null: an erasure, which drops hits of any earlier time."),
        "until": instant_or_null("Null: the withdrawal still holds."),
    }
)

SCHEMAS = {
    "Withdrawal": answer(
        mark=text("A hash of the recipient's key that is used nowhere else.", pattern="^[0-9a-f]{16}$"),
        periods=array(PERIOD),
    ),
}

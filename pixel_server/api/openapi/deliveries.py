"""What mail services report: events in NDJSON."""

from __future__ import annotations

from pixel_server.api import media_types
from pixel_server.api.openapi.operation import Operation, content, ok
from pixel_server.api.openapi.schema import answer, array, mapping, ref
from pixel_server.api.openapi.values import count, text
from pixel_server.deliveries import event, lines

OPERATIONS = {
    "add_deliveries": Operation(
        "Add events of mails: delivered, bounced, complained, unsubscribed",
        ok("What was counted.", ref("AddedDeliveries")),
        "A line is an object with `recipient`, `event` (`delivered`, `bounced_hard`, `bounced_soft`, "
        "`complained` or `unsubscribed`) and, if known, its `time`; other fields are ignored. Recipients are "
        "counted, so lines can come in any order and again. A bad line is left out and named; at most "
        f"{lines.MAX_LINE_BYTES >> 10} kB a line. If the body is cut off, the lines that arrived completely "
        "are counted. 409: the campaign keeps no recipients, or no longer.",
        body=content(text("An event as JSON on each line."), media_types.NDJSON),
        problems=(415, 422),
    ),
}

IGNORED = mapping(
    {"type": "integer", "minimum": 0},
    "Number of events that were not counted, by reason: `other_event`, `no_campaign`, `unknown_campaign`, "
    "`keeps_no_recipients` or `closed`.",
)
COUNTS = {
    "new": count("Recipients of whom something new was reported."),
    "known": count("Recipients of whom all was known."),
    "withdrawn": count("Recipients who withdrew; they are left out."),
    "ignored": IGNORED,
}

SCHEMAS = {
    "AddedDeliveries": answer(
        lines=count("Number of the last line that was handled."),
        **COUNTS,
        bad=count("Lines that cannot be used; they are left out."),
        errors=array(
            answer(
                line=count("Number of the line, from 1."),
                field={"const": "line"},
                message=text("What is wrong with the line."),
            ),
            maxItems=event.MAX_ERRORS,
            description="Why lines were left out.",
        ),
    ),
}

"""Reports of mail services: their sources, and events in NDJSON."""

from __future__ import annotations

from pixel_server.api import media_types
from pixel_server.api.openapi.operation import Operation, content, ok
from pixel_server.api.openapi.schema import answer, array, body, mapping, page, ref, with_field
from pixel_server.api.openapi.values import (
    NAME,
    choice,
    count,
    flag,
    instant,
    instant_or_null,
    or_null,
    text,
)
from pixel_server.deliveries import event, lines, sources
from pixel_server.deliveries.providers import PROVIDERS

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
    "list_sources": Operation(
        "Sources: mail services that report events, oldest first",
        ok("A page of sources.", page("Source")),
    ),
    "add_source": Operation(
        "Add a mail service",
        ok("The source. Only this answer shows its address.", ref("NewSource")),
        "Enter `url` at the mail service as the address of its webhook. 409: there are "
        f"{sources.MAX_SOURCES} sources already, or no base URL is set.",
        status=201,
        body="SourceRequest",
        problems=(409,),
    ),
    "set_source_key": Operation(
        "Set the key of a source",
        None,
        "Some mail services show the key only after the address is entered.",
        body="SourceKey",
    ),
    "remove_source": Operation("Remove a source; its address takes no more events"),
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

_KEY = text(
    "What the provider signs with. "
    + " ".join(f"`{name}`: {provider.key_help}." for name, provider in PROVIDERS.items())
    + " The server never shows it."
)
_SOURCE = answer(
    id=ref("SourceId"),
    provider=choice(tuple(PROVIDERS), "The mail service."),
    name=NAME,
    created=instant("Time of creation."),
    made_by=text("`key ID`, `command line`, or a user of the proxy."),
    has_key=flag("Whether its key is set."),
    needs_key=flag("Whether it takes no events because its key is not set."),
    last_used=instant_or_null("Time of the last request with events; null if none came."),
    counted=count("Events that were counted."),
    ignored=count("Events that were not counted."),
)

SCHEMAS = {
    "SourceId": text("A source's id, not its secret.", pattern=f"^{sources.ID_PATTERN}$"),
    "Source": _SOURCE,
    "NewSource": with_field(
        _SOURCE, "url", text("The address. Whoever has it can report events that are not signed.")
    ),
    "SourceRequest": body(
        ("provider", "name"),
        provider=choice(tuple(PROVIDERS), "The mail service."),
        name=NAME,
        key=or_null(_KEY, _KEY["description"]),
    ),
    "SourceKey": body(("key",), key=_KEY),
    "AddedDeliveries": answer(
        lines=count("Lines that were handled, without empty lines. Several can be about one recipient."),
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

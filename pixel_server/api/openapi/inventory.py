"""The inventory of stored data."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import CURSOR, answer, array, ref
from pixel_server.api.openapi.values import count, instant, text, text_or_null
from pixel_server.figures import inventory_cache

OPERATIONS = {
    "show_kept": Operation(
        "What is stored now, by kind of data",
        ok(
            "A page of kinds.",
            answer(
                items=array(ref("Kept")),
                next=CURSOR,
                as_of=instant("Time at which the store was read."),
            ),
        ),
        f"Counts only, no data. It reads the whole store, at most every {inventory_cache.FRESH_SECONDS} s.",
    ),
}

SCHEMAS = {
    "Kept": answer(
        data=text("The kind of data, as `recipients`."),
        holds=text("What the data holds."),
        number=count("How many there are, in `unit`."),
        unit=text("What `number` counts."),
        oldest=text_or_null("A day or an instant of UTC; null if the kind is empty or has no times."),
        kept_for=text("How long it is kept, by this server's settings; a campaign may keep less."),
        where=text("Its keys in Redis, or its place on disk."),
    ),
}

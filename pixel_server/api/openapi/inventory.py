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
        "Numbers only, not the data itself. They are counted at most once in "
        f"{inventory_cache.FRESH_SECONDS} s, because counting reads the whole store.",
    ),
}

SCHEMAS = {
    "Kept": answer(
        data=text("The kind of data, such as `recipients`."),
        holds=text("The contents of an entry."),
        number=count("Number of entries; `unit` says what an entry is."),
        unit=text("What `number` counts."),
        oldest=text_or_null(
            "Day or instant of the oldest entry, in UTC; null if there is no entry or entries have no times."
        ),
        kept_for=text(
            "How long entries are kept by this server's settings; a campaign may set a shorter time."
        ),
        where=text("The keys in Redis, or the place on disk."),
    ),
}

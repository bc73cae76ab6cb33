"""What is kept of people, by kind of data."""

from __future__ import annotations

from pixel_server.api.openapi.operation import call, ok
from pixel_server.api.openapi.schema import answer, array, count, instant, or_null, ref, text
from pixel_server.figures import inventory_cache

PATHS = {
    "/api/kept": {
        "get": call(
            "show_kept",
            "read",
            "What is kept of people now, by kind of data",
            (),
            {
                200: ok(
                    "All of it: there is one page.",
                    answer(
                        items=array(ref("Kept")),
                        next=or_null(text(""), "Always null."),
                        as_of=instant("When this was looked up."),
                    ),
                )
            },
            description=(
                "Numbers and no one's data. It reads the whole store, "
                f"at most every {inventory_cache.FRESH_SECONDS} s."
            ),
        )
    },
}

SCHEMAS = {
    "Kept": answer(
        data=text("What it is, as `recipients`."),
        holds=text("What is in it."),
        number=count("Of it, in `unit`."),
        unit=text("What `number` counts."),
        oldest=or_null(text(""), "A day or an instant of UTC; null: there is none, or it has no time."),
        kept_for=text("For how long, by the settings of this server; a campaign may keep less."),
        where=text("Its keys in Redis, or its place on disk."),
    ),
}

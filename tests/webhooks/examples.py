"""The examples of docs/webhooks.md, made by the code. `python -m tests.webhooks.examples` writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pixel_server.webhooks import event, health
from pixel_server.webhooks.event import Event

DOCS = Path(__file__).parent.parent.parent / "docs" / "webhooks.md"
ADA = bytes.fromhex("5382cefc0673d008")
AT = 1_795_509_000_250
_ID = "evt_48bc08aabcd9ae1c82e5c0fa93b7d223"
_OPEN = {"verdict": "person", "rule": "mail-client", "client": "Thunderbird", "country": "DE"}

EVENTS: tuple[Event, ...] = (
    event.make(_ID, event.FIRST_OPEN, AT, "spring", ADA, **_OPEN),
    event.make(_ID, event.EACH_OPEN, AT, "spring", ADA, **(_OPEN | {"verdict": "proxy", "country": None})),
    event.make(_ID, event.CORRECTION, AT, "spring", ADA, corrects=[_ID], opens_taken_back=1, first_open=None),
    event.make(_ID, event.WITHDRAWAL, AT, "", ADA, state="withdrawn"),
    event.make(_ID, event.MILESTONE, AT, "spring", percent=25, opened=1270, sent=5000),
    health.make_event(health.Change("spool", True, "hits wait on the disk of web-1"), AT),
)


def example(made: Event) -> str:
    """Returns the body of a request, as the documents show it."""
    names: dict[str, str | None] = {"recipient": "ada@example.org", "name": "Ada"}
    is_named = made.type == event.FIRST_OPEN
    return json.dumps(event.payload(made, names if is_named else None), indent=2)


def written(text: str) -> str:
    """Returns the text of the documents with the examples of the code, each below the heading of its type."""
    for made in EVENTS:
        block = rf"(### `{re.escape(made.type)}`\n(?:(?!### ).)*?```json\n).*?(\n```)"
        text, found = re.subn(block, lambda at, one=made: at[1] + example(one) + at[2], text, flags=re.DOTALL)
        assert found == 1, f"docs/webhooks.md has no example of {made.type}"
    return text


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))

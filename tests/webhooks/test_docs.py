"""The examples of the documents are what the code sends."""

from __future__ import annotations

from pixel_server.webhooks import event, queue, storage
from tests.webhooks import examples
from workers import webhook_delivery


def test_docs_examples_are_made_by_the_code():
    text = examples.DOCS.read_text()
    assert text == examples.written(text), "run `python -m tests.webhooks.examples`"
    assert {made.type for made in examples.EVENTS} == {*event.TYPES, event.CORRECTION}


def test_docs_numbers_are_those_of_the_code():
    text = examples.DOCS.read_text()
    assert "for a day, requests are signed with both" in text
    assert storage.OVERLAP_SECONDS == queue.MAX_AGE_SECONDS == 86_400
    assert "2 seconds, then 8, 32 and so on, up to 4 hours, for a day" in text
    waits = [webhook_delivery.FIRST_RETRY_SECONDS * webhook_delivery.RETRY_FACTOR**n for n in range(3)]
    assert (waits, webhook_delivery.MAX_RETRY_SECONDS) == ([2, 8, 32], 4 * 3600)
    assert f"up to {webhook_delivery.MAX_PAUSE_SECONDS / 60:.0f} minutes" in text

"""Webhooks: their endpoints, what waits for them, and their deliveries."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import answer, array, body, page, ref, with_field
from pixel_server.api.openapi.values import (
    ONE_LINE,
    choice,
    count,
    flag,
    instant,
    instant_or_null,
    or_null,
    text,
    text_or_null,
)
from pixel_server.api.webhooks import MAX_UNITS
from pixel_server.scopes import SCOPES
from pixel_server.slug import PATTERN
from pixel_server.webhooks import deliveries, endpoint, storage
from pixel_server.webhooks.event import TYPES

_AGAIN = answer(sent_again=count("Number of requests that are due now."))
_QUEUED = answer(webhook_id=text("Id of the event: the `webhook-id` of its request."))
_WITH_SECRET = ok("The webhook. Only this answer shows the secret.", ref("NewWebhook"))

OPERATIONS = {
    "list_webhooks": Operation("Webhooks, oldest first", ok("A page of webhooks.", page("Webhook"))),
    "create_webhook": Operation(
        "Create a webhook: an address to which events are sent",
        _WITH_SECRET,
        "Events on recipients need the scope `people`. 409: there are "
        f"{storage.MAX_ENDPOINTS} webhooks already.",
        status=201,
        body="WebhookRequest",
        problems=(409,),
    ),
    "show_webhook": Operation("A webhook", ok("The webhook.", ref("Webhook")), problems=(409,)),
    "change_webhook": Operation(
        "Change a webhook, or enable it again",
        ok("The changed webhook.", ref("Webhook")),
        "A webhook that gets events on recipients is changed with the scope `people` only.",
        body="WebhookChange",
        problems=(409,),
    ),
    "delete_webhook": Operation("Delete a webhook, with all that waits for it"),
    "rotate_webhook_secret": Operation(
        "Give a webhook a new secret",
        _WITH_SECRET,
        "The old secrets sign too, for `overlap_seconds`.",
        body="WebhookSecretRequest",
        problems=(409,),
    ),
    "test_webhook": Operation(
        "Send a test event",
        ok("The event waits to be sent.", _QUEUED),
        "Its answer is in the deliveries. 409: the webhook is disabled.",
        status=202,
        problems=(409,),
    ),
    "send_webhook_again": Operation(
        "Send requests again now",
        ok("The requests are due.", _AGAIN),
        "Requests that were delivered are not kept, and cannot be sent again. 409: the webhook is disabled.",
        status=202,
        body="WebhookAgainRequest",
        problems=(409,),
    ),
    "list_webhook_queue": Operation(
        "Requests that wait for a webhook, or were set aside, oldest first",
        ok("A page of requests.", page("WaitingRequest")),
        problems=(409,),
    ),
    "list_webhook_deliveries": Operation(
        "Tries to deliver to a webhook, newest first",
        ok("A page of tries.", page("Delivery")),
        f"The last {deliveries.MAX_LINES} are kept. They name no recipient.",
        problems=(409,),
    ),
}

_EVENTS = array({"enum": list(TYPES)}, minItems=1, uniqueItems=True)
_CAMPAIGNS = array(text("A campaign's id.", pattern=f"^{PATTERN}$"), maxItems=endpoint.MAX_CAMPAIGNS)
_URL = text(
    "An https address. Private addresses and http need `PIXEL_WEBHOOK_PRIVATE=1`.",
    pattern="^https?://[!-~]+$",
    maxLength=endpoint.MAX_URL_CHARACTERS,
)
_NAME = text(
    "A text for people, without control characters.",
    maxLength=endpoint.MAX_NAME_CHARACTERS,
    pattern=rf"^{ONE_LINE}*$",
)
_SECRET = or_null(
    text("", pattern="^whsec_[A-Za-z0-9+/]+={0,2}$"),
    "Your own secret: `whsec_` and 24 to 64 bytes in base64. null for a random one.",
)
_PER_REQUEST = {
    "type": "integer",
    "minimum": 1,
    "maximum": endpoint.MAX_EVENTS_PER_REQUEST,
    "description": "1, or the largest number of events in the list that each request carries.",
}
_FIELDS = {"url": _URL, "name": _NAME, "events": _EVENTS, "campaigns": _CAMPAIGNS}

_WEBHOOK = answer(
    id=ref("WebhookId"),
    url=text("Address to which requests go."),
    name=text("A text for people; it may be empty."),
    events=array({"enum": list(TYPES)}),
    campaigns=array(text("A campaign's id; none stands for all campaigns.")),
    events_per_request=_PER_REQUEST,
    secrets=array(
        answer(
            hint=text("Last 4 characters of the secret."),
            until=instant_or_null("Time at which it stops signing."),
        ),
        description="Secrets, newest first.",
    ),
    is_enabled=flag("Whether events are sent."),
    disabled_because=text("Why this server disabled it, such as `answered 410 Gone`; empty if it did not."),
    scopes=array({"enum": list(SCOPES)}, description="Scopes of the key that made it."),
    created=instant("Time of creation."),
    made_by=text("Who made it, as in the audit log."),
    waiting=count("Requests that wait."),
    aside=count("Requests that were set aside after a day of failures."),
    waiting_events=count("Events in these requests."),
    state=answer(
        sent=count("Events delivered."),
        failed=count("Tries that failed."),
        dropped=count("Events dropped because too many waited."),
        failures=count("Failures since the last success."),
        failing_since=instant_or_null("Time of the first failure after the last success."),
        paused_until=instant_or_null("Nothing is sent before."),
        last_success=instant_or_null("Time of the last success."),
        last_failure=instant_or_null("Time of the last failure."),
        last_error=text("What the last failure was."),
    ),
)

SCHEMAS = {
    "WebhookId": text("A webhook's id.", pattern="^[0-9a-f]{10}$"),
    "Webhook": _WEBHOOK,
    "NewWebhook": with_field(_WEBHOOK, "secret", text("The secret that signs requests: `whsec_...`.")),
    "WebhookRequest": body(("url", "events"), **_FIELDS, events_per_request=_PER_REQUEST, secret=_SECRET),
    "WebhookChange": body(
        (), **_FIELDS, is_enabled=flag("false stops sending; what waits stays, and what happens is not sent.")
    ),
    "WebhookSecretRequest": body(
        (),
        secret=_SECRET,
        overlap_seconds={
            "type": "integer",
            "minimum": 0,
            "maximum": storage.MAX_OVERLAP_SECONDS,
            "default": storage.OVERLAP_SECONDS,
            "description": "Seconds for which the old secrets sign too.",
        },
    ),
    "WebhookAgainRequest": body(
        (),
        webhook_ids=or_null(
            array(text("", pattern="^[A-Za-z0-9_]{1,64}$"), minItems=1, maxItems=MAX_UNITS),
            "Ids of requests. Without ids: all that were set aside.",
        ),
    ),
    "WaitingRequest": answer(
        webhook_id=text("The `webhook-id` of the request."),
        type=text("Type of the event; `list` for a request with several events."),
        tries=count("Tries so far."),
        queued=instant("Time at which it was queued."),
        due=instant_or_null("Time of the next try; null if it was set aside."),
        set_aside=instant_or_null("Time at which it was set aside; null if it waits."),
        events=array(text("An event's id.")),
    ),
    "Delivery": answer(
        at=instant("Time of the try."),
        webhook_id=text("The `webhook-id` of the request."),
        type=text("Type of the event; `list` for a request with several events."),
        events=count("Number of events."),
        attempt=count("Number of the try, from 1."),
        status=or_null({"type": "integer"}, "Status of the answer; null without an answer."),
        ms=count("Milliseconds until the answer, or until it was clear that none comes."),
        answer=text_or_null("Beginning of the answer, or why there was none."),
        outcome=choice(("delivered", "retry", "set aside"), "What followed from this try."),
        was_sent=flag("False if this server refused to send the request; `answer` says why."),
    ),
}

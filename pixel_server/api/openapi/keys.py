"""API keys."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import answer, array, body, page, record, ref, with_field
from pixel_server.api.openapi.values import NAME, count, instant, instant_or_null, text
from pixel_server.auth.api_keys import ApiKey
from pixel_server.scopes import CAMPAIGN_SCOPE, MAX_SCOPES, METRICS_SCOPE, SCOPES
from pixel_server.slug import PATTERN

OPERATIONS = {
    "list_keys": Operation("API keys, oldest first", ok("A page of keys.", page("ApiKey"))),
    "create_key": Operation(
        "Create an API key",
        ok("The key. Only this answer shows it; the server stores only a hash.", ref("NewApiKey")),
        status=201,
        body="KeyRequest",
    ),
    "revoke_key": Operation("Revoke an API key"),
    "create_sign_in_link": Operation(
        "Make a link that signs in to the dashboard with an API key",
        ok("The link. Only this answer shows it.", ref("SignInLink")),
        "The link works once. The key must not have scopes that the caller's key lacks.",
        status=201,
        problems=(409,),
    ),
}

_SCOPE = {
    "anyOf": [
        {"enum": [*SCOPES, METRICS_SCOPE]},
        text(
            "Reads only the shared figures of one campaign: `read:docs`.",
            pattern=f"^{CAMPAIGN_SCOPE}{PATTERN}$",
        ),
    ]
}
_API_KEY = record(
    ApiKey,
    id=ref("ApiKeyId"),
    name=NAME,
    scopes=array(_SCOPE, minItems=1, uniqueItems=True),
    created=instant("Time of creation."),
    last_used=instant_or_null("Time of the last use, to the minute; null if never used."),
)

SCHEMAS = {
    "ApiKeyId": text("An API key's id.", pattern="^[0-9a-f]{12}$"),
    "ApiKey": _API_KEY,
    "NewApiKey": with_field(_API_KEY, "key", text("The key itself.")),
    "SignInLink": answer(url=text("The link."), seconds=count("Seconds for which it works.")),
    "KeyRequest": body(("name", "scopes"), name=NAME, scopes=array(_SCOPE, minItems=1, maxItems=MAX_SCOPES)),
}

"""API keys."""

from __future__ import annotations

from pixel_server.api.openapi.operation import BODY, GONE, call, ok, page, path
from pixel_server.api.openapi.schema import NAME, answer, array, instant, or_null, ref, taken, text
from pixel_server.auth.api_keys import CAMPAIGN_SCOPE, MAX_SCOPES, SCOPES
from pixel_server.slug import PATTERN

PATHS = {
    "/api/keys": {
        "get": call(
            "list_keys",
            "read",
            "API keys, oldest first",
            (),
            {200: ok("All of them: there is one page.", page("ApiKey"))},
        ),
        "post": call(
            "create_key",
            "write",
            "Make an API key",
            BODY,
            {201: ok("The key: shown this once, kept as a hash.", ref("NewApiKey"))},
            body="KeyRequest",
        ),
    },
    "/api/keys/{id}": {
        "parameters": [path("id", "An API key's id, not the key.", ref("ApiKeyId"))],
        "delete": call("revoke_key", "write", "Revoke an API key", (404,), {204: GONE}),
    },
}

_OF_ONE = text("Of this campaign, what may be shared.", pattern=f"^{CAMPAIGN_SCOPE}{PATTERN}$")
_SCOPE = {"anyOf": [{"enum": list(SCOPES)}, _OF_ONE]}

_API_KEY = {
    "id": ref("ApiKeyId"),
    "name": NAME,
    "scopes": array(_SCOPE, minItems=1, uniqueItems=True),
    "created": instant("When it was made."),
    "last_used": or_null(instant(""), "To the minute; null: never."),
}

SCHEMAS = {
    "ApiKeyId": text("An API key's id.", pattern="^[0-9a-f]{12}$"),
    "ApiKey": answer(**_API_KEY),
    "NewApiKey": answer(**_API_KEY, key=text("The key itself.")),
    "KeyRequest": taken(("name", "scopes"), name=NAME, scopes=array(_SCOPE, minItems=1, maxItems=MAX_SCOPES)),
}

"""Share links of a campaign."""

from __future__ import annotations

from pixel_server.api import fields
from pixel_server.api.openapi.operation import BODY, CAMPAIGN, GONE, call, ok, page, path
from pixel_server.api.openapi.schema import NAME, answer, array, instant, or_null, ref, taken, text
from pixel_server.auth import share_links
from pixel_server.campaigns.campaign import MAX_ORIGINS

PATHS = {
    "/api/campaigns/{id}/shares": {
        "parameters": [CAMPAIGN],
        "get": call(
            "list_shares",
            "read",
            "Share links of a campaign, oldest first, those that have expired too",
            (404,),
            {200: ok("All of them: there is one page.", page("Share"))},
        ),
        "post": call(
            "make_share",
            "write",
            "Make a share link of a campaign",
            (*BODY, 404, 409),
            {201: ok("The link: shown this once, kept as a hash.", ref("NewShare"))},
            description=(
                "Who has it sees what a key of the scope `read:CAMPAIGN` is shown, without a key. 409: "
                f"the campaign has {share_links.MAX_SHARES} already, or no base URL is set."
            ),
            body="ShareRequest",
        ),
    },
    "/api/campaigns/{id}/shares/{share}": {
        "parameters": [CAMPAIGN, path("share", "A share link's id.", ref("ShareId"))],
        "delete": call("revoke_share", "write", "Revoke a share link", (404,), {204: GONE}),
    },
}

_AT = {"type": "string", "format": "date-time"}

_FRAMES = array(
    {"type": "string", "pattern": fields.ORIGIN},
    maxItems=MAX_ORIGINS,
    description="Origins whose pages may frame it, as `https://www.example.org`; none: nobody may.",
)
_SHARE = {
    "id": ref("ShareId"),
    "campaign": ref("CampaignId"),
    "name": NAME,
    "created": instant("When it was made."),
    "made_by": text("`key ID` or `command line`."),
    "expires_at": or_null(_AT, "From then on it opens nothing; null: never."),
    "frames": _FRAMES,
    "last_used": or_null(_AT, "The hour in which it last was; null: never."),
}

SCHEMAS = {
    "ShareId": text("A share link's id, not its token.", pattern=f"^{share_links.ID_PATTERN}$"),
    "Share": answer(**_SHARE),
    "NewShare": answer(**_SHARE, url=text("The link itself. Who has it sees the shared figures.")),
    "ShareRequest": taken(
        ("name",),
        name=NAME,
        expires_at=or_null(_AT, "In the future, to the second, until 2106. Null, the default: never."),
        frames=_FRAMES,
    ),
}

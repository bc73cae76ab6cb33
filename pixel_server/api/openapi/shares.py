"""Share links of a campaign."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import body, page, record, ref, with_field
from pixel_server.api.openapi.values import NAME, ORIGINS, instant, instant_or_null, text
from pixel_server.auth import share_links

OPERATIONS = {
    "list_shares": Operation(
        "Share links of a campaign, oldest first, including expired links",
        ok("A page of links.", page("Share")),
    ),
    "make_share": Operation(
        "Make a share link of a campaign",
        ok("The link. Only this answer shows it; the server stores only a hash.", ref("NewShare")),
        "Whoever has the link sees the shared figures of the campaign, without an API key. 409: the "
        f"campaign has {share_links.MAX_SHARES} links already, or no base URL is set.",
        status=201,
        body="ShareRequest",
        problems=(409,),
    ),
    "revoke_share": Operation("Revoke a share link"),
}

_FRAMES = {
    **ORIGINS,
    "description": "Origins of the pages that may show the link's page in a frame, such as "
    "`https://www.example.org`. If empty, no page may do so.",
}
_SHARE = record(
    share_links.Share,
    id=ref("ShareId"),
    campaign=ref("CampaignId"),
    name=NAME,
    created=instant("Time of creation."),
    made_by="`key ID` or `command line`.",
    expires_at=instant_or_null("Time at which the link expires; null if it does not expire."),
    frames=_FRAMES,
    last_used=instant_or_null("Hour of the last use; null if never used."),
)

SCHEMAS = {
    "ShareId": text("A share link's id, not its token.", pattern=f"^{share_links.ID_PATTERN}$"),
    "Share": _SHARE,
    "NewShare": with_field(_SHARE, "url", text("The link. Whoever has the link sees the shared figures.")),
    "ShareRequest": body(
        ("name",),
        name=NAME,
        expires_at=instant_or_null(
            "A time in the future, to the second, until 2106. Null, the default: the link does not expire."
        ),
        frames=_FRAMES,
    ),
}

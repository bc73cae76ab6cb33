"""Pixel links of an email campaign."""

from __future__ import annotations

from pixel_server.api import fields, links
from pixel_server.api.openapi.operation import Operation, content
from pixel_server.api.openapi.schema import answer, array, body, ref
from pixel_server.api.openapi.values import RECIPIENT, choice, flag, instant, text, text_or_null
from pixel_server.tokens import MODES

OPERATIONS = {
    "make_links": Operation(
        "Make pixel links of an email campaign",
        {
            "description": "A link for each recipient, in the order of `recipients`.",
            "content": {
                **content(answer(links=array(ref("Link")))),
                **content(text("A link as JSON on each line."), "application/x-ndjson"),
            },
        },
        "No link is stored. In a campaign of the preset `consented`, a recipient without a stored consent "
        "gets a link of mode `count`. 422: `errors` names each bad row, counted from 0, and no link is made. "
        "409: the campaign is for the web or is closed, or no base URL is set. NDJSON if `Accept` names it.",
        body="Recipients",
        problems=(409,),
    ),
}

_CONSENT_PATTERN = (
    r"^[!-~]([ -~]{0,98}[!-~])?@20[0-9]{2}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|"
    r"(0[13578]|1[02])-31)T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
)
"""Pattern of most references of consent. `consent_ref.parse` accepts more: other characters and offsets."""

_ROW = body(
    ("recipient",),
    recipient=RECIPIENT,
    mode=choice(
        MODES,
        "What is stored about the recipient; `off`: no pixel. The default is the campaign's mode; a higher "
        "mode is refused.",
    ),
    part=choice(
        links.PARTS, "Place of the pixel in the mail. A `bottom` pixel counts no open.", default="single"
    ),
    sent_at=instant("Time of sending, to the second, 1970 to 2106. Default: not known."),
    consent_ref=text(
        "The recipient's consent: the version of the notice, and the time. It is stored, and is not part of "
        "the link.",
        pattern=_CONSENT_PATTERN,
        examples=["2026-05@2026-05-04T09:30:00Z"],
    ),
    test={**flag("Whether the mail is a test mail of the sender."), "default": False},
)

SCHEMAS = {
    "Recipients": body(
        ("recipients",),
        recipients=array({"anyOf": [RECIPIENT, _ROW]}, minItems=1, maxItems=fields.MAX_RECIPIENTS),
        sent={
            **flag(
                "Whether the mails count as sent. If so, the recipients are put on the campaign's list, and "
                "each recipient counts once. In modes that do not tell recipients apart, they are counted "
                "again at each call."
            ),
            "default": False,
        },
    ),
    "Link": answer(
        recipient=RECIPIENT,
        url=text_or_null("The pixel's address; null in mode `off`."),
        html=text_or_null("The image tag for the mail; null in mode `off`."),
        privacy_url=text_or_null("The page that shows the recipient what is recorded, and can stop it."),
    ),
}

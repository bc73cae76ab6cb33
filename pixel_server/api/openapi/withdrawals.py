"""Withdrawals: who is not recorded."""

from __future__ import annotations

from pixel_server.api.openapi.operation import BODY, call, content, ok, page, query
from pixel_server.api.openapi.schema import answer, array, instant, or_null, ref, text

_NAMED = {"required": True, "content": content(ref("RecipientList"))}
_NUMBER = {"type": "integer", "minimum": 0}

PATHS = {
    "/api/withdrawals": {
        "get": call(
            "list_withdrawals",
            "people",
            "Who is not recorded, in no order",
            (422,),
            {200: ok("A page of them.", page("Withdrawal"))},
            parameters=[query("after", text("`next` of the page before.", pattern="^[0-9]{1,19}$"))],
        ),
        "post": call(
            "add_withdrawals",
            "people",
            "Record no more of these recipients",
            BODY,
            {200: ok("It holds.", answer(withdrawn=_NUMBER, new=_NUMBER))},
            requestBody=_NAMED,
        ),
        "delete": call(
            "end_withdrawals",
            "people",
            "Record these recipients again",
            BODY,
            {200: ok("It holds.", answer(allowed=_NUMBER))},
            requestBody=_NAMED,
        ),
    },
}

PERIOD = answer(
    **{
        "from": or_null(instant(""), "Null: an erasure, which reaches hits of any time before."),
        "until": or_null(instant(""), "Null: it holds."),
    }
)

SCHEMAS = {
    "Withdrawal": answer(
        mark=text("A hash of the recipient's key, used nowhere else.", pattern="^[0-9a-f]{16}$"),
        periods=array(PERIOD),
    ),
}

"""What an error is answered with."""

from __future__ import annotations

from typing import Any

from pixel_server.api import request_body, request_stream
from pixel_server.api.openapi.operation import content, header
from pixel_server.api.openapi.schema import answer, array, count, ref, text
from pixel_server.problems import TYPE

_STATUSES = {
    400: "The body is not JSON in UTF-8, is nested too deeply, or has a key twice in one object; or there "
    "are more than 200 parameters.",
    401: "No API key was sent, or none that is known.",
    403: "The API key has not the scope that this call needs.",
    404: "There is nothing of this id; perhaps no longer.",
    409: "It cannot be done as things stand; `detail` says why.",
    408: f"The body did not come within {request_stream.BODY_TIMEOUT_SECONDS:.0f} seconds.",
    413: f"The body has more than {request_body.MAX_BODY_BYTES} bytes.",
    429: "The API key is not known, and many wrong ones come at the moment. A known key never gets this.",
    415: "The body is not sent as `application/json`.",
    422: "The input cannot be used; `errors` names each bad field, up to 100 of them.",
    503: "Redis does not answer, or not with what was asked. Nothing is known to be done: try again.",
}


def _problem(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _STATUSES[status],
        "content": content(ref("Problem"), TYPE),
    }
    if status == 401:
        found["headers"] = {"WWW-Authenticate": header({"const": "Bearer"}, "How to send the key.")}
    if status in (429, 503):
        seconds = header({"type": "integer"}, "Seconds to wait.", required=False)
        found["headers"] = {"Retry-After": seconds}
    return found


RESPONSES = {str(status): _problem(status) for status in _STATUSES}

SCHEMAS = {
    "Problem": answer(
        ("errors", "errors_left_out"),
        type=text("Always `about:blank`.", format="uri-reference"),
        title=text("The status in words."),
        status={"type": "integer", "minimum": 400, "maximum": 599},
        detail=text("What is wrong, and what helps."),
        errors=array(
            answer(
                ("row", "line"),
                row=count("In a list: which of them, from 0."),
                line=count("In an upload: which line, from 1."),
                field=text("The field or parameter."),
                message=text("What is wrong with it."),
            ),
        ),
        errors_left_out=count("How many more errors there are than `errors` names."),
    ),
}

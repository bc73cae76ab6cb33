"""Answers to errors: problem details (RFC 9457)."""

from __future__ import annotations

from pixel_server.api import request_body, request_stream
from pixel_server.api.openapi.operation import content, header
from pixel_server.api.openapi.schema import answer, array, ref
from pixel_server.api.openapi.values import Schema, count, text
from pixel_server.problems import TYPE

_STATUSES = {
    400: "The body is not JSON in UTF-8, is nested too deeply, or has a key twice in one object; or there "
    "are more than 200 parameters.",
    401: "No API key was sent, or the key is not known.",
    403: "The API key lacks the scope that this call needs.",
    404: "Nothing has this id, or it was deleted.",
    408: f"The body did not come within {request_stream.BODY_TIMEOUT_SECONDS:.0f} seconds.",
    409: "The call conflicts with what is stored or set; `detail` says why.",
    413: f"The body has more than {request_body.MAX_BODY_BYTES} bytes.",
    415: "The body is not sent as `application/json`, or is compressed.",
    422: "The input cannot be used; `errors` names each bad field, up to 100 of them.",
    429: "The API key is not known, and too many wrong keys come at the moment. A known key never gets this.",
    503: "Redis does not answer, or refuses. It is not known whether the call had an effect: try again.",
}


def _problem(status: int) -> Schema:
    problem: Schema = {"description": _STATUSES[status], "content": content(ref("Problem"), TYPE)}
    if status == 401:
        problem["headers"] = {"WWW-Authenticate": header({"const": "Bearer"}, "How to send the key.")}
    if status in (429, 503):
        seconds = header({"type": "integer"}, "Seconds to wait.", required=False)
        problem["headers"] = {"Retry-After": seconds}
    return problem


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
                row=count("Number of the row in a list, from 0."),
                line=count("Number of the line in an upload, from 1."),
                field=text("The field or parameter."),
                message=text("What is wrong with it."),
            ),
        ),
        errors_left_out=count("Further errors that `errors` does not name."),
    ),
}

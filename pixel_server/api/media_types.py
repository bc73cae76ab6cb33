"""Media types and codings of requests and answers (RFC 9110)."""

from __future__ import annotations

from starlette.requests import Request

from pixel_server.problems import Problem

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"


def choose(request: Request, *others: str) -> str:
    """Returns the media type of `others` that `Accept` names and wants most, or JSON (section 12.5.1).

    JSON is returned if `Accept` names none of the others, or wants JSON more. `text/csv, */*` chooses CSV;
    `text/csv;q=0` and `text/csv;q=0.1, application/json` choose JSON.
    """
    weights = _weights(request.headers.get("accept", ""))
    best = max(others, key=lambda name: weights.get(name, 0.0))
    of_json = next((weights[name] for name in (JSON, "application/*", "*/*") if name in weights), 0.0)
    return best if 0 < weights.get(best, 0.0) >= of_json else JSON


def _weights(accept: str) -> dict[str, float]:
    """Returns the weight (0 to 1) of each media type in `Accept`. A malformed weight counts as 1."""
    weights = {}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weights[name] = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    continue
    return weights


def refuse_codings(request: Request) -> None:
    """Raises Problem 415 if the body is compressed: no call reads a `Content-Encoding` (section 15.5.16)."""
    codings = request.headers.get("content-encoding", "").strip().lower()
    if codings not in ("", "identity"):
        message = "the body must not be compressed: send it without Content-Encoding"
        raise Problem(415, message, headers={"Accept-Encoding": "identity"})

"""The OpenAPI document, compared with the routes and their answers."""

from __future__ import annotations

import json
from copy import deepcopy

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from pixel_server.api import media_types, routes
from pixel_server.api.openapi.document import document
from pixel_server.api.routes import CALLS
from pixel_server.campaigns.campaign import EMAIL_ONLY, WEB_ONLY
from pixel_server.problems import TYPE
from tests import openapi_check

DOCUMENT = document("http://pixel.test", CALLS)
METHODS = ("get", "head", "post", "patch", "put", "delete", "options")
BESIDE = {
    ("GET", "/o/{token}.gif"),
    ("HEAD", "/o/{token}.gif"),
    ("GET", "/p/{campaign}.gif"),
    ("HEAD", "/p/{campaign}.gif"),
    ("POST", "/p/{campaign}"),
    ("POST", "/in/{provider}/{secret}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
}
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}
COMPONENTS = ("parameters", "responses", "schemas")
BODY, KEYED = {"400", "408", "413", "415", "422"}, {"401", "403", "503"}


def test_openapi_document_is_valid():
    jsonschema_rs.meta.validate(
        {**DOCUMENT["components"], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    )
    for name in DOCUMENT["components"]["schemas"]:
        jsonschema_rs.validator_for(schema(name))
    assert DOCUMENT["servers"] == [{"url": "http://pixel.test"}]
    assert "servers" not in document(None, CALLS)


def refs(part):
    """Returns the references in a part of the document."""
    if isinstance(part, dict):
        return {part["$ref"]} if "$ref" in part else set().union(*map(refs, part.values()))
    return set().union(*map(refs, part)) if isinstance(part, list) else set()


def test_openapi_references_are_all_components():
    there = {f"#/components/{kind}/{name}" for kind in COMPONENTS for name in DOCUMENT["components"][kind]}
    assert refs(DOCUMENT) == there


def test_openapi_operations_are_all_calls():
    assert OPERATIONS.keys() == {(call.method, call.path) for call in CALLS} | BESIDE
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.handler.__name__)
def test_openapi_operation_agrees_with_its_call(call):
    operation = OPERATIONS[call.method, call.path]
    assert operation["operationId"] == call.handler.__name__
    assert operation.get("security") == (None if call.scope is None else [{"bearer": [call.scope]}])
    assert (operation["responses"].keys() >= KEYED) == (call.scope is not None)
    asked = [one for one in operation.get("parameters", ()) if one.get("in") == "query"]
    assert {one["name"] for one in asked} == {parameter.name for parameter in call.query}
    assert not call.query or "422" in operation["responses"]
    is_stream = call.handler.__name__ in ("upload_recipients", "add_deliveries")
    body = BODY - ({"400", "408", "413"} if is_stream else set())
    assert (operation["responses"].keys() >= body) == ("requestBody" in operation)


def schema(name):
    return {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}


def fits(name, value):
    jsonschema_rs.validator_for(schema(name), validate_formats=True).validate(value)


@pytest.mark.parametrize(
    "query", [{}, {"interval": "hour"}, {"from_": "2025-06-01"}, {"tz": "Asia/Kathmandu"}]
)
def test_openapi_stats_answer_fits_its_schema(mail, page, opened, viewed, stats, query):
    mail(sent=3)
    page()
    opened("2025-06-10T09:00Z")
    viewed("2025-06-10T09:00Z")
    for campaign, kind in (("mail", "Email"), ("page", "Web")):
        found = stats(campaign, **query)
        fits("Stats", found)
        fits(f"{kind}Totals", found["totals"])
        assert (
            found["totals"].keys() == DOCUMENT["components"]["schemas"][f"{kind}Totals"]["properties"].keys()
        )
        for item in found["series"]:
            assert item.keys() == DOCUMENT["components"]["schemas"][f"{kind}Interval"]["properties"].keys()
        assert found.keys() == DOCUMENT["components"]["schemas"]["Stats"]["properties"].keys()


def test_openapi_shared_stats_answer_fits_its_schema(site, mail, page, opened, viewed, clock, count):
    mail(min_cell=1)
    page(min_cell=1)
    opened("2025-06-10T09:00Z")
    viewed("2025-06-10T09:00Z")
    clock.at("2025-06-11T09:00Z")
    count(clock.now)
    key = site.post("/api/keys", json={"name": "k", "scopes": ["read:mail", "read:page"]}).json()["key"]
    for campaign in ("mail", "page"):
        for query in ({}, {"from": "2025-06-10"}):
            found = site.get(
                f"/api/campaigns/{campaign}/stats", params=query, headers={"Authorization": f"Bearer {key}"}
            ).json()
            fits("SharedStats", found)
            assert found.keys() <= DOCUMENT["components"]["schemas"]["SharedStats"]["properties"].keys()
        shown = site.get(f"/api/campaigns/{campaign}", headers={"Authorization": f"Bearer {key}"}).json()
        fits("SharedCampaign", shown)


def takes_anything(method, path):
    return {"parameters", "requestBody"} & (OPERATIONS[method, path].keys() | DOCUMENT["paths"][path].keys())


# Requests generated by schemathesis

load_all_checks()


@schemathesis.serializer(media_types.NDJSON)
def lines(ctx, value):
    """Sends a generated body as lines."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


UNLOCKED = deepcopy(DOCUMENT)
for one in UNLOCKED["paths"].values():
    for method in one.keys() & set(METHODS):
        one[method].pop("security", None)  # each request has a good key; test_api_keys covers others
DESCRIBED = schemathesis.openapi.from_dict(UNLOCKED)
KNOWN = {"id": "mail", "campaign": "page"}
FOUND = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
RANGES = {
    *("after", "at", "expires_at", "ids", "of", "opened", "since", "ip", "base_url", "sent_at", "keep"),
    *(
        "line",
        "from",
        "to",
        "mode",
        "token",
        "time_zone",
        "tz",
        "scopes",
        "url",
        "campaigns",
        "secret",
        "key",
    ),
}
"""Fields with rules that a schema cannot state. Only these may be refused although they fit the schema."""
UNFIT = {*EMAIL_ONLY, *WEB_ONLY}
"""Fields that may contradict the kind of a campaign. That alone is a conflict; beside others, it is named."""


RUNS = [
    (method, path, mode)
    for method, path in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or takes_anything(method, path)
]


@pytest.mark.parametrize(("method", "path", "mode"), RUNS)
def test_openapi_generated_request_answer_fits(web, method, path, mode):
    for name, kind in (("mail", "email"), ("page", "web")):
        web.post("/api/campaigns", json={"id": name, "name": name, "kind": kind})
    operation = DESCRIBED[path][method]

    @settings(
        max_examples=4 if path.startswith("/in/") else 12,  # wrong secrets are held back
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def run(case, known):
        if known and mode is GenerationMode.POSITIVE and method != "DELETE":
            case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters if name in KNOWN})
        sent = case.as_transport_kwargs("http://pixel.test")
        sent = {name: value for name, value in sent.items() if value is not None and name != "cookies"}
        if isinstance(sent.get("data"), bytes):
            sent["content"] = sent.pop("data")
        answer = web.request(**sent)
        problem = answer.json() if answer.status_code == 422 else {}
        refused = {error["field"] for error in problem.get("errors", [])}
        is_out_of_range = bool(refused & RANGES) and refused <= RANGES | UNFIT
        exact = [] if is_out_of_range else [checks.positive_data_acceptance]
        case.validate_response(answer, checks=FOUND + exact)

    run()


def test_openapi_document_read_twice_is_made_once(web, monkeypatch):
    first = web.get("/api/openapi.json")
    assert first.json() == document("http://pixel.test", CALLS)
    monkeypatch.setattr(routes, "document", None)
    second = web.get("/api/openapi.json")
    assert second.content == first.content
    assert second.headers["content-type"] == "application/json"
    assert second.headers["cache-control"] == "no-store"


def parts(part, at="#"):
    """Returns each object in a part of the document, with its place."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return []
    return [(at, part), *(inner for name, value in part.items() for inner in parts(value, f"{at}/{name}"))]


def test_openapi_enum_of_a_value_that_may_be_null_has_null():
    for at, part in parts(DOCUMENT):
        if "null" in part.get("type", ()) and "enum" in part:
            assert None in part["enum"], at


def test_openapi_enums_are_short():
    for at, part in parts(DOCUMENT):
        assert len(part.get("enum", ())) <= 20, at


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/api/keys", 200, {"items": [], "next": None, "surprise": 1}),
        ("GET", "/api/keys", 200, {"items": []}),
        ("GET", "/api/keys", 204, None),
        ("PUT", "/api/keys", 200, {}),
        ("POST", "/under/a/path/api/campaigns", 201, {"id": "UPPER"}),
        ("GET", "/readyz", 503, {"status": "fine", "warnings": [], "recorder": {}, "redis": {}, "spool": {}}),
    ],
)
def test_check_answer_that_is_not_described_is_unfit(method, path, status, body):
    with pytest.raises(openapi_check.Unfit):
        openapi_check.check_answer(method, path, status, None, body)


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Basic"}])
def test_check_answer_without_its_header_is_unfit(headers):
    problem = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "no key"}
    sent = {"content-type": TYPE, **headers}
    with pytest.raises(openapi_check.Unfit):
        openapi_check.check_answer("GET", "/api/keys", 401, sent, json.dumps(problem).encode())

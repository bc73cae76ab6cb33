"""Uploads of recipient lists: read as a stream, bad lines named, withdrawn recipients left out."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect

from pixel_server.api.media_types import CSV, NDJSON
from pixel_server.api.uploads import Upload, is_csv_type
from pixel_server.mail.csv_rows import MAX_ROW_BYTES
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.recipients.lists import ListEntry, PutResult
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from tests.api.answers import problem

DAY = "2025-06-10"


@pytest.fixture
def put(site):
    def put(content, kind=NDJSON, campaign="mail"):
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content).encode()
        return site.put(
            f"/api/campaigns/{campaign}/recipients", content=content, headers={"Content-Type": kind}
        )

    return put


@pytest.fixture
def shown(site, secrets):
    """Returns what is stored of a recipient in a campaign, or None."""

    def shown(who="ada", campaign="mail"):
        found = site.get(f"/api/recipients/{secrets.recipient_key(who).hex()}").json()["campaigns"]
        return next((one for one in found if one["campaign"] == campaign), None)

    return shown


def counts(new=0, known=0, withdrawn=0, bad=0):
    """Returns the counts of an answer. The lines are the sum of the others: a header does not count."""
    lines = new + known + withdrawn + bad
    return {"lines": lines, "new": new, "known": known, "withdrawn": withdrawn, "bad": bad}


def of(answer):
    """Returns the counts of a good or bad answer."""
    return {name: answer.json()[name] for name in counts()}


def test_uploads_ndjson_with_names_is_stored(mail, put, shown, opened, stats, client):
    mail(mode="identified")
    answer = put([{"recipient": "ada", "name": "Ada L."}, {"recipient": "bob"}])
    assert (answer.status_code, of(answer)) == (200, counts(new=2))
    found = shown()
    assert (found["listed"], found["recipient"], found["name"], found["opens"]) == (True, "ada", "Ada L.", 0)
    assert shown("bob")["name"] is None
    assert shown("eve") is None
    again = put([{"recipient": "ada", "name": "Ada Lovelace"}])
    assert of(again) == counts(known=1)
    assert shown()["name"] == "Ada Lovelace"
    opened(f"{DAY}T09:00Z")
    assert stats("mail")["totals"]["unique_opens"] == 1
    assert (shown()["opens"], shown()["listed"]) == (1, True)
    assert sum(int(client.hget(keys.total(shard, "mail"), "listed") or 0) for shard in range(4)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "recipient,name\nada,Ada\nbob,\n",
        "name;recipient\r\nAda;ada\r\n;bob",
        'Name,Recipient\n"Ada",ada\n\n"",bob\n\n',
        "\ufeffrecipient\tname\nada\tAda\nbob\t\n",
        '"city, town";"recipient";"name"\nWien;ada;Ada\nBern;bob;\n',
    ],
)
def test_uploads_csv_of_common_programs_is_stored(mail, put, shown, text):
    mail(mode="identified")
    answer = put(text.encode(), "text/csv; charset=UTF-8")
    assert (answer.status_code, answer.json()["new"]) == (200, 2)
    assert (shown()["name"], shown("bob")["name"]) == ("Ada", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense", "is not a JSON object in UTF-8"),
        (b'{"recipient": "a"', "is not a JSON object in UTF-8"),
        (b'{"recipient": "\xff"}', "is not a JSON object in UTF-8"),
        (b'{"name": "Ada"}', "has no recipient"),
        (b'{"recipient": 1}', "recipient must be text"),
        (b'{"recipient": "a", "name": 1}', "name must be text"),
        (b'["ada"]', "is not a JSON object in UTF-8"),
        (b'{"recipient": ""}', "recipient must not be empty"),
        (b'{"recipient": "a\\u0000"}', "recipient must not contain control characters"),
        (b'{"recipient": "a", "name": "' + b"n" * 201 + b'"}', "name must be text of 1 to 200 characters"),
        (b'{"recipient": "' + b"a" * MAX_ROW_BYTES + b'"}', "has more than 1 MB"),
        (b'{"recipient": ' + b"[" * 10_000, "is not a JSON object in UTF-8"),
    ],
)
def test_uploads_bad_ndjson_line_is_left_out_and_named(mail, put, shown, line, message):
    mail(mode="identified")
    answer = put(b'{"recipient": "ada"}\n' + line + b'\n{"recipient": "bob"}\n')
    assert answer.status_code == 200
    assert answer.json()["errors"] == [{"line": 2, "field": "line", "message": message}]
    assert of(answer) == counts(new=2, bad=1)
    assert shown("bob") is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a,b,c", "has 3 fields, not 2"),
        (b'"a', "is not CSV: its quotes are broken"),
        (b"\x81,Ada", "is neither in UTF-8 nor in Windows-1252"),
        (b",Ada", "recipient must not be empty"),
        (b"a" * 257 + b",", "recipient must have at most 256 characters"),
    ],
)
def test_uploads_bad_csv_line_is_left_out_and_named(mail, put, line, message):
    mail(mode="identified")
    answer = put(b"recipient,name\n" + line + b"\nbob,Bob\n", CSV)
    assert answer.status_code == 200
    assert answer.json()["errors"] == [{"line": 2, "field": "line", "message": message}]
    assert of(answer) == counts(new=1, bad=1)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", CSV, 422),
        (b"email\nada\n", CSV, 422),
        (b"recipient,name,name\nada,a,a\n", CSV, 422),
        (b"recipient,recipient\nada,a\n", CSV, 422),
        (b'"recipient\nada\n', CSV, 422),
        (b"x" * (MAX_ROW_BYTES + 1) + b"\nada\n", CSV, 422),
        (b"\r\n \n", CSV, 422),
        (b"recipient,note,note\nada,a,a\n", CSV, 422),
        (b"recipient\nada\n", "text/csv; charset=latin-1", 415),
        (b'{"recipient": "ada"}', "application/json", 415),
        (b'{"recipient": "ada"}', "", 415),
    ],
)
def test_uploads_unreadable_list_stores_nothing(mail, put, shown, content, kind, status):
    mail(mode="identified")
    answer = put(content, kind)
    if content == b"\r\n \n":
        assert "it is empty" in answer.json()["detail"]
    if content == b"":  # an empty list
        assert (answer.status_code, of(answer)) == (200, counts())
    else:
        assert answer.status_code == status
    assert shown() is None


def test_uploads_many_bad_lines_first_hundred_are_named(mail, put):
    mail()
    answer = put(b"x\n" * 1000)
    refused = problem(answer, 422)
    assert [error["line"] for error in refused["errors"]] == list(range(1, 101))
    assert refused["errors_left_out"] == 900
    answer = put(b"x\n" * 1000 + b'{"recipient": "ada"}\n')
    assert (answer.status_code, of(answer)) == (200, counts(new=1, bad=1000))
    assert [error["line"] for error in answer.json()["errors"]] == list(range(1, 101))


def test_uploads_other_columns_are_not_stored(mail, put, shown, client):
    mail(mode="identified")
    assert of(put(b"city;recipient;Name;born\nWien;ada;Ada;1815\n", CSV)) == counts(new=1)
    assert of(put(b'{"city": "Wien", "recipient": "bob", "born": {"year": 1815}}')) == counts(new=1)
    assert (shown()["name"], shown("bob")["name"]) == ("Ada", None)
    assert not any(b"Wien" in value for key in client.keys("*:names:*") for value in client.hvals(key))


def test_uploads_refused_list_is_not_in_the_audit_log(mail, put, site):
    mail()
    assert put(b"email\nada\n", CSV).status_code == 422
    assert put(b"", CSV).status_code == 200
    lines = {line["what"] for line in site.get("/api/audit").json()["items"]}
    assert not {"recipients.upload_begun", "recipients.uploaded"} & lines
    put(b"recipient\nada\n", CSV)
    lines = {line["what"] for line in site.get("/api/audit").json()["items"]}
    assert {"recipients.upload_begun", "recipients.uploaded"} <= lines


def test_uploads_line_without_name_keeps_the_name(mail, put, shown):
    mail(mode="identified")
    put([{"recipient": "ada", "name": "Ada"}])
    put([{"recipient": "ada", "name": ""}, {"recipient": "eve", "name": "Eve"}, {"recipient": "eve"}])
    assert (shown()["name"], shown("eve")["name"]) == ("Ada", "Eve")


@pytest.mark.parametrize("kind", [CSV, NDJSON])
def test_uploads_name_in_other_mode_is_dropped_and_reported_once(mail, put, shown, client, kind):
    mail(mode="pseudonymous")
    content: list | bytes = [{"recipient": "ada", "name": "Ada"}, {"recipient": "bob", "name": 7}]
    if kind == CSV:
        content = b"recipient,name\nada,Ada\nbob,\x07\n"
    answer = put(content, kind)
    assert (answer.status_code, answer.json()["new"]) == (200, 2)
    (told,) = answer.json()["warnings"]
    assert (told["field"], "identified" in told["message"]) == ("name", True)
    for who in ("ada", "bob"):
        assert (shown(who)["listed"], shown(who)["recipient"], shown(who)["name"]) == (True, None, None)
    assert client.keys("*:names:*") == []
    assert put(b"recipient\nada\n", CSV).json()["warnings"] == []


@pytest.mark.parametrize("mode", ["count", "last", "off"])
def test_uploads_mode_without_recipients_is_409(mail, put, mode):
    mail(mode=mode)
    assert put([{"recipient": "ada"}]).status_code == 409


def test_uploads_web_or_unknown_campaign_is_refused(page, put):
    page()
    assert put([{"recipient": "ada"}], campaign="page").status_code == 409
    assert put([{"recipient": "ada"}], campaign="none").status_code == 404


def test_uploads_withdrawn_recipient_is_left_out(mail, put, shown, site, secrets):
    mail(mode="identified")
    put([{"recipient": "ada", "name": "Ada"}])
    key = secrets.recipient_key("ada").hex()
    erased = site.delete(f"/api/recipients/{key}").json()
    assert {kind: number for kind, number in erased["removed"].items() if number} == {"listed": 1, "names": 1}
    site.post("/api/withdrawals", json={"recipients": ["bob"]})
    rows = [{"recipient": who, "name": who} for who in ("ada", "bob", "eve")]
    assert of(put(rows)) == counts(new=1, withdrawn=2)
    assert (shown("ada"), shown("bob")) == (None, None)
    site.request("DELETE", "/api/withdrawals", json={"recipients": ["ada"]})
    assert of(put(rows)) == counts(new=1, known=1, withdrawn=1)


def test_uploads_duplicate_recipient_counts_once_as_new(mail, put, shown):
    mail(mode="identified")
    rows = [{"recipient": "ada", "name": "First"}, {"recipient": "ada", "name": "Second"}]
    assert of(put(rows)) == counts(new=1, known=1)
    assert shown()["name"] == "Second"


def test_uploads_mode_lowered_removes_names(mail, put, shown, site, sweep):
    mail(mode="identified")
    put([{"recipient": "ada", "name": "Ada"}])
    assert site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"}).status_code == 200
    assert sweep() == {"names": 1}
    found = shown()
    assert (found["listed"], found["recipient"], found["name"]) == (True, None, None)


# Reading the stream


async def cut(*chunks):
    """Yields a body in these chunks, then cuts it off."""
    for chunk in chunks:
        yield chunk
    raise ClientDisconnect


async def whole(*chunks):
    for chunk in chunks:
        yield chunk


def take(chunks, kind=NDJSON):
    taken: list[ListEntry] = []

    async def put(rows):
        taken.extend(rows)
        return PutResult(len(rows), 0, 0)

    upload = Upload(put, is_csv=kind == CSV, keeps_names=True, needs_consent=False)
    try:
        asyncio.run(upload.read(chunks))
    except ClientDisconnect:
        upload.errors.append({"cut": True})
    return upload, [row.recipient for row in taken]


def test_uploads_body_cut_off_stores_whole_lines():
    body = b"".join(b'{"recipient": "r%d"}\n' % n for n in range(1000))
    for at in (0, 1, 20, 21, 22, 5000, len(body)):
        upload, taken = take(cut(body[:at]))
        assert taken == [f"r{n}" for n in range(body[:at].count(b"\n"))]
        assert (upload.lines, upload.last_line, upload.errors) == (len(taken), len(taken), [{"cut": True}])


def test_uploads_line_of_300_mb_is_not_held():
    import tracemalloc

    chunk = b"x" * (1 << 20)
    tracemalloc.start()
    upload, taken = take(whole(*[chunk] * 300, b'\n{"recipient": "ada"}\n'))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert (taken, upload.bad, upload.lines) == (["ada"], 1, 2)


def test_uploads_other_type_is_refused_before_reading():
    with pytest.raises(Problem):
        is_csv_type("text/plain")


def test_uploads_campaign_deleted_meanwhile_stores_nothing(mail, site, settings, secrets, client):
    from pixel_server.campaigns import storage

    mail()

    async def put():
        made = connect_async(settings.redis_url)
        try:
            await lists.put(made, secrets, "mail", [ListEntry("ada", None)], settings.shards, False)
        finally:
            await made.aclose()

    asyncio.run(put())
    site.delete("/api/campaigns/mail")
    with pytest.raises(storage.UnknownCampaign):
        asyncio.run(put())
    assert [key for key in client.keys("*") if b":mail" in key] == []


def test_uploads_line_break_in_name_is_a_blank(mail, put, shown):
    mail(mode="identified")
    answer = put(b'name,recipient\n"Doe,\nJane",jane\nJoe,joe\n"Jim" B.,jim\n"Kay",kay\n', CSV)
    assert [error["line"] for error in answer.json()["errors"]] == [5]
    assert (shown("jane")["name"], shown("joe")["name"], shown("kay")["name"]) == ("Doe, Jane", "Joe", "Kay")
    assert put(b'name,recipient\n"Jane ""J"" Doe",jane\n', CSV).status_code == 200
    assert shown("jane")["name"] == 'Jane "J" Doe'


@pytest.mark.parametrize("charset", ["", "; charset=utf-16", "; charset=UTF-16LE"])
def test_uploads_utf16_of_a_spreadsheet_is_stored(mail, put, shown, charset):
    mail(mode="identified")
    answer = put("recipient\tname\r\nada\tZoë\r\n".encode("utf-16"), CSV + charset)
    assert (answer.status_code, of(answer)) == (200, counts(new=1))
    assert shown()["name"] == "Zoë"


def test_uploads_odd_recipients_are_named_by_line(mail, put, shown):
    mail()
    answer = put("recipient;note\nada@example.org;Zoë\nAda@example.org;\n".encode("cp1252"), CSV)
    assert (answer.status_code, of(answer)) == (200, counts(new=2))
    assert [(told["line"], told["field"]) for told in answer.json()["warnings"]] == [
        (2, "recipient"),
        (3, "recipient"),
    ]
    assert "Windows-1252" in answer.json()["warnings"][0]["message"]
    assert "capital letters: Ada@x and ada@x count as two people" in answer.json()["warnings"][1]["message"]
    answer = put(b"recipient\n" + b"Ada@example.org\n" * 1000 + b"\x00\n", CSV)
    assert (answer.status_code, len(answer.json()["warnings"])) == (200, Upload.MAX_ERRORS)
    assert [error["line"] for error in answer.json()["errors"]] == [1002]


@pytest.mark.parametrize("count", [200, 201, 450])
def test_uploads_duplicates_over_batches_are_new_once(mail, put, count):
    mail()
    assert of(put([{"recipient": "ada"}] * count)) == counts(new=1, known=count - 1)

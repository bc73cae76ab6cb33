"""The page that uploads a list of recipients."""

from __future__ import annotations

import pytest

from tests.dashboard.conftest import form_of
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

PATH = "/campaigns/mail/recipients/upload"


@pytest.fixture
def upload(reader):
    """Returns a function that uploads a list as a browser without script does."""

    def send(content, name="list.csv", **changes):
        fields = {**form_of(reader.get(PATH), PATH), **changes}
        fields.pop("list", None)
        data = {name: value for name, value in fields.items() if value is not None}
        return reader.post(PATH, data=data, files={"list": (name, content)})

    return send


def listed(site):
    return site.get("/api/campaigns/mail/recipients/counts").json()["all"]


def test_upload_page_stores_lines_and_says_what_was_left_out(site, mail, upload, reader):
    mail(mode="identified")
    site.post("/api/withdrawals", json={"recipients": ["eve"]})
    site.put(
        "/api/campaigns/mail/recipients",
        content='{"recipient": "bob"}\n',
        headers={"Content-Type": "application/x-ndjson"},
    )
    answer = upload("recipient,name\nada,Ada\nbob,Bob\neve,Eve\n" + "x" * 300 + ",\n")
    page = assert_harmless(answer)
    assert answer.status_code == 200
    assert "1 added, 1 was on the list already, 2 left out" in page.text
    assert "Left out: 1 who withdrew, and 1 line that cannot be used." in page.text
    assert "2 recipients were put on the list" in page.text
    assert "Line 5" in page.text
    assert site.get("/api/campaigns/mail/stats").json()["sent"] == 2
    assert "lines 4, new 1, known 1, withdrawn 1, bad 1" in Page(reader.get("/audit")).text


def test_upload_page_other_column_is_used_and_stays_in_the_form(site, mail, upload, reader):
    mail()
    refused = upload("email\nada@example.org\n", sent=None)
    assert refused.status_code == 422
    assert "Choose the file again, because it is not stored." in refused.text
    answer = upload("name,E-Mail\nAda,ada@example.org\n", column=" e-mail ", sent=None)
    assert_harmless(answer)
    assert listed(site) == 1
    kept = form_of(answer, PATH)
    assert (kept["column"], "sent" in kept) == ("e-mail", False)
    assert upload("recipient\nbob@example.org\n", column="").status_code == 200
    ndjson = upload('{"email": "eve@example.org"}\n', "list.ndjson", column="email")
    assert (ndjson.status_code, listed(site)) == (200, 3)
    assert upload("x\n1\n", column="nothing").status_code == 422


def test_upload_pages_of_lists_and_of_links_name_each_other(mail, upload, reader, sign_in, made_key):
    mail()
    links = "/campaigns/mail/pixel/list"
    assert f'href="{links}"' in reader.get(PATH).text
    assert f'href="{PATH}"' in reader.get(links).text
    answer = upload("recipient\nada\n")
    [main] = [link["href"] for link in Page(answer).all("a") if link.get("class") == "button main"]
    assert main == links
    assert "choose the file again" in answer.text
    reader.cookies.clear()
    visitor = sign_in(made_key("read", "people")[1])
    assert links not in visitor.get(PATH).text


def test_upload_page_ndjson_not_sent_is_stored_but_not_counted_as_sent(site, mail, upload):
    mail()
    answer = upload('{"recipient": "ada"}\n{"recipient": "bob"}\n', "list.ndjson", sent=None)
    assert answer.status_code == 200
    assert listed(site) == 2
    assert site.get("/api/campaigns/mail/stats").json()["sent"] is None


def test_upload_page_long_list_is_stored_whole(site, mail, upload):
    mail()
    answer = upload("recipient\n" + "".join(f"reader-{n}@example.org\n" for n in range(20_000)))
    assert "20,000 added, 0 were on the list already" in Page(answer).text
    assert listed(site) == 20_000


def test_upload_page_unusable_list_stores_nothing(site, mail, upload):
    mail()
    for content in ("", "no columns\n1\n", "recipient\n" + "x" * 300 + "\n", b"\x00\xff\x00" * 99):
        answer = upload(content)
        assert answer.status_code == 422
        assert_harmless(answer)
    assert listed(site) == 0


def test_upload_page_hostile_list_is_harmless(mail, upload):
    mail(mode="identified")
    for text in EVIL:
        cell = '"' + text.replace('"', '""') + '"'
        assert_harmless(upload("recipient\nada\n", column=text))
        answer = upload(f"recipient,name\n{cell},{cell * 9}\n{'x' * 300}{cell},\n", name=f"{text}.csv")
        assert answer.status_code in (200, 422)
        assert_harmless(answer)


def test_upload_page_campaign_without_recipients_is_refused(site, mail, reader, upload):
    mail(mode="count")
    page = reader.get(PATH)
    assert page.status_code == 409
    assert "keeps recipients" in page.text
    assert '<form method="post" action="/campaigns' not in page.text


def test_upload_page_foreign_form_is_refused(site, mail, reader, upload):
    mail()
    for token in (None, "wrong"):
        assert upload("recipient\nada\n", csrf=token).status_code == 403
    fields = form_of(reader.get(PATH), PATH)
    cross_site = reader.post(
        PATH,
        data=fields,
        files={"list": ("a.csv", "recipient\nada\n")},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert cross_site.status_code == 403
    late_token = reader.post(
        PATH, files={"list": ("a.csv", "recipient\nada\n"), "csrf": (None, fields["csrf"])}
    )
    assert late_token.status_code == 403
    assert listed(site) == 0


def test_upload_page_other_bodies_are_refused(site, mail, reader):
    mail()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for content, headers, status in (
        (b"csrf=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"no boundary", kind, 400),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * 99_999, kind, 413),
        (
            b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % n for n in range(300)),
            kind,
            413,
        ),
        (b"", kind, 403),
    ):
        assert reader.post(PATH, content=content, headers=headers).status_code == status, content[:20]


def test_upload_page_without_scope_people_is_403(sign_in, made_key, mail):
    mail()
    visitor = sign_in(made_key("read", "write")[1])
    assert visitor.get(PATH).status_code == 403
    assert visitor.post(PATH, files={"list": ("a.csv", "recipient\nada\n")}).status_code == 403

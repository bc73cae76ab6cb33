"""The pages about people: withdrawals, one recipient, stored data and the audit log."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from pixel_server.counters import histogram
from pixel_server.dashboard import people, recipient_timeline
from pixel_server.mail.links import Minter
from pixel_server.times import parse_instant
from tests.dashboard.conftest import form_of
from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

DAY = "2026-09-20"


def marks(site):
    return {item["mark"]: item["periods"] for item in site.get("/api/withdrawals").json()["items"]}


def test_withdrawals_page_withdraw_and_allow_again(site, reader, send, mail, opened, clock):
    mail()
    clock.at(f"{DAY}T08:00Z")
    answer = send("/withdrawals", recipients="ada\r\n\r\n bob@example.org \r\n")
    assert answer.headers["location"] == "/withdrawals?done=withdrawn&n=2"
    page = reader.get(answer.headers["location"])
    assert_harmless(page)
    assert "No longer recorded: 2." in page.text
    found = marks(site)
    assert len(found) == 2
    for mark in found:
        assert mark in page.text
    opened(f"{DAY}T09:00Z", "ada", says="ignored; reason=withdrawn")
    asked = send("/withdrawals", "/withdrawals/end/ask", ended="ada\n\n nobody")
    assert_harmless(asked)
    assert "Record these recipients again?" in asked.text
    opened(f"{DAY}T09:30Z", "ada", says="ignored; reason=withdrawn")
    confirmed = form_of(asked, "/withdrawals/end")
    assert confirmed["ended"] == "ada\nnobody"
    again = reader.post("/withdrawals/end", data=confirmed)
    assert again.headers["location"] == "/withdrawals?done=allowed&n=1"
    assert "Recorded again: 1." in reader.get(again.headers["location"]).text
    opened(f"{DAY}T10:00Z", "ada")
    assert "until 20 Sep 2026, 09:30 UTC" in Page(reader.get("/withdrawals")).text


@pytest.mark.parametrize(
    ("page", "field"), [("/withdrawals", "recipients"), ("/withdrawals/end/ask", "ended")]
)
@pytest.mark.parametrize("text", ["", " \r\n ", "ada\r\n" + "x" * 300, "ada\x00", "a\n" * 10_001])
def test_withdrawals_page_bad_line_changes_nothing(site, send, page, field, text):
    answer = send("/withdrawals", page, **{field: text})
    assert answer.status_code == 422
    assert_harmless(answer)
    assert wrong(answer).keys() == {field}
    assert marks(site) == {}
    if len(text) == 305:
        assert "Row 2 must have" in answer.text
        assert (
            form_of(answer, page)[field] == text.replace("\r\n", "\n") or form_of(answer, page)[field] == text
        )


def test_withdrawals_page_asks_before_many_are_recorded_again(send):
    asked = send(
        "/withdrawals", "/withdrawals/end/ask", ended="".join(f"{n}@example.org\n" for n in range(1010))
    )
    assert Page(asked).text.count("@example.org") == people.MAX_ASKED
    assert "and 1,000 more" in asked.text
    assert form_of(asked, "/withdrawals/end")["ended"].count("\n") == 1009


def test_withdrawals_page_recorded_again_refuses_a_bad_line(reader):
    form = {**form_of(reader.get("/withdrawals"), "/withdrawals"), "ended": "x" * 300}
    answer = reader.post("/withdrawals/end", data=form)
    assert (answer.status_code, wrong(answer).keys()) == (422, {"ended"})


def test_withdrawals_page_many_are_paged(site, reader):
    people = [f"reader-{n}" for n in range(700)]
    assert site.post("/api/withdrawals", json={"recipients": people}).status_code == 200
    found, page, pages = set(), "/withdrawals", 0
    while page:
        answer = reader.get(page)
        found |= set(re.findall(r"<code>([0-9a-f]{16})</code>", answer.text))
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        page, pages = following and following[1], pages + 1
    assert found == marks(site).keys()
    assert pages > 2
    for after in ("x", "-1", "9" * 30):
        assert reader.get("/withdrawals", params={"after": after}).status_code == 422


# One recipient


@pytest.fixture
def ada(site, mail, opened, stats):
    """Returns the key of a recipient who opened a mail."""
    mail(mode="identified")
    site.put(
        "/api/campaigns/mail/recipients",
        content='{"recipient": "ada@example.org", "name": "Ada"}\n',
        headers={"Content-Type": "application/x-ndjson"},
    )
    opened(f"{DAY}T09:00Z", "ada@example.org")
    stats("mail")
    return site.post("/api/recipients/find", json={"recipient": "ada@example.org"}).json()["key"]


def test_recipient_page_found_by_escaped_link(send, ada, secrets):
    url = Minter("http://pixel.test", secrets).url("mail", "ada@example.org")
    url = url.replace("/o/A", "/%6F/%41").replace("-", "%2D")
    assert send("/recipients", token=url).headers["location"] == f"/recipients/{ada}"


def test_recipient_page_found_by_address_is_shown_and_erased(site, reader, send, ada):
    answer = send("/recipients", recipient=" ada@example.org ")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/recipients/{ada}")
    page = reader.get(f"/recipients/{ada}")
    assert_harmless(page)
    for text in (
        "ada@example.org",
        "Ada",
        "20 Sep 2026, 09:00 UTC",
        "Withdrew",
        "No, opens of this person are recorded",
    ):
        assert text in page.text
    asked = reader.get(f"/recipients/{ada}/erase")
    assert "in 1 campaign: <bdi>mail</bdi>" in asked.text
    assert site.get(f"/api/recipients/{ada}").json()["campaigns"]
    done = send(f"/recipients/{ada}/erase")
    assert done.headers["location"] == f"/recipients/{ada}?done=erased"
    after = reader.get(done.headers["location"])
    assert "Erased in all campaigns" in after.text
    assert "Nothing is stored about this recipient" in after.text
    assert "ada@example.org" not in after.text
    assert site.get(f"/api/recipients/{ada}").json()["campaigns"] == []
    told = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert "recipient.erased" in told
    assert "recipient.shown" in told


def test_recipient_page_found_by_link_is_shown(site, send, ada):
    link = site.post("/api/campaigns/mail/links", json={"recipients": ["ada@example.org"]}).json()["links"][0]
    token = link["url"].rpartition("/")[2].removesuffix(".gif")
    for text in (link["url"], link["privacy_url"], token):
        assert send("/recipients", token=text).headers["location"] == f"/recipients/{ada}"


@pytest.mark.parametrize(
    "filled",
    [
        {},
        {"recipient": "a", "token": "b"},
        {"recipient": "x" * 300},
        {"token": "x" * 300},
        {"token": "http://pixel.test/o/AQ.gif"},
        {"recipient": "\x00"},
    ],
)
def test_recipient_page_unknown_recipient_shows_nothing_stored(send, filled):
    answer = send("/recipients", **filled)
    assert answer.status_code == 422
    page = assert_harmless(answer)
    assert [each for _, each in page.found if each.get("role") == "alert"]
    for name, text in filled.items():
        assert form_of(answer, "/recipients")[name] == text.strip()


def test_recipient_page_invalid_key_answers_404(reader):
    for key in ("nothing", "0011", "ZZ" * 8, "00112233445566FF"):
        for path in ("", "/erase"):
            assert reader.get(f"/recipients/{key}{path}").status_code == 404
    answer = reader.get("/recipients/0011223344556677")
    assert answer.status_code == 200
    assert "Nothing is stored" in answer.text


def test_recipient_page_timeline_has_opens_of_all_campaigns(site, reader, mail, ada, opened, stats, clock):
    mail(id="second", name="Second & last")
    for time, campaign in (("10:00", "second"), ("11:00", "mail"), ("12:00", "mail")):
        opened(f"{DAY}T{time}Z", "ada@example.org", campaign=campaign)
    stats("mail")
    clock.at(f"{DAY}T13:00Z")
    site.post("/api/withdrawals", json={"recipients": ["ada@example.org"]})
    page = assert_harmless(reader.get(f"/recipients/{ada}?campaign=mail"))
    timeline = page.text[page.text.index("Timeline") : page.text.index("By campaign")]
    lines = [" ".join(line.split()) for line in timeline.splitlines() if "UTC" in line or "2026" in line]
    found = [line.partition("2026")[2].removeprefix(", ") for line in lines]
    found = [line for line in found if "Mail sent" not in line]
    assert found == [
        "13:00 UTC Withdrew: not recorded from here on",
        "12:00 UTC Last open of 3, by a person · mail",
        "10:00 UTC Opened, by a person · Second & last",
        "09:00 UTC First open, by a person · mail",
    ]
    assert "Mail sent · mail" in timeline
    assert "withdrew on 20 Sep 2026, 13:00 UTC" in page.text


def test_recipient_page_leads_back_to_the_list_it_came_from(reader, ada):
    links = [attrs["href"] for attrs in Page(reader.get(f"/recipients/{ada}?campaign=mail")).all("a")]
    assert links.count("/campaigns/mail/recipients") == 2
    for other in ("none", "../keys", "<b>"):
        page = assert_harmless(reader.get(f"/recipients/{ada}", params={"campaign": other}))
        assert other not in page.text
        assert "/recipients" in [attrs["href"] for attrs in page.all("a")]


@pytest.mark.parametrize("text", EVIL)
def test_people_pages_hostile_input_is_harmless(site, reader, send, mail, text):
    mail(mode="identified")
    site.put(
        "/api/campaigns/mail/recipients",
        content="recipient,name\n" + ",".join('"' + each.replace('"', '""') + '"' for each in (text, text)),
        headers={"Content-Type": "text/csv"},
    )
    answer = reader.get(send("/recipients", recipient=text).headers["location"])
    page = assert_harmless(answer)
    assert page.text.count(text) == 3
    assert_harmless(send("/recipients", recipient=text, token=text))
    assert_harmless(send("/withdrawals", recipients=text * 99))
    assert_harmless(reader.get("/audit"))


# What is kept


def test_inventory_page_shows_data_and_settings(reader, ada, clock):
    answer = reader.get("/kept")
    text = assert_harmless(answer).text
    row = re.search(r"recipientsrecipient key: first and last open.*", text)
    assert row is not None
    assert row[0].endswith("1recipients20 Sep 2026, 09:00 UTC400 days after sendingpx:{s}:people:ID:BUCKET")
    assert "PIXEL_KEEP_DAYS_NAMES90Days after the sending of a campaign" in text


def test_inventory_page_counts_at_most_once_a_minute(site, reader, mail, opened, stats, clock):
    def kept():
        found = re.search(
            r"<th scope=\"row\">recipients<.*?<td class=\"n\"[^>]*>(\d+)", reader.get("/kept").text
        )
        return found[1]

    mail()
    clock.at(f"{DAY}T08:59Z")
    assert kept() == "0"
    opened(f"{DAY}T08:59:30Z", "ada")
    stats("mail")
    assert kept() == "0"
    clock.at(f"{DAY}T09:00Z")
    assert kept() == "1"


def test_audit_page_many_entries_are_paged(site, reader, mail):
    mail()
    for n in range(70):
        site.patch("/api/campaigns/mail", json={"sent_at": f"2026-09-01T00:00:{n % 60:02}Z"})
    first = reader.get("/audit")
    assert first.text.count('<td class="at">campaign changed</td>') == 50
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    second = reader.get(unquote(following[1]))
    assert second.text.count('<td class="at">campaign changed</td>') == 20
    assert '<td class="at">key created</td>' in second.text
    assert 'rel="next"' not in second.text
    for after in ("x", "0-0", "1" * 99):
        assert reader.get("/audit", params={"after": after}).status_code == 422


def test_audit_page_actions_of_recipients_are_shown(site, reader, mail, secrets):
    mail()
    link = Minter("http://pixel.test", secrets).link("mail", "ada", now=1_790_000_000.0)
    token = link.privacy_url.partition("t=")[2]
    site.post("/privacy", data={"t": token, "do": "stop"})
    page = reader.get("/audit/recipients").text
    assert page.count("recipient stopped") == 1
    assert "1 stopped, 0 allowed, 0 erased" in page
    assert "audit/recipients" in reader.get("/audit").text
    assert "recipient stopped" not in reader.get("/audit").text


# Who may


def test_people_pages_without_scope_people_answer_403(site, sign_in, made_key, ada):
    visitor = sign_in(made_key("read", "write")[1])
    kept = visitor.get("/kept")
    assert kept.status_code == 200
    for path in ("/withdrawals", "/recipients", "/audit"):
        assert f'href="{path}"' not in kept.text
    for path in ("/withdrawals", "/recipients", f"/recipients/{ada}", f"/recipients/{ada}/erase", "/audit"):
        assert visitor.get(path).status_code == 403
    token = form_of(kept, "/sign-out")["csrf"]
    fields = {"csrf": token, "recipients": "ada", "ended": "ada", "recipient": "ada"}
    for path in ("/withdrawals", "/withdrawals/end", "/recipients", f"/recipients/{ada}/erase"):
        assert visitor.post(path, data=fields).status_code == 403
    assert marks(site) == {}
    assert site.get(f"/api/recipients/{ada}").json()["campaigns"]


def test_people_pages_form_without_csrf_token_is_refused(site, send, ada):
    for token in (None, "wrong"):
        for page, to in (
            ("/withdrawals", "/withdrawals"),
            ("/withdrawals", "/withdrawals/end/ask"),
            ("/recipients", "/recipients"),
            (f"/recipients/{ada}/erase", f"/recipients/{ada}/erase"),
        ):
            answer = send(page, to, csrf=token, recipients="ada", ended="ada", recipient="ada")
            assert answer.status_code == 403
    assert marks(site) == {}
    assert site.get(f"/api/recipients/{ada}").json()["campaigns"]


def test_people_pages_key_of_one_campaign_is_refused(sign_in, made_key, mail):
    mail()
    visitor = sign_in(made_key("read:mail")[1])
    for path in (
        "/keys",
        "/kept",
        "/withdrawals",
        "/audit",
        "/new",
        "/campaigns/mail/edit",
        "/campaigns/mail/pixel",
    ):
        assert visitor.get(path).status_code == 403
    assert Page(visitor.get("/campaigns/mail")).all("nav")


def test_consents_are_on_the_page_of_a_recipient_and_in_the_download(site, reader, mail, secrets):
    mail(preset="consented")
    ref = "2026-05@2025-06-01T09:30:00Z"
    site.put(
        "/api/campaigns/mail/recipients",
        content=f"recipient,consent_ref\nada,{ref}\n",
        headers={"Content-Type": "text/csv"},
    )
    shown = reader.get(f"/recipients/{secrets.recipient_key('ada').hex()}").text
    assert f"consent: <bdi>{ref}</bdi>" in shown
    assert "Consented to the notice 2026-05" in shown
    assert "Rows without a consent are left out." in reader.get("/campaigns/mail/recipients/upload").text
    site.post("/api/withdrawals", json={"recipients": ["ada"]})
    assert "/withdrawals/all.csv" in reader.get("/withdrawals").text
    answer = reader.get("/withdrawals/all.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="withdrawals.csv"'
    assert answer.text == site.get("/api/withdrawals", headers={"Accept": "text/csv"}).text
    assert ref in answer.text


def test_recipient_page_delay_agrees_with_the_times_on_the_page(site, reader, mail, opened, stats):
    mail(sent_at="2026-09-20T08:30:00Z")
    opened("2026-09-21T18:35Z", "ada@example.org")
    stats("mail")
    key = site.post("/api/recipients/find", json={"recipient": "ada@example.org"}).json()["key"]
    page = reader.get(f"/recipients/{key}").text
    assert "about 1 d 10 h after the mailing was sent" in page
    assert "20 Sep 2026, 08:30 UTC" in page


def test_delay_that_does_not_fit_the_time_of_sending_is_a_range():
    middle = histogram.delay_seconds(histogram.delay_bin(34 * 3600 + 300))
    row = {"time_to_open": round(middle, 1), "first_open_person": "2026-09-21T18:35:00.000Z"}
    sent_at = parse_instant("2026-09-20T08:30:00Z", None)
    assert recipient_timeline.delay(row, sent_at) == "about 1 d 10 h after the mailing was sent"
    for other in (None, sent_at - 86_400):
        expected = "about 1 d 9 h to 1 d 12 h after this recipient's own mail was sent"
        assert recipient_timeline.delay(row, other) == expected
    assert recipient_timeline.delay({**row, "time_to_open": None}, sent_at) == ""


def test_timeline_shows_the_hour_of_sending_on_the_day_of_the_last_mail():
    row = {"campaign": "mail", "last_mail_day": "2026-09-20", "consent_ref": None, "opens": 0}
    stored = {"campaigns": [row], "last_open_day": None, "withdrawals": []}
    sent_at = parse_instant("2026-09-20T08:30:00Z", None)
    at = [recipient_timeline.events(stored, {"mail": each})[0].at for each in (sent_at, sent_at + 86_400)]
    assert at == ["2026-09-20T08:30:00Z", "2026-09-20"]

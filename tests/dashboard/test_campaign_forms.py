"""The forms of a campaign: create, change, delete, and the page of its pixel."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from pixel_server.cli import main
from pixel_server.dashboard.campaign_form import MAIN_MODES, MODES, SAMPLES, WEB_MODES, main_modes
from pixel_server.mail.placement import pixels
from pixel_server.secret import Secrets
from pixel_server.tokens import verify
from tests.dashboard.conftest import form_of
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

START = {"name": "Spring", "id": "spring", "mode": "pseudonymous"}


def shown(site, name="mail"):
    return site.get(f"/api/campaigns/{name}").json()


def wrong(answer):
    """Returns the error message of each field. Each message must be linked to its field.

    The links above the form must be in the order of the fields.
    """
    page = Page(answer)
    ids = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    alert = re.search('<div class="alert" role="alert"[^>]*>.*?</div>', answer.text, re.DOTALL)
    places = [ids.index(linked) for linked in re.findall('href="#([^"]+)"', alert[0] if alert else "")]
    assert places == sorted(places)
    told = [attrs for _, attrs in page.found if attrs.get("aria-invalid")]
    for attrs in told:
        name = attrs.get("name", "")
        assert not name or f"wrong-{name}" in attrs["aria-describedby"]
    return dict(re.findall(r'id="wrong-(\w+)"><bdi>(.*?)</bdi>', answer.text))


def test_campaign_form_mail_fields_create_campaign(site, reader, send):
    filled = {"sent": "1200", "bounced": "4", "sent_at": "2026-09-21T09:30", "time_zone": "Europe/Berlin"}
    more = {"mode": "identified", "gpc": "drop", "min_cell": "7", "keep_names": "30"}
    more["base_url"] = "https://pixel.example.org/px/"
    more["tags"] = " News,spring sale ,, news"
    answer = send("/new", **{**START, **filled, **more})
    assert (answer.status_code, answer.headers["location"]) == (303, "/campaigns/spring?done=made")
    found = shown(site, "spring")
    assert found.pop("created")
    assert found == {
        **{"id": "spring", "name": "Spring", "kind": "email", "sent": 1200, "bounced": 4},
        **{"time_zone": "Europe/Berlin", "sent_at": "2026-09-21T07:30:00Z", "min_cell": 7},
        **{"base_url": "https://pixel.example.org/px", "mode": "identified", "gpc": "drop"},
        **{"keep": {"names": 30}, "identity": None, "origins": None, "paths": None},
        **{"preset": None, "closed_at": None, "made_by": "api", "tags": ["News", "spring sale"]},
    }
    assert "The campaign was created." in reader.get(answer.headers["location"]).text
    assert "The campaign was created." not in reader.get("/campaigns/spring?done=<b>").text


@pytest.mark.parametrize(
    ("preset", "chosen", "mode"),
    [
        ("deliverability", None, "last"),
        ("consented", None, "pseudonymous"),
        ("aggregate", "identified", "count"),
        ("consented", "identified", "identified"),
        ("consented", "count", "pseudonymous"),
    ],
)
def test_campaign_form_preset_sets_the_mode(site, reader, send, preset, chosen, mode):
    assert 'name="preset"' in reader.get("/new").text
    assert send("/new", **{**START, "mode": chosen}, preset=preset).status_code == 303
    assert (shown(site, "spring")["preset"], shown(site, "spring")["mode"]) == (preset, mode)
    assert f"preset {preset} (mode {mode})" in reader.get("/campaigns/spring").text


def test_campaign_form_preset_can_only_be_dropped(site, reader, send, confirm, mail):
    mail(preset="deliverability")
    refused = send("/campaigns/mail/edit", preset="deliverability", mode="count", name="New")
    assert refused.status_code == 409
    assert "goes with the mode last" in wrong(refused)["mode"]
    asked = send("/campaigns/mail/edit", preset="", mode="count")
    assert "The preset deliverability is dropped. It cannot be chosen again." in asked.text
    assert confirm(asked, "/campaigns/mail/edit").status_code == 303
    assert (shown(site)["preset"], shown(site)["mode"]) == (None, "count")
    assert 'name="preset"' not in reader.get("/campaigns/mail/edit").text


def test_campaign_form_each_mode_has_a_meaning_for_mail_and_web(reader):
    answer = reader.get("/new")
    assert "Do you want to see who opened?" in answer.text
    assert "you can only change to an answer that stores less" in answer.text
    assert radios(answer, "mode") == ["identified", "pseudonymous", "count", "off", "last"]
    assert radios(answer, "web_mode") == ["off", "count", "pseudonymous"]
    for name, meaning in {**MODES, **MAIN_MODES}.items():
        shown_meaning = re.search(f'id="means-mode-{name}">(.*?)</span></div>', answer.text)[1]
        sample = f'<span class="sample">{SAMPLES[name]}</span> ' if name in SAMPLES else ""
        assert shown_meaning == sample + meaning
    for name in radios(answer, "web_mode"):
        assert f'id="means-web_mode-{name}">{WEB_MODES[name]}</span>' in answer.text


def labels_of(answer, name):
    """Returns the label of each radio button with this name, as (words, value of the API)."""
    return dict(
        re.findall(rf'<label for="{name}-\w+">(.*?) <code class="dim">(\w+)</code></label>', answer.text)
    )


def test_campaign_forms_same_choice_has_the_same_words_beside_the_api_value(reader, mail, page):
    mail()
    page()
    new, mailing, web_site = (
        reader.get(f"/{path}") for path in ("new", "campaigns/mail/edit", "campaigns/page/edit")
    )
    for name, name_of_new, edit in (
        ("mode", "mode", mailing),
        ("mode", "web_mode", web_site),
        ("identity", "identity", web_site),
        ("paths", "paths", web_site),
    ):
        shown = labels_of(edit, name)
        assert list(shown.values()) == radios(edit, name)
        assert shown == labels_of(new, name_of_new)
        assert not shown.keys() & set(shown.values()), "a bare value is no label"
    assert labels_of(mailing, "mode")["No, only keys"] == "pseudonymous"
    assert "<legend>Do you want to see who opened?</legend>" in mailing.text
    assert "<legend>What is stored about visitors?</legend>" in web_site.text
    assert not any("same as" in text for text in (*MODES.values(), *WEB_MODES.values()))


def test_campaign_form_mailing_without_an_answer_is_refused(site, reader, send):
    fields = form_of(reader.get("/new"), "/new")
    assert "mode" not in fields
    assert fields["web_mode"] == "pseudonymous"
    refused = send("/new", name="Spring", sent="many")
    assert refused.status_code == 422
    assert wrong(refused).keys() == {"mode", "sent"}
    assert wrong(refused)["mode"] == "Choose an answer."
    assert '<a href="#mode-identified">Do you want to see who opened?</a>' in refused.text
    assert not re.search(r'<details class="rest" open', refused.text)
    assert wrong(send("/new", name="Spring", mode="all"))["mode"].startswith("Must be one of: ")
    assert site.get("/api/campaigns").json()["items"] == []


def test_campaign_form_refused_keeps_the_answer(send):
    refused = send("/new", name="", mode="last")
    assert form_of(refused, "/new")["mode"] == "last"
    assert radios(refused, "mode").count("last") == 1
    refused = send("/new", **{**START, "name": ""}, kind="web", web_mode="count")
    assert (form_of(refused, "/new")["web_mode"], wrong(refused).keys()) == ("count", {"name"})
    refused = send("/new", **START, kind="web", web_mode="all")
    assert (wrong(refused).keys(), 'href="#web_mode-off"' in refused.text) == ({"web_mode"}, True)


@pytest.mark.parametrize(
    ("default", "chosen", "added"), [("count", "", []), ("off", "last", ["off", "last"])]
)
def test_main_modes_include_default_and_chosen_mode(default, chosen, added):
    assert list(main_modes(default, chosen)) == [*MAIN_MODES, *added]


def radios(answer, name):
    """Returns the values of a group of radio buttons, in their order."""
    return [each["value"] for each in Page(answer).all("input") if each.get("name") == name]


def test_campaign_form_web_site_offers_no_mode_that_only_mail_has(reader, page):
    page()
    modes = re.findall(r'type="radio" id="mode-(.*?)"', reader.get("/campaigns/page/edit").text)
    assert modes == ["off", "count", "pseudonymous"]


def test_campaign_form_empty_fields_get_the_api_defaults(site, send):
    send("/new", **START)
    made = {"id": "other", "name": "Spring", "kind": "email"}
    send("/new", name="Site", id="site", kind="web")
    assert shown(site, "site")["mode"] == "pseudonymous"
    expected = site.post("/api/campaigns", json=made).json()
    found = shown(site, "spring")
    for each in (found, expected):
        del each["id"], each["created"]
    assert found == expected


def test_campaign_form_web_fields_create_campaign(site, send):
    origins = "https://www.example.org\r\n\r\n  https://example.org  \r\n"
    # Fields that only a mail has are not shown for a site, whatever stands in them.
    answer = send("/new", **START, kind="web", identity="own", paths="folded", origins=origins, sent="many")
    assert answer.status_code == 303
    found = shown(site, "spring")
    assert (found["kind"], found["identity"], found["paths"], found["sent"]) == ("web", "own", "folded", None)
    assert found["origins"] == ["https://www.example.org", "https://example.org"]


def test_campaign_form_refused_keeps_its_fields(site, reader, send):
    filled = {
        **{"name": "", "id": "Spring!", "sent": "many", "bounced": "-1", "sent_at": "soon"},
        **{"time_zone": "../etc/passwd", "base_url": "ftp://x", "mode": "all", "gpc": "no"},
        **{"keep_names": "99999", "min_cell": "9" * 5000},
    }
    answer = send("/new", **filled)
    assert answer.status_code == 422
    page = assert_harmless(answer)
    assert [each for _, each in page.found if each.get("role") == "alert"]
    names = {"name", "id", "sent", "bounced", "sent_at", "time_zone", "base_url", "mode", "gpc", "min_cell"}
    told = wrong(answer)
    assert told.keys() == names | {"keep"}
    assert told["sent"] == "Must be a whole number from 0 to 1,000,000,000, or empty."
    kept = form_of(answer, "/new")
    for name, text in filled.items():
        if name not in ("mode", "gpc"):
            assert kept[name] == text
    assert site.get("/api/campaigns").json()["items"] == []


def test_campaign_form_used_id_is_refused(reader, send, mail):
    mail()
    answer = send("/new", name="Mail", id="mail", mode="count")
    assert answer.status_code == 409
    assert "taken" in wrong(answer)["id"]


def test_campaign_form_empty_id_is_created_from_the_name(site, reader, send):
    assert "If empty, the id is created from the name." in reader.get("/new").text
    for made in ("grosse-fruhjahrs-post-26", "grosse-fruhjahrs-post-26-2", "grosse-fruhjahrs-post-26-3"):
        answer = send("/new", **{**START, "name": "Große Frühjahrs-Post '26!", "id": " "})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{made}?done=made")
    assert shown(site, made)["name"] == "Große Frühjahrs-Post '26!"
    long = [send("/new", name="W" * 200, id="", mode="count").headers["location"] for _ in range(2)]
    assert long == [f"/campaigns/{'w' * 63}?done=made", f"/campaigns/{'w' * 61}-2?done=made"]
    # What has no letter of an id in it, and what is taken by typing, is for the sender to say.
    answer = send("/new", name="春の便り", id="", mode="count")
    assert (answer.status_code, wrong(answer).keys()) == (422, {"id"})
    assert "a to z, 0 to 9 and hyphens" in wrong(answer)["id"]
    assert wrong(send("/new", name="", id="", mode="count")).keys() == {"name", "id"}
    assert send("/new", name="W", id="w" * 63, mode="count").status_code == 409
    assert wrong(send("/new", name="Spring", id="", mode="count", sent="many")).keys() == {"sent"}


def test_campaign_page_id_new_is_shown(reader, mail):
    mail(id="new", name="Novelties")
    assert "Novelties" in reader.get("/campaigns/new").text


def test_campaign_edit_changes_only_changed_fields(site, reader, send, mail, clock):
    mail(sent_at="2026-10-25T00:30:00Z", time_zone="Europe/Berlin", bounced=3)
    before = shown(site)
    assert (
        form_of(reader.get("/campaigns/mail/edit"), "/campaigns/mail/edit")["sent_at"] == "2026-10-25T02:30"
    )
    answer = send("/campaigns/mail/edit")
    assert answer.headers["location"] == "/campaigns/mail/edit?done=saved"
    assert shown(site) == before
    lines = site.get("/api/audit").json()["items"]
    assert not [line for line in lines if line["what"] == "campaign.changed"]
    send("/campaigns/mail/edit", name="Another", sent_at="2026-10-26T08:00:05", bounced="", keep_days="100")
    after = {"name": "Another", "sent_at": "2026-10-26T07:00:05Z", "bounced": 0, "keep": {"days": 100}}
    assert shown(site) == {**before, **after}
    page = reader.get("/campaigns/mail/edit")
    assert form_of(page, "/campaigns/mail/edit")["sent_at"] == "2026-10-26T08:00:05"
    [line] = [each for each in site.get("/api/audit").json()["items"] if each["what"] == "campaign.changed"]
    assert line["about"] == {"campaign": "mail", "fields": "keep,sent_at"}
    assert line["who"].startswith("key ")


def test_campaign_edit_refused_change_keeps_the_campaign(site, reader, send, mail):
    mail()
    before = shown(site)
    answer = send("/campaigns/mail/edit", sent="x" * 300, keep_buckets="0")
    assert answer.status_code == 422
    assert wrong(answer).keys() == {"sent", "keep"}
    assert form_of(answer, "/campaigns/mail/edit")["sent"] == "x" * 300
    assert shown(site) == before


def test_campaign_edit_after_first_hit_shows_fixed_fields(reader, send, confirm, page, viewed, stats):
    page(mode="count", time_zone="Europe/Berlin")
    fields = form_of(reader.get("/campaigns/page/edit"), "/campaigns/page/edit")
    assert {"time_zone", "identity", "mode"} <= fields.keys()
    assert not {"id", "kind", "sent", "bounced", "sent_at"} & fields.keys()
    viewed("2026-09-21T09:00Z")
    stats("page")
    answer = reader.get("/campaigns/page/edit")
    fields = form_of(answer, "/campaigns/page/edit")
    assert not {"time_zone", "identity"} & fields.keys()
    assert answer.text.count("Cannot be changed any more: ") == 2
    radios = {
        each["value"]: "disabled" in each for each in Page(answer).all("input") if each["name"] == "mode"
    }
    assert [value for value, out in radios.items() if not out] == ["off", "count"]
    for name, text in (("time_zone", "UTC"), ("identity", "cookie"), ("mode", "identified")):
        refused = send("/campaigns/page/edit", **{name: text})
        assert refused.status_code == 409
        assert "after the first hit" in refused.text.lower()
    assert confirm(send("/campaigns/page/edit", mode="off"), "/campaigns/page/edit").status_code == 303


def test_campaign_forms_name_all_faults_at_once(site, send, mail):
    mail(preset="aggregate", sent=3)
    faults = {"name": "", "bounced": "4", "min_cell": "no", "mode": "identified"}
    refused = send("/campaigns/mail/edit", **faults)
    assert (refused.status_code, wrong(refused).keys()) == (422, faults.keys())
    refused = send("/campaigns/mail/edit", bounced="4", mode="identified")
    assert (refused.status_code, wrong(refused).keys()) == (409, {"bounced", "mode"})
    faults = {"id": "mail", "name": "", "sent": "3", "bounced": "4", "mode": "count"}
    assert wrong(send("/new", **faults)).keys() == {"id", "name", "bounced"}
    assert wrong(send("/new", **{**faults, "name": "M"})).keys() == {"id", "bounced"}
    assert wrong(send("/new", **{**faults, "name": "M", "id": ""})).keys() == {"bounced"}
    assert [each["id"] for each in site.get("/api/campaigns").json()["items"]] == ["mail"]


def test_campaign_edit_mail_ignores_fields_of_a_web_site(send, mail):
    mail()
    answer = send("/campaigns/mail/edit", origins="https://example.org")
    assert answer.status_code == 409
    assert "for web campaigns" in answer.text


def test_campaign_delete_needs_the_id(site, reader, send, mail):
    mail(name=EVIL[0])
    assert_harmless(reader.get("/campaigns/mail/delete"))
    refused = send("/campaigns/mail/delete", id=EVIL[1])
    assert refused.status_code == 422
    assert_harmless(refused)
    assert wrong(refused).keys() == {"id"}
    assert shown(site)["id"] == "mail"
    answer = send("/campaigns/mail/delete", id=" mail ")
    assert answer.headers["location"] == "/?done=deleted"
    assert "were deleted" in reader.get("/?done=deleted").text
    assert site.get("/api/campaigns/mail").status_code == 404
    for path in ("edit", "delete", "pixel"):
        assert reader.get(f"/campaigns/mail/{path}").status_code == 404


# Pixels


def test_pixel_page_recipient_shows_tag_and_privacy_link(site, reader, send, mail, secrets):
    mail()
    answer = send("/campaigns/mail/pixel", recipient="ada@example.org", part="top", test="yes")
    assert answer.status_code == 200
    page = assert_harmless(answer)
    found = re.search(r"&lt;img src=&#34;http://pixel\.test/o/([\w-]+)\.gif&#34; width=", answer.text)
    assert found is not None
    _, _, recipient, campaign = verify(found[1].encode(), secrets.signing)
    assert (recipient, campaign) == (secrets.recipient_key("ada@example.org"), "mail")
    assert f"http://pixel.test/privacy?t={found[1]}" in page.text
    assert site.get(f"/o/{found[1]}.gif").headers["x-pixel"] == "recorded"
    # A link was created: from now on the mode can only be lowered.
    assert site.patch("/api/campaigns/mail", json={"mode": "identified"}).status_code == 409


def test_pixel_page_commands_do_what_the_page_says(reader, mail, tmp_path, monkeypatch):
    mail()
    page = Page(reader.get("/campaigns/mail/pixel"))
    commands = re.findall(
        r"pixel-server ((?:embed|link) mail --recipients \S+ --out (?:mails|links\.csv))", page.text
    )
    assert [command.split()[0] for command in commands] == ["embed", "link"]
    monkeypatch.chdir(tmp_path)
    Secrets.load_or_create(tmp_path / "data")
    (tmp_path / "list.csv").write_text("recipient\nada@example.org\n")
    environ = {"PIXEL_BASE_URL": "http://pixel.test", "PIXEL_DATA_DIR": str(tmp_path / "data")}
    for command in commands:
        done = CliRunner().invoke(main, command.split(), env=environ, input=b"<body>Hi</body>")
        assert (done.exit_code, done.output) == (0, "")
    assert len(pixels((tmp_path / "mails" / "0000" / "0000000.html").read_bytes())) == 1
    assert "pixel_html" in (tmp_path / "links.csv").read_text()


@pytest.mark.parametrize("recipient", ["", "x" * 300, "a\x00b", "ada\x1b"])
def test_pixel_page_invalid_recipient_is_refused(reader, send, mail, recipient):
    mail()
    answer = send("/campaigns/mail/pixel", recipient=recipient)
    assert answer.status_code == 422
    assert wrong(answer).keys() == {"recipient"}
    assert "Image tag" not in answer.text


def test_pixel_page_no_base_url_or_mode_off_has_no_form(site, reader, send, mail, page, settings):
    mail(mode="off")
    assert "it has no pixel" in reader.get("/campaigns/mail/pixel").text
    page()
    assert "data-copy" in reader.get("/campaigns/page/pixel").text
    object.__setattr__(settings, "base_url", None)
    answer = reader.get("/campaigns/page/pixel")
    assert "PIXEL_BASE_URL" in answer.text
    assert "data-copy" not in answer.text
    mail(id="own", base_url="https://news.example.org")
    made = send("/campaigns/own/pixel", recipient="ada")
    assert "https://news.example.org/o/" in made.text


def test_pixel_page_web_site_shows_script_and_image(reader, page):
    page(base_url="https://pixel.example.org/a&b")
    found = Page(reader.get("/campaigns/page/pixel"))
    assert '<img src="https://pixel.example.org/a&amp;b/p/page.gif" width="1"' in found.text
    assert '<script defer src="https://pixel.example.org/a&amp;b/p.js" data-campaign="page">' in found.text
    assert all("readonly" in each for each in found.all("textarea"))


# Who may


def test_campaign_pages_read_scope_has_no_forms(sign_in, made_key, mail, page):
    mail()
    page()
    visitor = sign_in(made_key("read")[1])
    for path in ("/", "/campaigns/mail", "/campaigns/mail/pixel", "/campaigns/page/pixel"):
        answer = visitor.get(path)
        assert answer.status_code == 200
        forms = [each for each in Page(answer).all("form") if each.get("method") == "post"]
        assert [each["action"] for each in forms] == ["/sign-out"]
        assert not re.search(r'href="/(new|campaigns/\w+/(edit|delete))"', answer.text)
    token = form_of(answer, "/sign-out")["csrf"]
    for path in ("/new", "/campaigns/mail/edit", "/campaigns/mail/delete"):
        assert visitor.get(path).status_code == 403
    for path in ("/new", "/campaigns/mail/edit", "/campaigns/mail/delete", "/campaigns/mail/pixel"):
        fields = {"csrf": token, "id": "mail", "name": "x", "kind": "email", "recipient": "x"}
        assert visitor.post(path, data=fields).status_code == 403
    assert visitor.get("/campaigns/mail").status_code == 200


def test_campaign_pages_form_without_csrf_token_is_refused(reader, send, mail):
    mail()
    for path in ("/new", "/campaigns/mail/edit", "/campaigns/mail/delete", "/campaigns/mail/pixel"):
        for token in (None, "wrong"):
            assert send(path, csrf=token, id="mail", name="x", recipient="x").status_code == 403
    assert reader.get("/campaigns/mail").status_code == 200


@pytest.mark.parametrize("text", EVIL)
def test_campaign_pages_hostile_input_is_harmless(reader, send, mail, text):
    mail(name=text)
    for path in ("edit", "delete", "pixel"):
        assert_harmless(reader.get(f"/campaigns/mail/{path}"))
    fields = {"id": text, "time_zone": text, "origins": text, "base_url": text, "sent_at": text, "kind": text}
    fields["tags"] = text
    assert_harmless(send("/new", name=text * 300, **fields))
    assert_harmless(send("/campaigns/mail/pixel", recipient=text * 300, part=text))

"""`pixel-server deliveries`: the import of a file."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from pixel_server.cli import main
from pixel_server.secret import Secrets


@pytest.fixture
def secrets(settings) -> Secrets:
    return Secrets.load_or_create(settings.data)


@pytest.fixture
def run(settings, tmp_path):
    """Returns a function that runs `pixel-server deliveries`. `-` stands for a file with `lines`."""

    def run(*arguments: str, lines: str = "", code: int = 0, typed: str = "") -> Result:
        environ = {
            "PIXEL_DATA_DIR": str(settings.data),
            "REDIS_URL": settings.redis_url,
            "PIXEL_BASE_URL": "http://pixel.test",
        }
        file = tmp_path / "events.ndjson"
        file.write_text(lines)
        words = [str(file) if word == "-" and not typed else word for word in arguments]
        done = CliRunner().invoke(main, ["deliveries", *words], env=environ, input=typed)
        assert done.exit_code == code, done.output
        return done

    return run


def test_deliveries_import_counts_lines_and_names_what_it_leaves_out(mail, run, stats):
    mail()
    told = '{"recipient": "ada", "event": "delivered"}\n{"recipient": "bob", "event": "bounced_soft"}\n'
    assert run("import", "--campaign", "mail", "-", lines=told).stdout == "2 new, 0 known, 0 withdrawn\n"
    shown = stats("mail")
    assert (shown["sent"], shown["bounced"]) == (2, 1)
    bad = run("import", "--campaign", "mail", "-", lines=told + '{"recipient": "cy"}\n', code=1)
    assert bad.stdout == "0 new, 2 known, 0 withdrawn\n"
    assert "lines left out: 1; line 3: Object missing required field `event`" in bad.stderr


def test_deliveries_import_of_lines_with_campaigns_says_what_was_not_counted(mail, run):
    mail()
    line = '{"recipient": "ada", "event": "delivered", "campaign": "%s"}\n'
    done = run("import", "--json", "-", lines=line % "mail" + line % "other")
    assert json.loads(done.stdout)["ignored"] == {"unknown_campaign": 1}
    assert "not counted: 1 events of a campaign that does not exist" in done.stderr
    alone = run("import", "-", lines=line % "other", code=1)
    assert "no event was counted" in alone.stderr
    assert "there is no event in it" in run("import", "-", code=1).stderr


def test_deliveries_source_is_added_listed_and_removed(run, site):
    added = run("add", "mailgun", "Shop", "--key", "-", typed="a-signing-key-of-mailgun\n")
    assert added.stdout.startswith("http://pixel.test/in/mailgun/")
    later = run("add", "sendgrid")
    items = {item["provider"]: item for item in json.loads(run("list", "--json").stdout)["items"]}
    shop, sendgrid = items["mailgun"], items["sendgrid"]
    assert (shop["name"], shop["has_key"], sendgrid["name"]) == ("Shop", True, "SendGrid")
    assert f"pixel-server deliveries key {sendgrid['id']} KEY" in later.stderr
    assert "needs its key" in run("list").stdout
    assert "KEY must be the verification key" in run("key", sendgrid["id"], "x", code=1).stderr
    assert run("remove", sendgrid["id"]).stdout == f"removed {sendgrid['id']}\n"
    for command in (("remove", sendgrid["id"]), ("key", sendgrid["id"], "x"), ("remove", "../x")):
        assert "there is no mail service" in run(*command, code=1).stderr
    assert "--key must be the ARN" in run("add", "ses", "--key", "x", code=1).stderr
    what = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert what.count("deliveries.source_added") == 2
    assert what.count("deliveries.source_removed") == 1

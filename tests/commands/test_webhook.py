"""`pixel-server webhook`: each command, and what it refuses."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from pixel_server.cli import main
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.webhooks import deliveries
from pixel_server.webhooks.deliveries import Delivery

URL = "https://hooks.example.org/opens"


@pytest.fixture
def secrets(settings) -> Secrets:
    return Secrets.load_or_create(settings.data)


@pytest.fixture
def run(settings):
    """Returns a function that runs `pixel-server webhook`."""

    def run(*arguments: str, code: int = 0) -> Result:
        environ = {"PIXEL_DATA_DIR": str(settings.data), "REDIS_URL": settings.redis_url}
        done = CliRunner().invoke(main, ["webhook", *arguments], env=environ)
        assert done.exit_code == code, done.output
        return done

    return run


def test_webhook_from_create_to_delete(mail, run, settings):
    mail()
    assert "there are no webhooks" in run("list").stdout
    made = json.loads(run("create", URL, "--event", "open.first", "--campaign", "mail", "--json").stdout)
    assert made["secret"].startswith("whsec_")
    webhook = made["id"]
    assert f"{webhook}  0" in run("list").stdout
    assert json.loads(run("show", webhook, "--json").stdout)["campaigns"] == ["mail"]
    assert URL in run("show", webhook).stdout
    run("change", webhook, "--all-campaigns", "--event", "health", "--disable")
    changed = json.loads(run("show", webhook, "--json").stdout)
    assert (changed["campaigns"], changed["events"], changed["is_enabled"]) == ([], ["health"], False)
    assert "disabled" in run("test", webhook, code=1).stderr
    run("change", webhook, "--enable")
    assert "waits to be sent" in run("test", webhook).stdout
    assert json.loads(run("show", webhook, "--json").stdout)["waiting"] == 1
    assert "0 requests" in run("again", webhook).stdout
    assert json.loads(run("deliveries", webhook, "--json").stdout) == {"items": [], "next": None}
    line = Delivery(0, "evt_1", "health", 1, 1, None, 3, "its address is not public", "retry", was_sent=False)
    words = deliveries.words(line)
    connect(settings.redis_url).xadd(keys.hook_log(webhook), dict(zip(words[::2], words[1::2], strict=True)))
    assert "not sent        try 1   retry      evt_1  its address" in run("deliveries", webhook).stdout
    [shown] = json.loads(run("deliveries", webhook, "--json").stdout)["items"]
    assert (shown["was_sent"], shown["status"]) == (False, None)
    assert run("secret", webhook).stdout.startswith("whsec_")
    assert run("delete", webhook).stdout == f"deleted {webhook}\n"
    assert "there is no webhook" in run("show", webhook, code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "http://hooks.example.org/", "--event", "health"), "URL must be an https address"),
        (("create", URL), "--event must be some of: open.first"),
        (("create", URL, "--event", "opened"), "--event must be some of: open.first"),
        (("create", URL, "--event", "health", "--campaign", "none"), "none"),
        (("create", URL, "--event", "health", "--secret", "x"), "--secret must be whsec_"),
        (("change", "0123456789"), "give at least one option"),
        (("change", "0123456789", "--name", "x"), "there is no webhook 0123456789"),
        (("change", "1", "--all-campaigns", "--campaign", "a"), "not both"),
        (("deliveries", "0123456789"), "there is no webhook"),
        (("again", "0123456789"), "there is no webhook"),
        (("delete", "0123456789"), "there is no webhook"),
        (("secret", "0123456789"), "there is no webhook"),
    ],
)
def test_webhook_bad_input_is_named(site, run, arguments, says):
    assert says in run(*arguments, code=1).stderr

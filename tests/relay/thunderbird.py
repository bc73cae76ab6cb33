"""Thunderbird, without a screen: sends one HTML mail, told by Marionette (Mozilla's remote control)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.stack import free_port, until

PREFERENCES: dict[str, Any] = {
    "app.update.auto": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "mail.account.account1.identities": "id1",
    "mail.account.account1.server": "server1",
    "mail.accountmanager.accounts": "account1",
    "mail.identity.id1.doFcc": False,
    "mail.identity.id1.fullName": "Shop",
    "mail.identity.id1.smtpServer": "smtp1",
    "mail.identity.id1.useremail": "shop@example.org",
    "mail.identity.id1.valid": True,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.server.server1.hostname": "Local Folders",
    "mail.server.server1.type": "none",
    "mail.server.server1.userName": "nobody",
    "mail.smtp.defaultserver": "smtp1",
    "mail.smtpserver.smtp1.authMethod": 1,
    "mail.smtpserver.smtp1.hostname": "127.0.0.1",
    "mail.smtpserver.smtp1.try_ssl": 0,
    "mail.smtpservers": "smtp1",
    "mail.spotlight.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "network.proxy.type": 0,
}
REMOTE = ("--marionette", "--remote-allow-system-access")
SEND = """
const [to, html, done] = arguments;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const create = (name, kind) => Cc["@mozilla.org/messengercompose/" + name + ";1"].createInstance(kind);
const fields = create("composefields", Ci.nsIMsgCompFields);
const identity = MailServices.accounts.allIdentities[0];
fields.from = identity.email;
fields.to = to;
fields.subject = "Grüße";
fields.body = html;
const params = create("composeparams", Ci.nsIMsgComposeParams);
params.composeFields = fields;
params.identity = identity;
params.format = Ci.nsIMsgCompFormat.HTML;
params.type = Ci.nsIMsgCompType.New;
const account = MailServices.accounts.accounts[0].key;
const compose = MailServices.compose.initCompose(params);
compose.sendMsg(Ci.nsIMsgCompDeliverMode.Now, identity, account, null, null)
  .then(() => done("sent"), error => done(String(error)));
"""


class Marionette:
    """A connection to Marionette. A message is `12:[0,1,"name",{}]`: its length, a colon, and JSON."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._read()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def call(self, name: str, **arguments: Any) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, name, arguments]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def _read(self) -> Any:
        length = b""
        while (byte := self._file.read(1)) != b":":
            assert byte, "Thunderbird has closed the connection"
            length += byte
        return json.loads(self._file.read(int(length)))


def send(home: Path, smtp_port: int, to: str, html: str) -> None:
    """Sends a mail by a new Thunderbird. Skips the test without Thunderbird, or fails it if CI is set.

    home: an empty directory.
    """
    if shutil.which("thunderbird") is None:
        missing = "thunderbird is missing: apt-get install thunderbird"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    profile, port = home / "profile", free_port()
    profile.mkdir()
    preferences = {**PREFERENCES, "marionette.port": port, "mail.smtpserver.smtp1.port": smtp_port}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (profile / "user.js").write_text("".join(lines))
    with (home / "thunderbird.log").open("wb") as log:
        process = subprocess.Popen(
            ["thunderbird", "--headless", "--no-remote", *REMOTE, "--profile", str(profile)],
            env={**os.environ, "HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        marionette = until(lambda: _connected(port))
        with contextlib.closing(marionette):
            marionette.call("WebDriver:NewSession")
            marionette.call("Marionette:SetContext", value="chrome")
            result = marionette.call("WebDriver:ExecuteAsyncScript", script=SEND, args=[to, html])
            assert result["value"] == "sent", result
    finally:
        process.kill()
        process.wait()


def _connected(port: int) -> Marionette | None:
    with contextlib.suppress(OSError):
        return Marionette(port)
    return None

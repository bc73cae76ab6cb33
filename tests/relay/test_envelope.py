"""The arguments of MAIL and RCPT."""

from __future__ import annotations

import pytest

from pixel_server.relay.envelope import Refusal, parse_recipient, parse_sender

ALL = {"size": "1000", "8bitmime": "", "smtputf8": "", "dsn": ""}


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("FROM:<a@example.org>", "MAIL FROM:<a@example.org>"),
        ("from: <a@example.org>", "MAIL FROM:<a@example.org>"),
        ("FROM:a@example.org", "MAIL FROM:<a@example.org>"),
        ("FROM:<>", "MAIL FROM:<>"),
        ("FROM:<@relay.example,@b.example:a@example.org>", "MAIL FROM:<a@example.org>"),
        ('FROM:<"a> b"@example.org>', 'MAIL FROM:<"a> b"@example.org>'),
        ("FROM:<ä@example.org> SMTPUTF8", "MAIL FROM:<ä@example.org> SMTPUTF8"),
        (
            "FROM:<a@example.org> size=20 body=8bitmime RET=HDRS ENVID=Q+2B1 AUTH=<>",
            "MAIL FROM:<a@example.org> SIZE=20 BODY=8bitmime RET=HDRS ENVID=Q+2B1",
        ),
    ],
)
def test_parse_sender_argument_is_passed_on(argument: str, command: str):
    assert parse_sender(argument, ALL, 100).command("MAIL FROM") == command


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (None, b"5.5.4"),
        ("", b"5.5.4"),
        ("TO:<a@example.org>", b"5.5.4"),
        ("FROM:", b"5.5.4"),
        ("FROM:<a@example.org", b"5.5.4"),
        ("FROM:<a@example.org>x", b"5.5.4"),
        ("FROM:<a @example.org>", b"5.5.4"),
        ("FROM:<a@example.org> SIZE=1 SIZE=2", b"5.5.4"),
        ("FROM:<a@example.org> X=1", b"5.5.4"),
        ("FROM:<a@example.org> SIZE=-1", b"5.5.4"),
        ("FROM:<a@example.org> SIZE", b"5.5.4"),
        ("FROM:<a@example.org> BODY=BINARYMIME", b"5.5.4"),
        ("FROM:<a@example.org> SIZE=101", b"5.3.4"),
        ("FROM:<a@example.org>\rRCPT TO:<b@example.org>", b"5.5.2"),
        ("FROM:<a\0@example.org>", b"5.5.2"),
        ("FROM:<\udcff@example.org> SMTPUTF8", b"5.5.2"),
        ("FROM:<ä@example.org>", b"5.6.7"),
    ],
)
def test_parse_sender_bad_argument_raises_refusal(argument: str | None, code: bytes):
    with pytest.raises(Refusal) as raised:
        parse_sender(argument, ALL, 100)
    assert raised.value.reply.lines[0].startswith(code)


@pytest.mark.parametrize("parameter", ["BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=1"])
def test_parse_sender_parameter_not_offered_raises_refusal(parameter: str):
    with pytest.raises(Refusal) as raised:
        parse_sender(f"FROM:<a@example.org> {parameter}", {}, 100)
    assert raised.value.reply.code == 555


def test_parse_sender_size_is_kept_from_a_server_that_does_not_offer_it():
    assert parse_sender("FROM:<a@example.org> SIZE=20", {}, 100).command("MAIL FROM") == (
        "MAIL FROM:<a@example.org>"
    )


def test_parse_recipient_spelling_and_parameters_are_kept():
    path = parse_recipient("TO:<Ada+x@Example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b", ALL, False)
    assert path.address == "Ada+x@Example.org"
    assert path.command("RCPT TO") == ("RCPT TO:<Ada+x@Example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b")


@pytest.mark.parametrize("argument", ["TO:<>", "TO:<ä@example.org>", "TO:<a@example.org> SIZE=1 AUTH=x"])
def test_parse_recipient_bad_argument_raises_refusal(argument: str):
    with pytest.raises(Refusal):
        parse_recipient(argument, {}, False)

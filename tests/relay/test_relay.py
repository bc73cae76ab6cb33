"""One client and one scripted server: each reply, each byte, and what hostile clients get."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_server.mail.placement import pixels
from tests.relay.servers import ScriptedServer, Talk, running_relay, stuffed
from tests.stack import free_port, until

ADA, BOB = "ada@example.org", "bob@example.org"
HTML = b"Subject: Hi\r\nContent-Type: text/html\r\n\r\n<html><body><p>Hi</p></body></html>\r\n"
ODD = b".\r\n..\r\n.a\r\n\r\nSubject: \xe4\xff\r\n" + b"x" * 200_000 + b"\r\n.\r\n \t\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer().running() as running:
        yield running


@pytest.fixture
def behind(server: ScriptedServer) -> ScriptedServer:
    """Returns the next server, as if it had just been started."""
    server.replies, server.on_step, server.replies_to = {}, lambda step: None, lambda step: None
    server.commands.clear()
    server.mails.clear()
    return server


@pytest.fixture(scope="module")
def port(server: ScriptedServer) -> Iterator[int]:
    with running_relay(server.port, each=True, max_bytes=1 << 20, memory_bytes=2 << 20) as port:
        yield port


@pytest.fixture
def talk(port: int, behind: ScriptedServer) -> Iterator[Talk]:
    with Talk(port) as client:
        yield client


def pixel_count(raw: bytes) -> int:
    return len(pixels(raw))


def test_relay_html_to_one_recipient_has_a_pixel(talk: Talk, behind: ScriptedServer):
    behind.replies["."] = b"250-2.0.0 taken\r\n250 as 4XYZ\r\n"
    assert talk.mail(HTML, ADA) == "250-2.0.0 taken\n250 as 4XYZ"
    [(_, raw)] = behind.mails
    assert pixel_count(raw) == 1


@pytest.mark.parametrize("raw", [b"", b"\r\n", ODD, ODD * 2], ids=["empty", "blank", "odd", "odd twice"])
def test_relay_other_mail_is_passed_on_byte_for_byte(talk: Talk, behind: ScriptedServer, raw: bytes):
    assert talk.mail(raw, ADA) == "250 2.0.0 ok"
    assert behind.mails[-1][1] == raw


def test_relay_several_recipients_get_one_mail_without_a_pixel(talk: Talk, behind: ScriptedServer):
    assert talk.mail(HTML, ADA, BOB) == "250 2.0.0 ok"
    assert behind.mails == [([f"RCPT TO:<{ADA}>", f"RCPT TO:<{BOB}>"], HTML)]


def test_relay_one_accepted_recipient_of_two_has_a_pixel(talk: Talk, behind: ScriptedServer):
    behind.replies[f"RCPT TO:<{BOB}>"] = b"550 5.1.1 no such user\r\n"
    assert talk.begin(ADA, BOB)[1:] == ["250 2.0.0 ok", "550 5.1.1 no such user"]
    talk.say("DATA")
    talk.send(HTML + b".\r\n")
    assert talk.reply() == "250 2.0.0 ok"
    assert pixel_count(behind.mails[-1][1]) == 1


@pytest.mark.parametrize("text", ["450 4.2.1 later: ä", "552-5.2.2 full\n552 5.2.2 ask ada"])
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
def test_relay_refusal_of_the_next_server_is_passed_on_as_it_is(
    talk: Talk, behind: ScriptedServer, step: str, text: str
):
    behind.replies[step] = text.replace("\n", "\r\n").encode() + b"\r\n"
    replies = [*talk.begin(ADA), talk.say("DATA")]
    if replies[-1].startswith("354"):
        talk.send(HTML + b".\r\n")
        replies.append(talk.reply())
    assert text in replies
    assert not behind.mails
    behind.replies.clear()
    talk.say("RSET")
    assert talk.mail(HTML, ADA) == "250 2.0.0 ok"
    assert len(behind.mails) == 1


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
def test_relay_next_server_that_breaks_off_is_no_success(talk: Talk, behind: ScriptedServer, step: str):
    behind.replies[step] = b""
    replies = [*talk.begin(ADA)]
    if all(reply.startswith("250") for reply in replies):
        replies.append(talk.say("DATA"))
        talk.send(HTML + b".\r\n")
        replies.append(talk.reply())
    assert any(reply.startswith(("421 4.4.2", "451 4.4")) for reply in replies), replies
    assert not any(reply.startswith("2") for reply in replies[2:]), replies


def test_relay_421_of_the_next_server_ends_the_connection(talk: Talk, behind: ScriptedServer):
    behind.replies["RCPT"] = b"421 4.3.2 going down\r\n"
    assert talk.begin(ADA)[1] == "421 4.3.2 going down"
    assert talk.reply() == ""


def test_relay_idle_connection_closed_by_the_next_server_is_renewed(talk: Talk, behind: ScriptedServer):
    assert talk.mail(HTML, ADA) == "250 2.0.0 ok"
    closed = iter([b"421 4.4.2 idle too long\r\n", b"250 ok\r\n"])
    behind.on_step = lambda step: (
        behind.replies.update(MAIL=next(closed)) if step.startswith("MAIL") else None
    )
    assert talk.mail(HTML, ADA) == "250 2.0.0 ok"
    assert len(behind.mails) == 2


def test_relay_next_server_away_is_a_refusal_for_now_and_tried_again():
    port = free_port()
    with running_relay(port) as relay_port:
        with Talk(relay_port) as client:
            assert client.say("EHLO again") == ""  # the first EHLO was answered with 421
        server = ScriptedServer()
        server.port = port
        with server.running():
            until(lambda: says_250(relay_port))
            with Talk(relay_port) as client:
                assert client.mail(HTML, ADA) == "250 2.0.0 ok"
        with Talk(relay_port) as client:
            assert client.begin(ADA)[0].startswith("451 4.4.1")


def says_250(port: int) -> bool:
    with Talk(port, greets=False) as client:
        return client.say("EHLO client.example").startswith("250")


def test_relay_offers_what_the_next_server_offers(talk: Talk):
    assert talk.say("EHLO x").split("\n")[1:] == [
        *("250-PIPELINING", "250-SIZE 1000000", "250-8BITMIME", "250-SMTPUTF8", "250-DSN"),
        "250 ENHANCEDSTATUSCODES",
    ]
    with (
        ScriptedServer(("AUTH PLAIN",)).running() as plain,
        running_relay(plain.port, max_bytes=99) as port,
        Talk(port, greets=False) as client,
    ):
        assert client.say("EHLO x").split("\n")[1:] == ["250-PIPELINING", "250 SIZE 99"]


def test_relay_parameters_are_passed_on(talk: Talk, behind: ScriptedServer):
    sender = "MAIL FROM:<ä@example.org> SIZE=9 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb"
    recipient = "RCPT TO:<ö@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Ada@example.org"
    assert talk.say(sender) == talk.say(recipient) == "250 2.0.0 ok"
    assert behind.commands[-2:] == [sender, recipient]


def test_relay_pipelined_commands_are_answered_in_order(talk: Talk, behind: ScriptedServer):
    head = f"MAIL FROM:<>\r\nRCPT TO:<{ADA}>\r\nRCPT TO:<>\r\nNOOP\r\nDATA\r\n".encode()
    talk.send(head)
    codes = [talk.reply()[:3] for _ in range(5)]
    talk.send(HTML + b".\r\nRSET\r\nVRFY x\r\nQUIT\r\n")
    codes += [talk.reply()[:3] for _ in range(4)]
    assert codes == ["250", "250", "501", "250", "354", "250", "250", "252", "221"]
    assert len(behind.mails) == 1


def test_relay_client_that_stops_sending_still_gets_the_reply(talk: Talk, behind: ScriptedServer):
    talk.begin(ADA)
    talk.say("DATA")
    behind.on_step = lambda step: talk.socket.shutdown(socket.SHUT_WR) if step == "DATA" else None
    talk.send(HTML + b".\r\n")
    assert talk.reply() == "250 2.0.0 ok"
    assert talk.reply() == ""


def test_relay_client_that_stops_sending_is_told_that_the_next_server_broke_off(
    talk: Talk, behind: ScriptedServer, caplog: pytest.LogCaptureFixture
):
    talk.begin(ADA)
    talk.say("DATA")
    behind.replies["."] = b""
    behind.on_step = lambda step: talk.socket.shutdown(socket.SHUT_WR) if step == "DATA" else None
    talk.send(HTML + b".\r\n")
    assert talk.reply().startswith("421 4.4.2")
    assert talk.reply() == ""
    assert "relay-failed" not in {getattr(record, "own", [""])[0] for record in caplog.records}


def test_relay_client_that_goes_before_the_end_of_its_mail_leaves_no_mail(port: int, behind: ScriptedServer):
    with Talk(port) as client:
        client.begin(ADA)
        client.say("DATA")
        client.send(HTML + b".\r")
    with Talk(port) as client:
        assert client.mail(b"next\r\n", BOB) == "250 2.0.0 ok"
    assert [raw for _, raw in behind.mails] == [b"next\r\n"]


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb\r\n.\r\n",
        b"a\r\n.\nMAIL FROM:<evil@example.org>\r\n",
        b"a\n.\r\nMAIL FROM:<evil@example.org>\r\n",
        b"a\n.\n",
        b"\n",
        b"x" * 100_000 + b"\n",
    ],
)
def test_relay_line_with_bare_lf_is_refused_at_once(talk: Talk, behind: ScriptedServer, data: bytes):
    talk.begin(ADA)
    talk.say("DATA")
    talk.send(data)
    assert talk.reply().startswith("554 5.5.2")
    assert talk.reply() == ""
    assert not behind.mails
    assert not any("evil" in command for command in behind.commands)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"a\rb\r\n", "554 5.6.0"),
        (b"a\r\n.\rRCPT TO:<evil@example.org>\r\n", "554 5.6.0"),
        (b"a\r\r\n", "554 5.6.0"),
        (b"\0\r\n", "554 5.6.1"),
        (b"x" * 1_000_001 + b"\r\n", "552 5.3.4"),
        (b"x" * 70 + b"\r\n" + b"y\r\n" * 400_000, "552 5.3.4"),
    ],
)
def test_relay_mail_that_smtp_does_not_allow_is_refused(
    talk: Talk, behind: ScriptedServer, raw: bytes, code: str
):
    assert talk.mail(raw, ADA).startswith(code)
    assert not behind.mails
    assert talk.mail(HTML, ADA) == "250 2.0.0 ok"


def test_relay_commands_that_are_out_of_order_or_too_long_are_refused(talk: Talk, behind: ScriptedServer):
    assert talk.say("DATA").startswith("503")
    assert talk.say(f"RCPT TO:<{ADA}>").startswith("503")
    assert talk.say("MAIL FROM:<a@example.org>").startswith("250")
    assert talk.say("MAIL FROM:<a@example.org>").startswith("503")
    assert talk.say("DATA").startswith("554 5.5.1")
    assert talk.say("RCPT TO:<" + "a" * 20_000 + ">").startswith("500")
    assert talk.say("RCPT TO:<" + "a" * 900_000 + ">").startswith("500")
    assert talk.say("BDAT 3 LAST").startswith("500")
    assert talk.say("AUTH PLAIN AGEAYg==").startswith("502")
    assert talk.say("STARTTLS").startswith("454")
    assert not any("aaaa" in command for command in behind.commands)
    assert talk.say("RSET").startswith("250")
    assert talk.mail(HTML, ADA) == "250 2.0.0 ok"


def test_relay_recipient_above_the_limit_is_to_be_sent_again(talk: Talk, behind: ScriptedServer):
    replies = talk.begin(*(f"r{i}@example.org" for i in range(101)))
    assert replies[100].startswith("250")
    assert replies[101].startswith("452 4.5.3")
    talk.say("DATA")
    talk.send(HTML + b".\r\n")
    assert talk.reply() == "250 2.0.0 ok"
    assert len(behind.mails[-1][0]) == 100


def test_relay_memory_for_mails_is_bounded_and_given_back(port: int, behind: ScriptedServer):
    full = b"x" * 900_000 + b"\r\n"
    held = threading.Event()
    behind.on_step = lambda step: held.wait(30) and None if step == "DATA" else None
    with Talk(port) as first, Talk(port) as second, Talk(port) as third:
        for client in (first, second):
            client.begin(ADA)
            client.say("DATA")
            client.send(full + b".\r\n")
        until(lambda: behind.commands.count("DATA") == 2)
        assert third.mail(full, ADA).startswith("452 4.3.1")
        held.set()
        assert [client.reply() for client in (first, second)] == ["250 2.0.0 ok"] * 2
        assert third.mail(full, ADA) == "250 2.0.0 ok"


def test_relay_without_a_pixel_is_refused_if_a_pixel_is_required(behind: ScriptedServer):
    with running_relay(behind.port, requires_pixel=True) as port, Talk(port) as client:
        assert client.mail(b"Subject: text\r\n\r\nHi\r\n", ADA).startswith("550 5.7.1")
        assert client.mail(HTML, ADA, BOB).startswith("550 5.7.1")
        assert not behind.mails
        assert client.mail(HTML, ADA) == "250 2.0.0 ok"
    assert len(behind.mails) == 1


def test_relay_connection_above_the_limit_is_told_to_come_back(behind: ScriptedServer):
    with running_relay(behind.port, max_clients=1) as port:
        with Talk(port) as first:
            with Talk(port, greets=False) as second:
                assert second.banner.startswith("421 4.7.0")
            assert first.mail(HTML, ADA) == "250 2.0.0 ok"
        until(lambda: not banner(port).startswith("421"))


def banner(port: int) -> str:
    with Talk(port, greets=False) as client:
        return client.banner


def test_relay_that_stops_ends_the_mail_under_way_and_no_other(behind: ScriptedServer):
    held = threading.Event()
    behind.on_step = lambda step: held.wait(30) and None if step == "." else None
    replies = []
    with running_relay(behind.port) as port:
        idle, busy = Talk(port), Talk(port)
        busy.begin(ADA)
        busy.say("DATA")
        busy.send(HTML + b".\r\n")
        until(lambda: "DATA" in behind.commands)
        threading.Thread(target=lambda: (replies.append(idle.reply()), held.set())).start()
    replies += [busy.reply(), busy.reply()]
    for client in (idle, busy):
        client.__exit__()
    assert [reply[:9] for reply in replies] == ["421 4.3.2", "250 2.0.0", "421 4.3.2"]
    assert len(behind.mails) == 1


def test_relay_lmtp_sends_each_recipient_a_mail_of_their_own(talk: Talk, behind: ScriptedServer):
    behind.replies["RCPT TO:<gone@example.org>"] = b"550 5.1.1 no such user\r\n"
    talk.say("LHLO client.example")
    replies = talk.begin(ADA, "gone@example.org", BOB)
    assert [reply[:3] for reply in replies] == ["250", "250", "550", "250"]
    talk.say("DATA")
    dots = iter([b"250 2.0.0 first\r\n", b"452 4.2.2 full\r\n"])
    behind.replies_to = lambda step: next(dots) if step == "." else None
    talk.send(HTML + b".\r\n")
    assert [talk.reply(), talk.reply()] == ["250 2.0.0 first", "452 4.2.2 full"]
    [(recipients, raw)] = behind.mails
    assert recipients == [f"RCPT TO:<{ADA}>"]
    assert pixel_count(raw) == 1
    behind.replies_to = lambda step: None
    behind.replies.clear()
    talk.begin(ADA, BOB)
    talk.say("DATA")
    talk.send(b"\0\r\n.\r\n")
    assert [talk.reply()[:9], talk.reply()[:9]] == ["554 5.6.1"] * 2
    talk.begin(ADA, BOB)
    talk.say("DATA")
    talk.send(HTML + b".\r\n")
    assert [talk.reply(), talk.reply()] == ["250 2.0.0 ok"] * 2
    tokens = [pixels(raw)[0].token.recipient for _, raw in behind.mails[1:]]
    assert len(set(tokens)) == 2


def test_relay_lmtp_without_each_is_refused(behind: ScriptedServer):
    with running_relay(behind.port) as port, Talk(port, greets=False) as client:
        assert client.say("LHLO x").startswith("500")


CONVERSATION = (
    b"EHLO client.example\r\nMAIL FROM:<a@example.org> BODY=8BITMIME\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n"
    + stuffed(b"X-Pixel-Campaign: \r\n summer\r\n" + HTML + b".\r\n..x\r\n")
    + b".\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\ntext\r\n.\r\nQUIT\r\n"
)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_relay_bytes_cut_anywhere_give_the_same_mails(port: int, server: ScriptedServer, cuts: list[int]):
    server.replies, server.on_step = {}, lambda step: None
    server.mails.clear()
    with Talk(port, greets=False) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        places = [0, *sorted(cuts), len(CONVERSATION)]
        for start, end in pairwise(places):
            client.send(CONVERSATION[start:end])
        codes = []
        while reply := client.reply():
            codes.append(reply[:3])
    assert codes == ["250", "250", "250", "354", "250", "250", "250", "354", "250", "221"]
    html, text = (raw for _, raw in server.mails)
    assert re.sub(rb"<img[^>]*>", b"", html) == HTML + b".\r\n..x\r\n"
    assert text == b"text\r\n"


WORDS = [
    *(b"EHLO x", b"LHLO x", b"HELO", b"MAIL FROM:<>", b"RCPT TO:<", b"DATA x", b".", b"..", b"RSET", b"NOOP"),
    *(b"HELP", b"HELP MAIL", b"VRFY a", b"EXPN a", b"AUTH", b"AUTH PLAIN", b"STARTTLS", b"STARTTLS x"),
    *(b"BDAT 1", b"\xff\xfe", b"\0", b" ", b"", b"a\rb"),
    *(b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA") * 5,
]
ENDS = [b"\r\n"] * 8 + [b"\n", b"\r"]


@settings(max_examples=40)
@given(lines=st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(ENDS)), min_size=5, max_size=15))
def test_relay_any_commands_get_replies_and_the_next_server_whole_commands(
    port: int, server: ScriptedServer, lines: list[tuple[bytes, bytes]]
):
    server.replies, server.on_step = {}, lambda step: None
    server.commands.clear()
    with Talk(port) as client:
        client.send(b"".join(word + end for word, end in lines) + b"\r\n.\r\nQUIT\r\n")
        replies = []
        while reply := client.reply():
            replies.append(reply)
    assert replies[-1].startswith(("221", "554 5.5.2", "502"))
    assert all(re.match(r"[2-5]\d\d[ -]", reply) for reply in replies), replies
    assert not [reply for reply in replies if reply.startswith("451 4.3.0")]
    allowed = r"(?i:ehlo) relay.example|MAIL FROM:<[^<>\r\n]*>|RCPT TO:<c@d>|RSET|DATA|QUIT"
    assert [command for command in server.commands if not re.fullmatch(allowed, command)] == []

"""The figures of a relay for `/metrics`, and what `doctor` says of it."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from pathlib import Path

from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from pixel_server.cli import main
from pixel_server.metrics.numbers import Numbers
from pixel_server.metrics.process_file import Publisher
from tests.relay.servers import ScriptedServer, Talk, running_relay
from tests.relay.test_killed import HTML, process
from tests.stack import free_port, until

ADA, BOB = "ada@example.org", "bob@example.org"
TEXT = b"Subject: Hi\r\n\r\nHi\r\n"


def scrape(port: int) -> dict[str, float]:
    """Returns the figures of the relay above 0, by name and values of the labels, {} if nothing answers."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return {
            " ".join(
                [sample.name.removeprefix("pixel_relay_"), *sample.labels.values()]
            ).strip(): sample.value
            for family in text_string_to_metric_families(answer.read().decode())
            for sample in family.samples
            if sample.name.startswith("pixel_relay_") and sample.value
        }
    return {}


def test_relay_figures_without_redis_count_each_mail_refusal_and_connection(tmp_path: Path):
    """The relay and the process for `/metrics` both run, though no Redis answers."""
    port, metrics_port = free_port(), free_port()
    words = ["--metrics", f"127.0.0.1:{metrics_port}"]
    limits = {"PIXEL_RELAY_CONNECTIONS": "1", "REDIS_URL": "redis://127.0.0.1:1/0"}
    with (
        ScriptedServer().running() as behind,
        process(tmp_path / "data", f"smtp://127.0.0.1:{behind.port}", port, *words, **limits) as relay,
    ):
        until(lambda: scrape(metrics_port) == {"connections_total taken": 1})  # the first, which has ended
        with Talk(port) as client:
            with Talk(port, greets=False) as another:
                assert another.banner.startswith("421")
            for raw in (HTML, TEXT):
                assert client.mail(raw, ADA).startswith("250")
            behind.replies["RCPT"] = b"450 later\r\n"
            assert client.begin(ADA)[1] == "450 later"
            behind.replies = {".": b"554 no\r\n"}
            client.say("RSET")
            assert client.mail(HTML, ADA) == "554 no"
            assert client.begin("ä@example.org")[1].startswith("553")
            behind.replies = {"RCPT": b""}
            assert client.say(f"RCPT TO:<{BOB}>").startswith("421")
        size = sum(len(raw) for _, raw in behind.mails)
        expected = {
            "mails_total pixel": 1,
            "mails_total no-pixel text": 1,
            "bytes_total": size,
            "refusals_total next 4xx": 1,
            "refusals_total next 5xx": 1,
            "refusals_total relay 5xx": 1,
            "next_failures_total": 1,
            "connections_total taken": 2,
            "connections_total refused": 1,
        }
        until(lambda: scrape(metrics_port) == expected)
        relay.terminate()
        assert relay.wait(30) == 0
    log = (tmp_path / "data.log").read_text()
    assert "traceback" not in log


def doctor(tmp_path: Path, **environ: str) -> tuple[int, list[str]]:
    """Returns the exit code of `doctor`, and its lines on the relay."""
    done: Result = CliRunner().invoke(main, ["doctor"], env={"PIXEL_DATA_DIR": str(tmp_path), **environ})
    lines = done.stdout.splitlines()
    return done.exit_code, [re.sub(" +", " ", line) for line in lines if " relay " in line]


def test_doctor_relay_and_next_server_answer_is_ok(tmp_path: Path):
    with ScriptedServer().running() as behind, running_relay(behind.port) as port:
        environ = {
            "PIXEL_RELAY_LISTEN": f"0.0.0.0:{port}",
            "PIXEL_RELAY_TO": f"smtp://127.0.0.1:{behind.port}",
        }
        assert doctor(tmp_path, **environ) == (
            0,
            [
                f"ok relay listen: 0.0.0.0:{port} answers",
                f"ok relay to: 127.0.0.1:{behind.port} answers",
            ],
        )
        assert {command.split()[0].upper() for command in behind.commands} <= {"EHLO", "QUIT"}
    assert doctor(tmp_path) == (0, []), "a server without a relay has no line"


def test_doctor_relay_or_next_server_away_is_a_problem(tmp_path: Path):
    listen, to = free_port(), free_port()
    environ = {"PIXEL_RELAY_LISTEN": f"127.0.0.1:{listen}", "PIXEL_RELAY_TO": f"smtp://127.0.0.1:{to}"}
    code, [of_relay, of_next] = doctor(tmp_path, **environ)
    assert code == 1
    assert of_relay.startswith(f"problem relay listen: port {listen} does not answer")
    assert "start `pixel-server relay`" in of_relay
    assert of_next == f"problem relay to: mails cannot be passed on to 127.0.0.1:{to}: Connection refused"
    elsewhere = Publisher(tmp_path, lambda: Numbers("relay"))
    elsewhere.write(elsewhere.gather())
    with ScriptedServer(extensions=()).running() as behind:
        signs_in = f"smtp://me:secret@127.0.0.1:{behind.port}?tls=on"
        code, [of_relay, of_next] = doctor(tmp_path, **environ | {"PIXEL_RELAY_TO": signs_in})
    _, [_, unknown] = doctor(tmp_path, PIXEL_RELAY_LISTEN=environ["PIXEL_RELAY_LISTEN"])
    elsewhere.close()
    assert unknown.startswith("advice relay to: not checked: set PIXEL_RELAY_TO here too")
    assert code == 1
    assert of_relay.startswith("advice relay listen: a relay runs, but not at")
    assert "does not offer STARTTLS" in of_next
    assert "secret" not in of_next

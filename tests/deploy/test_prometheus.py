"""The alerts and the dashboard, and Debian's Prometheus in front of a real server of several processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixel_server.metrics.families import TABLE
from tests.conftest import API_KEY
from tests.stack import PROGRAM, Stack, free_port, until

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"


def program(name: str) -> str:
    """Returns the path of a program of Prometheus. Without it, skips the test, or fails it if CI is set."""
    path = shutil.which(name)
    if path is None:
        missing = f"{name} is missing: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def test_alerts_are_clean_for_promtool():
    checked = subprocess.run(
        [program("promtool"), "check", "rules", str(ALERTS)], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "SUCCESS" in checked.stdout


def test_alerts_and_dashboard_name_only_metrics_of_the_table():
    used = set(re.findall(r"pixel_\w+", ALERTS.read_text() + DASHBOARD.read_text()))
    known = {family.name + ("_bucket" if family.kind == "histogram" else "") for family in TABLE}
    assert used - known == set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_alerts_on_the_relay_fire_for_a_relay_that_is_gone_or_fails(tmp_path: Path):
    """Of four relays, one works and is restarted, one fails, one ends, and one ends with its host."""
    relay = 'pixel_processes{instance="%s", process="relay"}'
    series = {
        relay % "good": "1x5 _ 1x14",
        relay % "bad": "1x20",
        relay % "ended": "1x9 _x11",
        relay % "removed": "1x9 _x11",
        'up{instance="good"}': "1x20",
        'up{instance="bad"}': "1x20",
        'up{instance="ended"}': "1x20",
        'up{instance="removed"}': "1x9 _x11",
        'pixel_relay_next_failures_total{instance="good"}': "0x9 1x11",
        'pixel_relay_next_failures_total{instance="bad"}': "0+1x20",
        'pixel_relay_connections_total{instance="good", outcome="taken"}': "0+9x20",
        'pixel_relay_connections_total{instance="bad", outcome="refused"}': "0+1x20",
        'pixel_relay_mails_total{instance="good", reason="text"}': "0+9x20",
        'pixel_relay_mails_total{instance="bad", reason="no-link"}': "0+1x20",
    }
    expected = {
        "PixelRelayGone": "ended",
        "PixelRelayNextAway": "bad",
        "PixelRelayFull": "bad",
        "PixelRelayNoLink": "bad",
    }
    rules = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
    alerts = [rule for rule in rules.values() if rule["alert"] in expected]
    for rule in alerts:
        del rule["annotations"]
    own_labels = {"PixelRelayGone": {"process": "relay"}, "PixelRelayFull": {"outcome": "refused"}}
    tests = [
        {
            "eval_time": "20m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": {"instance": instance, **rules[name]["labels"], **own_labels.get(name, {})}}
            ],
        }
        for name, instance in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": tests}],
    }
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "relay", "rules": alerts}]}))
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    words = [program("promtool"), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Returns a function that starts a program in a session of its own. Ends each after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(arguments, start_new_session=True, **options))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


class Prometheus:
    """A running Prometheus that scrapes a server twice a second."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()

    def arguments(self, target: str) -> list[str]:
        """Writes the configuration, with the alerts but without their `for`. Returns the command line."""
        alerts = yaml.safe_load(ALERTS.read_text())
        for rule in alerts["groups"][0]["rules"]:
            rule.pop("for", None)
        (self._home / "alerts.yml").write_text(yaml.safe_dump(alerts))
        configuration = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "pixel-server", "static_configs": [{"targets": [target]}]}],
        }
        (self._home / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        return [
            program("prometheus"),
            f"--config.file={self._home / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._home / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

    def ask(self, path: str, **parameters: str) -> Any:
        """Returns the data of an answer of its API, None if it does not answer."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> float | None:
        answer = self.ask("query", query=expression)
        return float(answer["result"][0]["value"][1]) if answer and answer["result"] else None

    def firing(self) -> set[str]:
        answer = self.ask("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in answer["alerts"] if alert["state"] == "firing"}


def test_prometheus_workers_stopped_alerts(redis_url: str, tmp_path: Path, start):
    server = Stack(tmp_path / "data", PIXEL_API_KEY=API_KEY, REDIS_URL=redis_url)
    server.environ["PIXEL_BASE_URL"] = server.address
    options = ["--port", str(server.port), "--processes", "2"]
    start(PROGRAM, "serve", *options, env=server.environ)
    workers = start(PROGRAM, "work", "--processes", "2", env=server.environ)
    prometheus = Prometheus(tmp_path)
    start(*prometheus.arguments(f"127.0.0.1:{server.port}"))
    campaign = {"id": "mail", "name": "Mail", "kind": "email"}
    until(lambda: _answers(server))
    assert server.call("POST", "/api/campaigns", campaign)[0] == 201

    def open_mails(number: int) -> None:
        recipients = [f"reader {n}" for n in range(number)]
        _, made = server.call("POST", "/api/campaigns/mail/links", {"recipients": recipients})
        for link in made["links"]:
            assert server.get(link["url"]) == (200, "recorded")

    open_mails(10)
    until(lambda: prometheus.value("pixel_hits_counted_total") == 10)
    until(lambda: prometheus.value("pixel_hits_stored_total") == 10)
    running = 'pixel_processes{process="%s"}'
    old_lists = {"PixelNetworkListOld"}  # fires once the shipped lists are old
    kinds = ("web", "pages", "worker", "schedule")
    until(lambda: [prometheus.value(running % kind) for kind in kinds] == [2, 2, 2, 1])
    until(lambda: prometheus.value('up{job="pixel-server"}') == 1 and not prometheus.firing() - old_lists)

    workers.send_signal(signal.SIGTERM)
    os.kill(server.pids("serve --handle")[0], signal.SIGKILL)
    workers.wait(60)
    until(lambda: len(server.pids("serve --handle")) == 2)
    until(lambda: _answers(server))
    open_mails(5)
    recorded = 'pixel_requests_total{outcome="recorded"}'
    until(lambda: [prometheus.value(name) for name in ("pixel_hits_stored_total", recorded)] == [15, 15])
    assert prometheus.value("pixel_hits_counted_total") == 10, "the counters of ended workers stay"
    until(lambda: "PixelNoWorker" in prometheus.firing())
    assert prometheus.value("sum(pixel_backlog_entries)") > 0
    assert prometheus.value("resets(pixel_hits_stored_total[1m])") == 0


def _answers(server: Stack) -> bool:
    with contextlib.suppress(OSError):
        return server.call("GET", "/healthz")[0] == 200
    return False

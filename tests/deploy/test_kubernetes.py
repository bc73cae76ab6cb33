"""The manifests of deploy/kubernetes: valid for Kubernetes, in agreement with each other, and they run."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pixel_server.relay.users import add_user
from pixel_server.settings import Settings
from pixel_server.store import jobs
from tests.deploy.containers import (
    MUST_AGREE,
    OTHER_VARIABLES,
    ROOT,
    SECRETS,
    SETTING_NAMES,
    Container,
    assert_exists,
    expand,
    programs,
    running,
)
from tests.relay.conftest import make_certificate
from tests.stack import Stack, free_port, until

HOME = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.32", kubernetes_validate.latest_version())
"""Oldest and newest version of Kubernetes whose schemas the manifests must fit."""
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for path in [*sorted(HOME.glob("*.yaml")), HOME / "relay" / "relay.yaml"]
    for manifest in yaml.safe_load_all(path.read_text())
]
SCALER = yaml.safe_load((HOME / "keda" / "worker.yaml").read_text())
MONITOR = yaml.safe_load((HOME / "prometheus" / "pods.yaml").read_text())


def found(kind: str) -> dict[str, dict[str, Any]]:
    """Returns the manifests of a kind, by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


SETTINGS: dict[str, str] = found("ConfigMap")["settings"]["data"]
PODS: dict[str, dict[str, Any]] = {
    name: manifest["spec"]["template"]
    for name, manifest in (found("StatefulSet") | found("Deployment")).items()
}
SPECS: dict[str, dict[str, Any]] = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}


def container(name: str, **secrets: str) -> Container:
    """Returns a container. Its secrets have these values, and those of SECRETS."""
    spec = SPECS[name]
    environ = dict(SETTINGS) if "envFrom" in spec else {}
    values = SECRETS | secrets
    own: dict[str, str] = {}
    for variable in spec["env"]:  # Kubernetes expands what stands before in `env`, and nothing of `envFrom`
        if "value" in variable:
            own[variable["name"]] = expand(variable["value"], own)
        else:
            own[variable["name"]] = values[variable["valueFrom"]["secretKeyRef"]["key"]]
    words = [expand(word, own) for word in [*spec["command"], *spec.get("args", [])]]
    return Container(name, words, environ | own)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_the_strict_schemas_of_kubernetes(version: str):
    assert len(MANIFESTS) > 10
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_manifests_name_what_exists():
    assert {
        manifest["metadata"].get("namespace", "pixel-server") for manifest in [*MANIFESTS, SCALER, MONITOR]
    } == {"pixel-server"}
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    for manifest in (found("StatefulSet") | found("Deployment")).values():
        assert (
            manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]
        )
    for kind in ("Service", "PodDisruptionBudget"):
        for manifest in found(kind).values():
            selector = manifest["spec"]["selector"]
            assert selector.get("matchLabels", selector) in labels.values()
    for name, spec in SPECS.items():
        ports = {port["name"] for port in spec.get("ports", [])}
        probes = [spec[probe] for probe in spec if probe.endswith("Probe")]
        asked = [probe.get("httpGet") or probe.get("tcpSocket") for probe in probes]
        assert {action["port"] for action in asked if action} <= ports, name
        for service in found("Service").values():
            if service["spec"]["selector"] == labels[name]:
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        volumes = {volume["name"] for volume in PODS[name]["spec"].get("volumes", [])}
        mounts = {mount["name"] for mount in spec.get("volumeMounts", [])}
        assert mounts == volumes | ({"data"} if name == "web" else set())
    services = found("Service")
    assert services[found("StatefulSet")["web"]["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    backend = found("Ingress")["web"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
    assert SCALER["spec"]["scaleTargetRef"]["name"] in found("Deployment")


def test_web_spool_is_a_disk_of_one_pod_and_stays():
    spec = found("StatefulSet")["web"]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in SPECS["web"]["volumeMounts"]
    assert "PIXEL_DATA_DIR=/data" in (ROOT / "Dockerfile").read_text()
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert int(SETTINGS["PIXEL_SPOOL_BYTES"]) + (512 << 20) <= size
    words = SPECS["web"]["lifecycle"]["preStop"]["exec"]["command"][-1].split()
    wait = int(words[words.index("--timeout") + 1])
    assert wait < spec["template"]["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", PODS)
def test_pods_run_without_privileges(name: str):
    pod = PODS[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}\n" in (ROOT / "Dockerfile").read_text()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert SPECS[name]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_settings_are_in_the_table_and_agree_on_all_hosts():
    Settings.from_env(SETTINGS)
    assert SETTINGS.keys() <= SETTING_NAMES
    secret = {"PIXEL_SECRET", "PIXEL_RECIPIENT_SECRET", "PIXEL_API_KEY"}
    for name in ("web", "worker", "relay"):
        assert SPECS[name]["envFrom"] == [{"configMapRef": {"name": "settings"}}]
        own = {variable["name"] for variable in SPECS[name]["env"]}
        assert own <= SETTING_NAMES | OTHER_VARIABLES
        assert own & MUST_AGREE <= secret, "a setting that must agree is set for one kind of process"
        for variable in SPECS[name]["env"]:
            if variable["name"] in secret:
                assert variable["valueFrom"]["secretKeyRef"] == {"name": "secrets", "key": variable["name"]}


def test_docs_create_the_secret_that_the_manifests_name():
    named = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for spec in SPECS.values()
        for variable in spec["env"]
        if "valueFrom" in variable
    }
    assert set(re.findall(r"--from-literal=(\w+)=", (ROOT / "docs" / "deploying.md").read_text())) == named


def test_commands_exist_as_they_stand():
    for name in ("web", "worker", "relay"):
        assert_exists(SPECS[name]["command"])
    for name in ("worker", "relay"):
        assert_exists(SPECS[name]["readinessProbe"]["exec"]["command"])
    stop = SPECS["web"]["lifecycle"]["preStop"]["exec"]["command"]
    assert stop[:2] == ["sh", "-c"]
    assert_exists(stop[2].partition("exec ")[2].split())


def test_relay_files_and_ports_are_those_of_its_settings():
    spec = SPECS["relay"]
    values = {variable["name"]: variable.get("value") for variable in spec["env"]}
    assert values["PIXEL_RELAY_LISTEN"] == f"0.0.0.0:{spec['ports'][0]['containerPort']}"
    paths = {mount["name"]: mount["mountPath"] for mount in spec["volumeMounts"]}
    volumes = {volume["name"]: volume.get("secret") for volume in PODS["relay"]["spec"]["volumes"]}
    [users] = volumes["users"]["items"]
    assert values["PIXEL_RELAY_USERS"] == f"{paths['users']}/{users['path']}"
    docs = (ROOT / "docs" / "deploying.md").read_text()
    assert f"create secret generic {volumes['users']['secretName']} " in docs
    assert f"--from-file={users['key']} " in docs
    assert f"create secret tls {volumes['tls']['secretName']} " in docs
    for name, file in (("PIXEL_RELAY_CERT", "tls.crt"), ("PIXEL_RELAY_TLS_KEY", "tls.key")):
        assert values[name] == f"{paths['tls']}/{file}", "the names of the files in a Secret of the type tls"
    [rule] = found("NetworkPolicy")["relay"]["spec"]["ingress"]
    [(key, value)] = rule["from"][0]["namespaceSelector"]["matchLabels"].items()
    assert f"kubectl label namespace shop {key}={value}" in docs


def test_scaler_scales_no_further_than_roll_ups_go():
    spec = SCALER["spec"]
    assert (SCALER["apiVersion"], SCALER["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert spec["maxReplicaCount"] <= jobs.rollup_count(int(SETTINGS["PIXEL_SHARDS"]))
    assert spec["minReplicaCount"] >= 1


def test_prometheus_finds_and_reaches_each_pod_with_metrics():
    policy = found("NetworkPolicy")["metrics"]["spec"]
    selector = policy["podSelector"]["matchExpressions"]
    assert MONITOR["spec"]["selector"]["matchExpressions"] == selector
    assert (MONITOR["apiVersion"], MONITOR["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    endpoints = MONITOR["spec"]["podMetricsEndpoints"]
    allowed = {port["port"] for port in policy["ingress"][0]["ports"]}
    assert {endpoint["port"] for endpoint in endpoints} == allowed
    [matched] = selector
    assert matched["operator"] == "In"
    for name in matched["values"]:
        assert PODS[name]["metadata"]["labels"][matched["key"]] == name
        [port] = [port for port in SPECS[name]["ports"] if port["name"] in allowed]
        assert PODS[name]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(port["containerPort"]),
            "prometheus.io/path": "/metrics",
        }
        words = SPECS[name]["command"]
        if name != "web":
            assert words[words.index("--metrics") + 1] == f"0.0.0.0:{port['containerPort']}"
    assert SETTINGS["PIXEL_METRICS_FROM"]


def test_containers_run_as_they_stand(redis_url: str, tmp_path: Path):
    """Runs all containers, sends a hit, and asks every probe and the scaler's question."""
    path = programs(tmp_path / "bin")
    port, queue_port = free_port(), free_port()
    host = Stack(tmp_path / "web", port)
    host.key = SECRETS["PIXEL_API_KEY"]
    web, worker, queue = (container(name, REDIS_URL=redis_url) for name in ("web", "worker", "queue"))
    queue_url = web.environ["PIXEL_QUEUE_URL"]
    assert queue_url == worker.environ["PIXEL_QUEUE_URL"]
    relay_port, relay_metrics_port = free_port(), free_port()
    relay = container("relay", REDIS_URL=redis_url)
    environ = {"PIXEL_QUEUE_URL": queue_url.replace("@queue:6379", f"@127.0.0.1:{queue_port}")}
    assert environ["PIXEL_QUEUE_URL"] != queue_url
    with contextlib.ExitStack() as stack:

        def run(of: Container, *more: str, **environ: str) -> subprocess.Popen[bytes]:
            data, log = tmp_path / of.name, tmp_path / f"{of.name}.log"
            return stack.enter_context(running(of, data, path, log, *more, **environ))

        run(queue, "--port", str(queue_port))
        run(web, **environ, PORT=str(port))
        metrics_port = free_port()
        working = run(worker, "--metrics", f"127.0.0.1:{metrics_port}", **environ)
        relaying = run(
            relay,
            *("--metrics", f"127.0.0.1:{relay_metrics_port}"),
            **relay_settings(tmp_path, relay_port),
        )
        until(lambda: answers(host, SPECS["web"]["startupProbe"]))
        stopping = run(
            Container("stop", SPECS["web"]["lifecycle"]["preStop"]["exec"]["command"], web.environ),
            PIXEL_DATA_DIR=str(tmp_path / "web"),
        )
        for probe in ("livenessProbe", "readinessProbe"):
            assert answers(host, SPECS["web"][probe])
        assert host.call("POST", "/api/campaigns", {"id": "site", "name": "Site", "kind": "web"})[0] == 201
        assert host.get("/p/site.gif") == (200, "recorded")
        until(lambda: host.totals("site")["hits"] == 1)
        scrape = f"http://127.0.0.1:{metrics_port}/metrics"
        until(lambda: b"pixel_hits_counted_total 1.0\n" in read(scrape))
        check = [*SPECS["worker"]["readinessProbe"]["exec"]["command"], "--pid", str(working.pid)]
        run(Container("check", check, worker.environ), **environ).wait(60)
        assert (tmp_path / "check.log").read_text().startswith("workers seen: ")
        until(
            lambda: b"pixel_relay_connections 0.0\n" in read(f"http://127.0.0.1:{relay_metrics_port}/metrics")
        )
        check = [*SPECS["relay"]["readinessProbe"]["exec"]["command"], "--pid", str(relaying.pid)]
        run(Container("greet", check, relay.environ), PIXEL_RELAY_LISTEN=f"0.0.0.0:{relay_port}").wait(60)
        assert (tmp_path / "greet.log").read_text() == f"port {relay_port} answers\n"
        trigger = SCALER["spec"]["triggers"][0]["metadata"]
        assert trigger["url"] == "http://web.pixel-server.svc/readyz"
        with urllib.request.urlopen(host.address + "/readyz", timeout=60) as answer:
            assert json.loads(answer.read())[trigger["valueLocation"]] == 0
        assert stopping.wait(60) == 0
        assert (tmp_path / "stop.log").read_text() == "the spool is empty\n"
    logs = "".join((tmp_path / f"{name}.log").read_text() for name in ("web", "worker", "queue", "relay"))
    assert "traceback=" not in logs
    assert "no effect" not in logs


def relay_settings(home: Path, port: int) -> dict[str, str]:
    """Returns the settings of the relay that name its port, and files of this test."""
    users, certificate = home / "users", make_certificate(home, "DNS:localhost")
    add_user(users, "shop")
    return {
        "PIXEL_RELAY_LISTEN": f"0.0.0.0:{port}",
        "PIXEL_RELAY_USERS": str(users),
        "PIXEL_RELAY_CERT": str(certificate[0]),
        "PIXEL_RELAY_TLS_KEY": str(certificate[1]),
    }


def read(url: str) -> bytes:
    """Returns the content of a page, b"" if nothing answers yet."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        content: bytes = answer.read()
        return content
    return b""


def answers(host: Stack, probe: dict[str, Any]) -> bool:
    """Returns whether a probe of the web process passes. Raises if it fails in another way than "not yet"."""
    try:
        with urllib.request.urlopen(host.address + probe["httpGet"]["path"], timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        raise
    except OSError:
        return False

"""The file deploy/compose.yaml: valid, in agreement with itself, and its containers run."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from pixel_server.settings import SECRET_NAMES, Settings
from tests.deploy.containers import ROOT, SETTING_NAMES, Container, assert_exists, programs, running
from tests.stack import Stack, free_port, until

FILE = ROOT / "deploy" / "compose.yaml"
ENV = {"PIXEL_BASE_URL": "https://img.example.org"}
"""The file `.env`."""


def interpolated(text: str, environ: dict[str, str]) -> str:
    """Returns the text with `${NAME:?message}` and `${NAME:-default}` replaced, as Compose does."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        assert name in environ or kind == "-", f"{name} is not set: {rest}"
        return environ.get(name, rest)

    return re.sub(r"\$\{(\w+):([?-])([^}]*)\}", value, text)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated(FILE.read_text(), ENV))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def container(name: str) -> Container:
    service = SERVICES[name]
    from_file = ENV if "env_file" in service else {}
    return Container(name, service["command"], from_file | service.get("environment", {}))


def test_compose_file_fits_the_schema_of_compose():
    subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE],
        check=True,
    )


def test_compose_names_what_exists():
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert "healthcheck" in SERVICES[other], (name, other)
            assert condition == {"condition": "service_healthy"}
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        files = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
        environ = service.get("environment", {})
        assert {value for variable, value in environ.items() if variable.endswith("_FILE")} == files
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert (
        FILE.parent / SERVICES["web"]["build"]["context"] / SERVICES["web"]["build"]["dockerfile"]
    ).exists()
    assert set(re.findall(r"\$\{(\w+)", FILE.read_text())) == set(
        re.findall(r"^#     (\w+)=", FILE.read_text(), re.M)
    )


@pytest.mark.parametrize("name", SERVICES)
def test_compose_containers_are_checked_and_restarted_and_have_no_privileges(name: str):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert service["read_only"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"] == {"driver": "local"}, "its files do not grow without end"
    assert ("ports" in service) == (name in ("https", "relay"))


def test_compose_store_is_reached_by_web_and_worker_only():
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert SERVICES["store"]["networks"] == ["back"]
    assert {name for name, service in SERVICES.items() if "back" in service["networks"]} == {
        "web",
        "worker",
        "relay",
        "store",
    }


def test_docs_make_the_secret_files_that_compose_names():
    docs = (ROOT / "docs" / "deploying.md").read_text()
    loop = re.search(r"for name in ([\w ]+); do .*> secrets/\$name; done", docs)
    assert loop
    files = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert files == {f"secrets/{name}" for name in loop[1].split()}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)


def test_compose_settings_are_in_the_table_and_agree():
    environ = SERVICES["web"]["environment"]
    assert environ == SERVICES["worker"]["environment"]
    of_relay = SERVICES["relay"]["environment"]
    assert {name for name in of_relay.keys() - environ.keys() if name in SETTING_NAMES} == (
        of_relay.keys() - environ.keys()
    )
    assert environ.keys() <= SETTING_NAMES | {f"{name}_FILE" for name in SECRET_NAMES}
    Settings.from_env(environ | ENV)
    [subnet] = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert environ["PIXEL_TRUSTED_PROXIES"] == subnet["subnet"]


@pytest.mark.parametrize("name", ["web", "worker", "relay"])
def test_compose_commands_exist_as_they_stand(name: str):
    assert_exists(SERVICES[name]["command"])
    kind, *words = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    assert_exists(words)


@pytest.mark.one_redis
def test_compose_containers_run_as_they_stand(tmp_path: Path):
    """Runs all four, and sends a hit through Caddy. Only names and ports differ from those in the file."""
    path = programs(tmp_path / "bin")
    data = tmp_path / "data"
    public, web_port, store_port = free_port(), free_port(), free_port()
    environ = {"REDIS_URL": f"redis://127.0.0.1:{store_port}/0", "PIXEL_TRUSTED_PROXIES": "127.0.0.1"}
    for name, variable in (("signing", "PIXEL_SECRET_FILE"), ("recipient", "PIXEL_RECIPIENT_SECRET_FILE")):
        (tmp_path / name).write_text(f"a-secret-for-{name}\n")
        environ[variable] = str(tmp_path / name)
    with contextlib.ExitStack() as stack:

        def run(of: Container, directory: Path, *more: str, **environ: str) -> subprocess.Popen[bytes]:
            log = tmp_path / f"{of.name}.log"
            return stack.enter_context(running(of, directory, path, log, *more, **environ))

        run(container("store"), tmp_path / "store", "--port", str(store_port))
        with redis.Redis(port=store_port) as client:
            until(lambda: answers(client))
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
            }
            assert client.config_get(*wanted) == wanted
        processes = {"web": run(container("web"), data, **environ, PORT=str(web_port))}
        web = Stack(data, web_port, PATH=path, **environ)
        processes["worker"] = run(container("worker"), data, **environ)
        until(lambda: is_healthy("web", web, processes["web"], PORT=str(web_port)))
        until(lambda: is_healthy("worker", web, processes["worker"]))
        addresses = {
            "https://img.example.org": f"http://127.0.0.1:{public}",
            "web:8000": f"127.0.0.1:{web_port}",
        }
        https = Container("https", [addresses.get(word, word) for word in container("https").words], {})
        run(https, tmp_path / "https", XDG_DATA_HOME=str(tmp_path / "https"))
        web.run("campaign", "create", "site", "--kind", "web")
        caddy = Stack(data, public)
        caddy.key = json.loads(web.run("key", "create", "test", "--json").stdout)["key"]
        until(lambda: takes_connections(public))
        until(lambda: caddy.get("/p/site.gif") == (200, "recorded"))
        until(lambda: caddy.totals("site")["hits"] == 1)
        assert not (data / "secrets.json").exists(), "the secrets are those of the files"
    logs = "".join((tmp_path / f"{name}.log").read_text() for name in ("web", "worker"))
    assert "traceback=" not in logs
    assert "no effect" not in logs


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_healthy(name: str, stack: Stack, process: subprocess.Popen[bytes], **environ: str) -> bool:
    """Returns whether the health check of a container passes."""
    words = SERVICES[name]["healthcheck"]["test"][1:]
    assert process.poll() is None
    stack.environ |= environ
    return not stack.run(*words[1:], "--pid", str(process.pid), check=False).returncode

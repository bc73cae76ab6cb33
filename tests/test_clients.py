"""The specification of links in docs/token.md, its vectors, and the clients in other languages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pixel_server.mail import Minter
from pixel_server.secret import FILE, Secrets
from pixel_server.settings import Settings, SettingsError
from pixel_server.tokens import Part, decode_unverified, sign
from tests.stack import Stack, until

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "token.md").read_text()
CLIENTS = ROOT / "clients"
VECTORS = json.loads((CLIENTS / "vectors.json").read_text())
SECRETS = Secrets.derive(tuple(VECTORS["secrets"]["signing"]), VECTORS["secrets"]["recipient"])
BASE_URL = "https://img.example.org"


def options(vector: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a link in the vectors, as `Minter.link` takes them."""
    given = dict(vector.get("options", {}))
    if "part" in given:
        given["part"] = Part[given["part"].upper()]
    return given


def example(language: str) -> str:
    """Returns the block of docs/token.md in this language."""
    block = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    assert block is not None
    return block[1]


def program(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is missing (Debian: apt install nodejs php-cli)"
    return path


def run(*command: str, cwd: Path, **environ: str) -> str:
    """Returns what a program of another language prints. Fails if the program fails."""
    environ = {"PATH": "/usr/bin:/bin", **environ}
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("vector", VECTORS["links"], ids=lambda vector: vector["what"])
def test_vectors_python_makes_the_same_link(vector: dict[str, Any]):
    link = Minter(vector["base_url"], SECRETS).link(
        vector["campaign"], vector["recipient"], **options(vector)
    )
    assert (link.url, link.html, link.privacy_url) == (vector["url"], vector["html"], vector["privacy_url"])


def test_vectors_python_derives_the_same_keys():
    assert SECRETS.signing[0].hex() == VECTORS["derived_keys"]["signing"]
    assert SECRETS.recipient.hex() == VECTORS["derived_keys"]["recipient"]
    for recipient, key in VECTORS["recipient_keys"].items():
        assert SECRETS.recipient_key(recipient).hex() == key


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["what"])
def test_vectors_python_refuses_the_same_input(vector: dict[str, Any]):
    def mint(base_url: str, campaign: str, recipient: str) -> None:
        Minter(base_url, SECRETS).link(campaign, recipient, **options(vector))

    values = {"base_url": BASE_URL, "campaign": "spring", "recipient": "ada@example.org"}
    with pytest.raises(ValueError, match=r"must|not an id"):
        mint(**{name: vector.get(name, value) for name, value in values.items()})


@pytest.mark.parametrize("vector", VECTORS["environments"], ids=lambda vector: vector["what"])
def test_vectors_python_reads_the_same_secrets(vector: dict[str, Any]):
    if "refused" in vector and not vector.get("is_missing"):
        with pytest.raises(SettingsError, match=f"^{vector['refused']}: "):
            Settings.from_env(vector["environment"])
        return
    settings = Settings.from_env(vector["environment"])
    signing, recipient = list(settings.signing_secrets), settings.recipient_secret
    if "refused" in vector:  # the server reads what is missing from its data directory
        assert not signing or not recipient
    else:
        assert {"signing": signing, "recipient": recipient} == vector["secrets"]


def test_token_docs_example_is_the_first_link_of_the_vectors():
    first = VECTORS["links"][0]
    assert json.loads(example("json")) == {
        "signing": VECTORS["secrets"]["signing"][0],
        "derived signing key": VECTORS["derived_keys"]["signing"],
        "recipient secret": VECTORS["secrets"]["recipient"],
        "derived recipient secret": VECTORS["derived_keys"]["recipient"],
        "campaign": first["campaign"],
        "recipient": first["recipient"],
        "recipient key": VECTORS["recipient_keys"][first["recipient"]],
        "mode": "pseudonymous",
        "time": first["options"]["now"],
        "url": first["url"],
    }
    layout = PAGE.split("## Token")[1].split("base64url")[0]
    parts = [bytes.fromhex(digits) for digits in re.findall(r"\| `([0-9a-f]+)` \|$", layout, re.M)]
    assert [len(part) for part in parts] == [1, 1, 4, 8, 6, 10]
    token = decode_unverified(Path(urlsplit(first["url"]).path).stem.encode())
    assert b"".join(parts[:-1]) == bytes([1, token.flags]) + token.time.to_bytes(4, "big") + (
        token.recipient + token.campaign.encode()
    )
    assert sign(token, SECRETS.signing[0]) in first["url"]


def test_javascript_client_fits_the_vectors():
    printed = run(program("node"), "--test", "--test-reporter=tap", cwd=CLIENTS / "javascript")
    passed = re.search(r"^# pass (\d+)$", printed, re.M)
    assert passed is not None
    assert int(passed[1]) > len(VECTORS["links"]) + len(VECTORS["refused"]) + len(VECTORS["environments"])


def test_php_client_fits_the_vectors():
    printed = run(program("php"), "test.php", cwd=CLIENTS / "php")
    assert int(printed.split()[0]) > sum(
        len(VECTORS[name]) for name in ("links", "refused", "recipient_keys")
    )


def test_docs_examples_in_other_languages_make_links_that_count(stack: Stack, tmp_path: Path):
    """Runs the examples as they stand in docs/token.md, apart from the address and the time."""
    stack.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
    packages = tmp_path / "node_modules"
    packages.mkdir()
    (packages / "pixel-server-links").symlink_to(CLIENTS / "javascript")
    client = json.dumps(str(CLIENTS / "php" / "PixelServerLinks.php"))
    scripts = {
        "links.mjs": f"{example('javascript')}console.log(`${{url}} ${{privacyUrl}}`);",
        "links.php": f'<?php require {client};\n{example("php")}echo "$url $privacyUrl";',
    }
    for name, text in scripts.items():
        changed = text.replace(BASE_URL, stack.address).replace("1790000000", str(int(time.time()) - 3600))
        (tmp_path / name).write_text(changed)
    secrets = json.loads((stack.data / FILE).read_text())
    environ = {"PIXEL_SECRET": ",".join(secrets["signing"]), "PIXEL_RECIPIENT_SECRET": secrets["recipient"]}
    for command in ((program("node"), "links.mjs"), (program("php"), "links.php")):
        url, privacy_url = run(*command, cwd=tmp_path, **environ).split()
        assert stack.get(url) == (200, "recorded")
        assert stack.get(privacy_url)[0] == 200
    until(lambda: stack.totals("spring")["opens"] == 2)
    assert stack.totals("spring")["unique_opens"] == 1

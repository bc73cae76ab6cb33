"""What `import pixel_server.mail` loads, for programs that only put pixels into mail."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, time
before = set(sys.modules)
began = time.process_time()
import pixel_server.mail
print(time.process_time() - began)
print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
print(*sorted(sys.modules))
"""
GROUND_FLOOR = {
    "settings",
    "secret",
    "slug",
    "one_line",
    "times",
    "tokens",
    "files",
    "consent",
    "store_url",
    "logs",
} | {
    *("scopes", "sign_in_scopes"),
    *("addresses", "smtp_url"),
}
NOT_LOADED = {"asyncio", "html.parser", "smtplib"}
"""Modules of the standard library that take long to load."""
MAX_SECONDS = 0.1
SLOWDOWN = 3
"""How much slower than the machine for which MAX_SECONDS holds a test machine may be."""


def load() -> list[str]:
    """Imports the package in a new process. Returns the printed lines."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_mail_import_loads_the_standard_library_and_the_ground_floor_only():
    _, packages, modules = load()
    assert [name for name in packages.split() if not name.startswith("_sysconfigdata")] == ["pixel_server"]
    rooms = {name.split(".")[1] for name in modules.split() if name.startswith("pixel_server.")}
    assert rooms - {"mail"} <= GROUND_FLOOR
    assert not NOT_LOADED & set(modules.split())


def test_mail_import_takes_100_ms_at_most():
    seconds = min(float(load()[0]) for _ in range(5))
    assert seconds < MAX_SECONDS * SLOWDOWN


def test_mail_offers_its_public_names():
    from pixel_server.mail import Minter, add_pixel, embed

    assert all(callable(name) for name in (Minter, add_pixel, embed))

"""The import rules: who may know whom."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent

ALLOWED = {
    "pixel_server": {"pixel_server"},
    "pixel_server.collect": {"pixel_server", "pixel_server.collect"},
    "pixel_server.report": {"pixel_server", "pixel_server.report"},
    "pixel_server.commands": {
        "pixel_server",
        "pixel_server.commands",
        "pixel_server.collect",
        "pixel_server.report",
    },
    "workers": {"pixel_server", "workers"},
}
WIRING = {
    "pixel_server.app": {"pixel_server.collect", "pixel_server.report"},
    "pixel_server.cli": {"pixel_server.commands", "workers"},
}
"""What puts the parts together may import more."""


def package(module: str) -> str:
    return max((name for name in ALLOWED if module == name or module.startswith(name + ".")), key=len)


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, however it writes it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(
                    whole if (ROOT / whole.replace(".", "/")).with_suffix(".py").exists() else node.module
                )
    return {name for name in found if name.split(".")[0] in ("pixel_server", "workers")}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted([*(ROOT / "pixel_server").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])


def test_collect_report_and_workers_keep_apart():
    wrong = [
        f"{module(path)} imports {imported}"
        for path in FILES
        for imported in imports(path)
        if package(imported) not in ALLOWED[package(module(path))] | WIRING.get(module(path), set())
    ]
    assert wrong == []


def test_nothing_imports_app_but_the_command_line():
    importers = {module(path) for path in FILES if "pixel_server.app" in imports(path)}
    assert importers <= {"pixel_server.cli"}


def test_the_web_process_never_loads_the_workers():
    importers = {module(path) for path in FILES if any(i.startswith("workers") for i in imports(path))}
    assert {name for name in importers if not name.startswith("workers")} == {"pixel_server.cli"}


def test_the_top_level_stays_as_it_is():
    known = {"pixel_server", "workers", "tests", "docs", "pixel-data", "dist", "node_modules"}
    known |= {"pyproject.toml", "README.md", "Dockerfile", "Procfile", "Makefile", "LICENSE"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - known == set()

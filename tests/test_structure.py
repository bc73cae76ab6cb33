"""The import rules: a package imports only itself and what stands on a lower floor."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = (
    {
        "settings",
        "scopes",
        "secret",
        "sign_in_scopes",
        "tokens",
        "hit",
        "slug",
        "one_line",
        "verdicts",
        "consent",
        "consent_ref",
        "operator_name",
        "opt_out_cookie",
        "signed_cookie",
        "problems",
    }
    | {"times", "files", "addresses", "tasks", "lifeline", "logs", "store_url", "smtp_url"},
    {"store", "mail", "metrics"},
    {"counters"},
    {"webhooks"},
    {"classify", "campaigns"},
    {"auth", "recipients", "copying"},
    {"deliveries"},
    {"collect", "figures", "workers"},
    {"api", "run", "demo", "relay", "verification"},
    {"backups"},
    {"commands", "dashboard", "privacy"},
    {"app", "cli"},
    {"__main__"},
)
"""Packages and modules, from the ground up. On one floor they are strangers, except on the ground floor."""
GROUND = 0


def part(module: str) -> str:
    """Returns the package or module that stands on a floor: `store` of `pixel_server.store.keys`."""
    first, _, rest = module.partition(".")
    return first if first == "workers" else rest.partition(".")[0]


def floor(name: str) -> int:
    """Returns the number of a floor. Raises LookupError if none has this name."""
    for level, names in enumerate(FLOORS):
        if name in names:
            return level
    raise LookupError(f"{name} stands on no floor: add it to FLOORS")


def is_allowed(importer: str, imported: str) -> bool:
    """Returns whether one module may import another, by the rule of the floors."""
    upper, lower = part(importer), part(imported)
    if not lower:  # the package itself, which holds the version
        return True
    if upper == lower:
        return True
    if lower == "workers":
        return upper == "cli"
    if upper == "mail":
        return floor(lower) == GROUND
    if floor(upper) == floor(lower) == GROUND:
        return True
    return floor(lower) < floor(upper)


def imports(path: Path) -> set[str]:
    """Returns the modules of this project that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                place = ROOT / whole.replace(".", "/")
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                found.add(whole if is_module else str(node.module))
    return {name for name in found if name.split(".")[0] in ("pixel_server", "workers")}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Returns the modules that each module imports."""
    files = [*(ROOT / "pixel_server").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    return {module(path): imports(path) for path in sorted(files)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the circles of a graph of imports, each as the modules along it."""
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for following in sorted(graph.get(name, ())):
                visit(following, [*way, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def wrong(graph: dict[str, set[str]]) -> Iterable[str]:
    for importer, imported in sorted(graph.items()):
        for name in sorted(imported):
            if not is_allowed(importer, name):
                yield f"{importer} imports {name}"


def test_structure_every_import_keeps_to_the_floors(graph: dict[str, set[str]]):
    assert list(wrong(graph)) == []


def test_structure_every_module_has_a_floor(graph: dict[str, set[str]]):
    known = set().union(*FLOORS)
    assert {part(name) for name in graph} - known - {""} == set()


def test_structure_no_circle_of_imports(graph: dict[str, set[str]]):
    # A package's __init__ offers names of its own modules, which may not look back at it.
    assert circles(graph) == []


def test_structure_only_cli_imports_workers(graph: dict[str, set[str]]):
    importers = {
        part(name) for name, imported in graph.items() if any(part(one) == "workers" for one in imported)
    }
    assert importers == {"workers", "cli"}


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("pixel_server.collect.recorder", "pixel_server.figures.stats"),
        ("pixel_server.collect.recorder", "workers.rollup"),
        ("pixel_server.figures.stats", "pixel_server.api.routes"),
        ("workers.rollup", "pixel_server.collect.recorder"),
        ("pixel_server.commands.spool", "workers.rollup"),
        ("pixel_server.mail.links", "pixel_server.store.keys"),
        ("pixel_server.store.keys", "pixel_server.counters.series"),
        ("pixel_server.dashboard.render", "pixel_server.privacy.endpoint"),
        ("pixel_server.api.routes", "pixel_server.app"),
        ("pixel_server.settings", "pixel_server.store.keys"),
    ],
)
def test_structure_a_broken_rule_is_seen(importer: str, imported: str):
    assert list(wrong({importer: {imported}})) == [f"{importer} imports {imported}"]


def test_structure_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


def test_structure_top_level_has_known_entries_only():
    known = {
        "pixel_server",
        "workers",
        "tests",
        "docs",
        "deploy",
        "clients",
        "pixel-data",
        "dist",
        "node_modules",
    }
    known |= {"pyproject.toml", "README.md", "Dockerfile", "Procfile", "Makefile", "LICENSE", "CHANGELOG.md"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - known == set()

"""Imports point one way: pipelines -> transforms -> boiler_beam.beam -> the rest; there: engine -> steps -> plan -> models.

An import counts wherever it is: in a function, under `TYPE_CHECKING`, and by `importlib`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each may import itself and what stands before it.
ORDER = [
    "boiler_beam.install", "boiler_beam.errors", "boiler_beam.raised", "boiler_beam.values", "boiler_beam.compare", "boiler_beam.events",
    "boiler_beam.models", "boiler_beam.views",
    "boiler_beam.plan", "boiler_beam.connectors",
    "boiler_beam.steps.functions", "boiler_beam.steps.size", "boiler_beam.steps.newest",
    "boiler_beam.steps.contributions", "boiler_beam.steps.row", "boiler_beam.steps.emission", "boiler_beam.steps.missing", "boiler_beam.steps.taint",
    "boiler_beam.steps.claims", "boiler_beam.steps.distributed", "boiler_beam.steps.hash_join",
    "boiler_beam.steps.keyed", "boiler_beam.steps",
    "boiler_beam.engine", "boiler_beam.inspection", "boiler_beam.propose", "boiler_beam.program", "boiler_beam.view_model", "boiler_beam.writing", "boiler_beam.oracle", "boiler_beam",
    "boiler_beam.serving", "boiler_beam.testing", "boiler_beam.samples", "boiler_beam.relay", "boiler_beam.beam", "transforms", "pipelines", "boiler_beam.__main__",
]  # fmt: skip

BEAM = "boiler_beam.beam"
"""The only package inside `boiler_beam` that imports Beam; nothing in `boiler_beam` imports it."""

CLIENTS = ("firestore", "pubsub", "gcs")
"""The packages that need Google's clients; they are imported when a URI names them."""


NAMED_AT_RUN_TIME = {
    "boiler_beam.plan.compile", "boiler_beam.connectors.registry", "boiler_beam.program.loading", "boiler_beam.beam.forms",
}  # fmt: skip
"""They import modules whose names users give, and, in the registry, a connector by its scheme."""

FILES = [
    path for package in ("boiler_beam", "transforms", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))
]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def layer_of(module: str) -> int | None:
    found = [place for place, name in enumerate(ORDER) if module == name or module.startswith(f"{name}.")]
    return max(found, default=None, key=lambda place: len(ORDER[place]))


def is_import(node: ast.AST) -> bool:
    """Whether it calls `importlib.import_module` or `__import__`."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in ("import_module", "__import__")


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere in it; of `from package import name` the module `name`, if it is one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Call) and is_import(node):
            if isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
            else:
                assert name_of(path) in NAMED_AT_RUN_TIME, f"{path}:{node.lineno} imports a module by a computed name"
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_imports_point_one_way(path: Path) -> None:
    own = layer_of(name_of(path))
    for module in imports(path):
        layer = layer_of(module)
        if own is not None and layer is not None:
            assert layer <= own, f"{path.name} imports {module}"
        if own is not None and own < ORDER.index("transforms"):
            others = ("transforms", "pipelines") if ORDER[own] == BEAM else ("apache_beam", "transforms", "pipelines")
            assert not module.startswith(others), module
            assert not module.startswith(("google", "grpc")) or path.parent.name in CLIENTS, module


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: {one for one in imports(path) if one in MODULES} - {name} for name, path in MODULES.items()}
    assert circle(graph) == []


def test_no_packages_import_each_other_in_a_circle() -> None:
    """A package is a folder directly in `boiler_beam`, or a module there, or `transforms` or `pipelines`."""

    def package(module: str) -> str:
        return ".".join(module.split(".")[: 2 if module.startswith("boiler_beam.") else 1])

    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        found = {package(one) for one in imports(path) if one in MODULES}
        graph.setdefault(package(name), set()).update(found - {package(name)})
    assert circle(graph) == []


@pytest.mark.parametrize(
    "text",
    [
        "import boiler_beam.engine.fresh",
        "def late():\n    from boiler_beam.engine import fresh",
        "if TYPE_CHECKING:\n    from boiler_beam.engine.fresh import fresh_row",
        "importlib.import_module('boiler_beam.engine.fresh')",
        "import_module('boiler_beam.engine.fresh').fresh_row()",
    ],
)
def test_an_import_is_seen_wherever_it_is(text: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text)
    assert imports(tmp_path / "module.py") == {"boiler_beam.engine.fresh"}


def test_each_module_is_in_a_layer() -> None:
    """Those of `steps` each in one of their own; the name of a larger package is the layer of its `__init__` alone."""
    layers = {name: layer_of(name) for name in MODULES}
    assert [name for name, layer in layers.items() if layer is None] == []
    larger = {"boiler_beam", "boiler_beam.steps"}
    assert {name for name, layer in layers.items() if layer is not None and ORDER[layer] in larger} == larger


def test_importing_loads_neither_beam_nor_clients_nor_what_is_not_asked_for() -> None:
    program = "import sys, boiler_beam, boiler_beam.connectors, pipelines.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"apache_beam", "google.api_core", "google.cloud.firestore", "pyarrow", "transforms"})

"""Imports point one way: pipelines -> transforms -> boiler_beam; inside: engine -> steps -> plan -> models."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each may import itself and what stands before it.
ORDER = [
    "boiler_beam.errors", "boiler_beam.raised", "boiler_beam.values", "boiler_beam.compare", "boiler_beam.events",
    "boiler_beam.models", "boiler_beam.views",
    "boiler_beam.plan", "boiler_beam.connectors", "boiler_beam.steps", "boiler_beam.engine", "boiler_beam.oracle",
    "boiler_beam.testing", "boiler_beam.samples", "boiler_beam.relay", "transforms", "pipelines",
]  # fmt: skip

CLIENTS = ("firestore", "pubsub")
"""The packages that need Google's clients; they are imported when a URI names them."""


def layer_of(module: str) -> int | None:
    found = [place for place, name in enumerate(ORDER) if module == name or module.startswith(f"{name}.")]
    return max(found, default=None)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


FILES = [
    path for package in ("boiler_beam", "transforms", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))
]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_one_way(path: Path) -> None:
    own = layer_of(str(path.relative_to(ROOT).with_suffix("")).replace("/", "."))
    for module in imports(path):
        layer = layer_of(module)
        if own is not None and layer is not None:
            assert layer <= own, f"{path.name} imports {module}"
        if own is not None and ORDER[own].startswith("boiler_beam"):
            assert not module.startswith(("apache_beam", "transforms", "pipelines")), module
            assert not module.startswith(("google", "grpc")) or path.parent.name in CLIENTS, module


def test_importing_loads_neither_beam_nor_clients_nor_what_is_not_asked_for() -> None:
    program = "import sys, boiler_beam, boiler_beam.connectors, pipelines.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"apache_beam", "google.api_core", "google.cloud.firestore", "pyarrow", "transforms"})

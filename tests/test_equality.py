"""User values are not compared by `==`, by which a change from 1 to 1.0 or True would be lost (S5a).

`boiler_beam.compare.same_value` compares them. Two things are looked at: comparisons of what is named like a user's value,
and classes that hold values of any type, which must not compare by their attributes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import msgspec
import pytest

import boiler_beam.steps

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    path
    for folder in ("boiler_beam/steps", "boiler_beam/engine", "boiler_beam/views", "boiler_beam/beam")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
VALUES = {"value", "values", "contribution", "contributions", "rank", "ranks", "role", "parts"}
"""The names of variables and attributes with values of users' documents, getters and functions."""


def is_value(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_") in VALUES


def comparisons(path: Path) -> list[str]:
    """Yields the lines that compare a user value by Python's equality; `x != x` is a test for NaN and allowed."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and any(
            isinstance(one, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for one in node.ops
        ):
            operands = [node.left, *node.comparators]
            is_nan = len({ast.unparse(one) for one in operands}) == 1
            infinities = all(isinstance(one, ast.Tuple) or is_value(one) for one in operands)
            if any(map(is_value, operands)) and not is_nan and not infinities:
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_no_value_is_compared_by_pythons_equality(path: Path) -> None:
    assert comparisons(path) == []


def test_a_comparison_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("found = [value == 1, self.contributions != other, value in known, value != value]\n")
    assert [one.partition(": ")[2] for one in comparisons(path)] == [
        "value == 1", "self.contributions != other", "value in known",
    ]  # fmt: skip


def structs() -> list[type[msgspec.Struct]]:
    """The fields of messages and state that may contain a value of any type."""
    found: set[type[msgspec.Struct]] = set()
    for info in pkgutil.walk_packages(boiler_beam.steps.__path__, "boiler_beam.steps."):
        for one in vars(importlib.import_module(info.name)).values():
            is_own = inspect.isclass(one) and issubclass(one, msgspec.Struct) and one.__module__ == info.name
            if is_own and any("Any" in str(annotation) for annotation in inspect.get_annotations(one).values()):
                found.add(one)
    return sorted(found, key=lambda one: f"{one.__module__}.{one.__qualname__}")


@pytest.mark.parametrize("struct", structs(), ids=lambda one: f"{one.__module__.rpartition('.')[2]}.{one.__qualname__}")
def test_what_holds_values_does_not_compare_by_them(struct: type[msgspec.Struct]) -> None:
    assert not struct.__struct_config__.eq

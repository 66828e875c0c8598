"""Annotations of aggregates and of `key` are compared with the fields: type checkers rely on them."""

from __future__ import annotations

import importlib
from datetime import datetime
from enum import Enum
from typing import Any, Literal

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, root
from boiler_beam.errors import DeclarationError
from boiler_beam.plan import compile_plan


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Shop(bb.DomainModel, collection="shops"):
    name: str


class Order(bb.DomainModel, collection="orders"):
    shop: Ref[Shop]
    cents: int
    size: Size
    at: datetime
    state: Literal["open", "sent"] = "open"
    weight: float | None = None
    city: str | None = None
    tags: list[str] = bb.field(default_factory=list)

    @property
    def day(self) -> str:
        return self.at.date().isoformat()


def said(annotations: dict[str, Any], edge: Any = None, **aggregates: Any) -> list[str]:
    """Compiles a view of orders that has these annotations; returns the messages."""
    store = type("Store", (bb.Store,), {"orders": edge or group(Order, by=("shop", "day"))})
    if not aggregates:
        aggregates = {"number": aggregate.count("orders")}
    if edge is not None and edge.kind == "root":
        aggregates = {"name": bb.view_property(lambda view: view.key)}
    view = type("View", (bb.ViewModel,), {"Store": store, "__annotations__": annotations, **aggregates}, collection="v")
    view.__module__ = __name__
    try:
        compile_plan([view])
    except DeclarationError as error:
        return str(error).splitlines()[1:]
    return []


def wrong(name: str, expected: str, got: str) -> list[str]:
    return [
        f"  View.{name}: expected the annotation {expected}, got {got}; fix: annotate it so, or remove the annotation"
    ]


@pytest.mark.parametrize(
    ("declared", "right", "expected", "got"),
    [
        (aggregate.count("orders"), "int", "int", "str"),
        (aggregate.count_distinct("orders", of="shop"), "int", "int", "str"),
        (aggregate.mean("orders", of="cents"), "float | None", "float | None", "float"),
        (aggregate.sum("orders", of="cents"), "int", "int", "str"),
        (aggregate.sum("orders", of="weight"), "float", "float", "int"),
        (aggregate.min("orders", of="at"), "datetime | None", "datetime | None", "datetime"),
        (aggregate.max("orders", of="cents"), "int | None", "int | None", "int"),
        (aggregate.collect("orders", of="day"), "list[str]", "list[str]", "list[int]"),
        (aggregate.collect("orders", of="shop"), "list[Ref[Shop]]", "list[Ref[Shop]]", "list[str]"),
        (aggregate.collect("orders"), "list[dict[str, Any]]", "list[dict[str, Any]]", "list[Order]"),
        (aggregate.top("orders", n=2, by="cents", of="city"), "list[str]", "list[str]", "tuple[str, str]"),
    ],
)  # fmt: skip
def test_an_aggregate_is_of_the_annotated_type(declared: Any, right: str, expected: str, got: str) -> None:
    assert said({"it": right}, it=declared) == []
    assert said({"it": got}, it=declared) == wrong("it", expected, got)


@pytest.mark.parametrize(
    ("declared", "annotation"),
    [
        (aggregate.sum("orders", of=lambda order: order.cents), "str"),
        (aggregate.top("orders", n=1, by="cents", of=lambda order: order.tags), "list[str]"),
    ],
)
def test_the_type_of_a_function_is_left_to_type_checkers(declared: Any, annotation: str) -> None:
    assert said({"it": annotation}, it=declared) == []


@pytest.mark.parametrize("annotation", ["Any", "object", "int | str", "float"])
def test_a_wider_annotation_is_right(annotation: str) -> None:
    assert said({"number": annotation}) == []


@pytest.mark.parametrize(
    ("edge", "right", "got"),
    [
        (root(Shop), "str", "int"),
        (group(Order, by="shop"), "str", "Ref[Shop]"),
        (group(Order, by="size"), "int", "Size"),
        (group(Order, by="cents"), "int", "str"),
        (group(Order, by="city"), "str", "None"),
        (group(Order, by="tags"), "str", "list[str]"),
        (group(Order, by=("shop", "day")), "tuple[str, str]", "str"),
        (group(Order, by=("shop", "cents")), "tuple[str, int]", "tuple[str, str]"),
        (group(Order, by=("day",)), "tuple[str]", "tuple[str, str]"),
    ],
)  # fmt: skip
def test_a_key_is_of_the_annotated_type(edge: Any, right: str, got: str) -> None:
    assert said({"key": right}, edge) == []
    assert said({"key": got}, edge) == wrong("key", right, got)


def test_a_key_of_a_literal() -> None:
    edge = group(Order, by="state")
    assert said({"key": "str"}, edge) == said({"key": "Literal['open', 'sent']"}, edge) == []
    assert said({"key": "int"}, edge) == wrong("key", "Literal['open', 'sent']", "int")


def test_an_annotation_that_names_nothing() -> None:
    (message,) = said({"number": "Missing"})
    assert message == (
        "  View.number: expected an annotation that can be resolved, got name 'Missing' is not defined; "
        "fix: define the named class at module level"
    )


def test_the_views_of_the_typing_tests_compile() -> None:
    module = importlib.import_module("tests.typing.views")
    compile_plan([module.ShopDay, module.CustomerPage])

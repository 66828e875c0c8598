"""What type checkers know of a declaration. `test_types.py` runs mypy and pyright on this file, both strict.

Each comment `type: ignore` states a mistake that both find: they report one that is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, role, root, route, seen_by, view_property


class Customer(bb.DomainModel, collection="customers"):
    name: str


class Line(bb.Struct):
    title: str
    cents: int


class Order(bb.DomainModel, collection="orders"):
    customer: Ref[Customer]
    ordered_at: datetime
    lines: list[Line]
    shop: str
    weight: float = 0.0

    @property
    def day(self) -> str:
        return self.ordered_at.date().isoformat()

    @property
    def cents(self) -> int:
        return sum(line.cents for line in self.lines)


class Rates(bb.DomainModel, collection="config"):
    tax_percent: int


def cents_of(order: Order) -> int:
    return order.cents


def day_of(order: Order) -> datetime | None:
    return order.ordered_at if order.lines else None


def first_line(order: Order) -> Line:
    return order.lines[0]


class Spread(aggregate.Custom[float | None]):
    def empty(self) -> Any:
        return []

    def add(self, state: Any, value: Any) -> Any:
        return sorted([*state, value])

    def retract(self, state: Any, value: Any) -> Any:
        place = state.index(value)
        return [*state[:place], *state[place + 1 :]]

    def merge(self, state: Any, other: Any) -> Any:
        return sorted([*state, *other])

    def result(self, state: Any) -> float | None:
        return state[-1] - state[0] if state else None


class ShopDay(bb.ViewModel, path="shops/{shop}/days/{day}"):
    class Store(bb.Store):
        orders: dict[str, Order] = group(Order, by=("shop", "day"), order_by="ordered_at")
        customers: dict[str, Customer] = reference("orders.customer")
        rates: Rates = document(Rates, "config/rates")

    store: Store
    key: tuple[str, str]

    num_orders = aggregate.count("orders")
    num_customers = aggregate.count_distinct("orders", of="customer")
    cents: int = aggregate.sum("orders", of="cents")
    also_cents = aggregate.sum("orders", of=cents_of)
    mean_weight = aggregate.mean("orders", of="weight")
    heaviest: float | None = aggregate.max("orders", of="weight")
    first_day = aggregate.min("orders", of=day_of)
    customer_refs: list[Ref[Customer]] = aggregate.collect("orders", of="customer", limit=10)
    days = aggregate.collect("orders", of=day_of, order_by="-ordered_at")
    documents = aggregate.collect("orders")
    lines = aggregate.collect("orders", of=first_line)
    largest: list[str] = aggregate.top("orders", n=3, by="cents", of="shop")
    spread = aggregate.custom(Spread(), "orders", of="cents")

    def paths(self) -> Iterator[dict[str, str]]:
        shop, day = self.key
        assert_type(shop, str)
        yield {"shop": shop, "day": day}

    @view_property
    @seen_by(role("host"))
    def seen_by_hosts(self) -> str:
        return str(self.key[0])

    @route("/{id}/label")
    def label(self, floor: int = 1) -> str:
        return f"{self.seen_by_hosts} {floor}"

    @view_property
    def summary(self) -> str:
        assert_type(self.seen_by_hosts, str)
        assert_type(self.num_orders, int)
        assert_type(self.num_customers, int)
        assert_type(self.cents, int)
        assert_type(self.also_cents, int)
        assert_type(self.mean_weight, float | None)
        assert_type(self.heaviest, float | None)
        assert_type(self.first_day, datetime | None)
        assert_type(self.customer_refs, list[Ref[Customer]])
        assert_type(self.days, list[datetime])
        assert_type(self.documents, list[dict[str, Any]])
        assert_type(self.lines, list[Any])
        assert_type(self.largest, list[str])
        assert_type(self.spread, float | None)
        assert_type(self.key, tuple[str, str])
        assert_type(self.store.orders, dict[str, Order])
        assert_type(self.at, dict[str, str])
        names = [found.name for one in self.store.orders.values() if (found := self.store[one.customer]) is not None]
        return f"{self.num_orders + 1} {self.cents * self.store.rates.tax_percent} {names}"

    @view_property
    def is_open(self) -> bool:
        return self.num_orders < 3

    @is_open.setter
    def is_open(self, value: bool) -> None:
        self.store.rates.tax_percent = 0 if value else 25


class CustomerPage(bb.ViewModel, collection="customer_pages"):
    class Store(bb.Store):
        customer: Customer = root(Customer)
        orders: dict[str, Order] = referrers(Order, by="customer", where=lambda order: order.weight > 1)

    store: Store
    key: str

    num_orders: int = aggregate.count("orders", where=lambda order: order.weight > 2)

    @view_property
    def name(self) -> str:
        assert_type(self.store.customer, Customer)
        return f"{self.key}: {self.store.customer.name}"


if TYPE_CHECKING:
    WRONG_COUNT: str = aggregate.count("orders")  # type: ignore[assignment]
    WRONG_MEAN: float = aggregate.mean("orders", of="weight")  # type: ignore[assignment]
    WRONG_SUM: str = aggregate.sum("orders", of=cents_of)  # type: ignore[assignment]
    WRONG_TOP: str = aggregate.top("orders", n=3, by="cents", of="shop")  # type: ignore[assignment]
    WRONG_KEY: int = CustomerPage().key  # type: ignore[assignment]
    WRONG_PROPERTY: int = CustomerPage().name  # type: ignore[assignment]
    WRONG_EDGE: dict[str, Order] = referrers(Customer, by="customer")  # type: ignore[arg-type]

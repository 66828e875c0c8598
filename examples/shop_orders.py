"""A shop: the page of an order, and what each seller has to send on each day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, root, view_property


class Customer(bb.DomainModel, collection="customers"):
    name: str
    city: str = ""


class Seller(bb.DomainModel, collection="sellers"):
    name: str


class Product(bb.DomainModel, collection="products"):
    title: str
    cents: int
    seller: Ref[Seller]


class Rates(bb.DomainModel, collection="config"):
    tax_percent: int


class Line(bb.Struct):
    product: Ref[Product]
    seller: Ref[Seller]
    number: int = 1
    is_sent: bool = False


class Order(bb.DomainModel, collection="orders"):
    customer: Ref[Customer]
    ordered_at: datetime
    lines: list[Line]

    @property
    def day(self) -> str:
        return self.ordered_at.date().isoformat()


class ShownLine(bb.Struct):
    title: str
    seller: str
    number: int
    cents: int


class OrderPage(bb.ViewModel, collection="order_pages"):
    class Store(bb.Store):
        order: Order = root(Order)
        customer: Customer = reference("order.customer")
        products: dict[str, Product] = reference("order.lines.product")
        sellers: dict[str, Seller] = reference("products.seller")
        rates: Rates = document(Rates, "config/rates")

    store: Store

    def viewers(self) -> Iterator[str]:
        yield self.store.customer.doc_id

    @view_property
    def customer(self) -> str:
        return self.store.customer.name

    @view_property
    def lines(self) -> list[ShownLine]:
        shown: list[ShownLine] = []
        for line in self.store.order.lines:
            product, seller = self.store[line.product], self.store[line.seller]
            if product is not None:
                name = seller.name if seller else ""
                shown.append(ShownLine(product.title, name, line.number, product.cents * line.number))
        return shown

    @view_property
    def total_cents(self) -> int:
        net = sum(line.cents for line in self.lines)
        return net + net * self.store.rates.tax_percent // 100

    @view_property
    def is_complete(self) -> bool:
        return all(line.is_sent for line in self.store.order.lines)


class SellerDay(bb.ViewModel, path="sellers/{seller}/days/{day}"):
    """A seller's day.

    An order with lines of two sellers is in two groups, because `lines.seller` leads through a list.
    """

    class Store(bb.Store):
        orders: dict[str, Order] = group(Order, by=("lines.seller", "day"), order_by="ordered_at")
        customers: dict[str, Customer] = reference("orders.customer", only=("name", "city"))

    store: Store
    num_orders = aggregate.count("orders")

    def paths(self) -> Iterator[dict[str, str]]:
        seller, day = self.key
        yield {"seller": Ref[Seller](seller).doc_id, "day": day}

    def viewers(self) -> Iterator[str]:
        yield self.at["seller"]

    @view_property
    def to_send(self) -> list[str]:
        seller, _ = self.key
        found: list[str] = []
        for order in self.store.orders.values():
            number = sum(line.number for line in order.lines if line.seller.path == seller and not line.is_sent)
            customer = self.store[order.customer]
            if number and customer is not None:
                found.append(f"{number} to {customer.name}, {customer.city}")
        return found

"""A shop whose views use every kind of edge and aggregate, and whose functions and getters raise for some documents."""

from __future__ import annotations

from typing import Any, Literal

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property


class Tag(bb.DomainModel, collection="tags"):
    name: str


class Item(bb.DomainModel, collection="items"):
    label: str
    price: float
    tag: Ref[Tag] | None = None


class Big(Item):
    size: int


class Person(bb.DomainModel, collection="people"):
    name: str
    team: str | None = "x"
    boss: Ref[Person] | None = None


class Line(bb.Struct):
    item: Ref[Item]
    number: int = 1


class Order(bb.DomainModel, collection="orders"):
    owner: Ref[Person]
    items: list[Ref[Item]] = bb.field(default_factory=list)
    slots: dict[str, Ref[Item]] = bb.field(default_factory=dict)
    lines: list[Line] = bb.field(default_factory=list)
    status: Literal["open", "hidden"] = "open"
    divisor: int = 1


class Settings(bb.DomainModel, collection="config"):
    factor: int


def labels(documents: dict[str, Any]) -> list[str]:
    """Returns the keys and labels of the documents of an edge."""
    return [f"{key}={one.label}" for key, one in documents.items()]


class OrderCard(bb.ViewModel, collection="order_cards"):
    """References of every kind, with `where=` on the root."""

    class Store(bb.Store):
        order: Order = root(Order, where=lambda order: order.status != "hidden")
        owner: Person = reference("order.owner")
        boss: Person | None = reference("owner.boss", optional=True)
        items: dict[str, Item] = reference("order.items")
        slots: dict[str, Item] = reference("order.slots")
        lines: dict[str, Item] = reference("order.lines.item", where=lambda item: item.price >= 0)
        bigs: dict[str, Big] = reference("order.items", to=Big)
        tags: dict[str, Tag] = reference("items.tag")
        settings: Settings | None = document(Settings, "config/shop", optional=True)

    store: Store

    total = aggregate.sum("items", of="price")
    num_tags = aggregate.count_distinct("items", of="tag")

    @view_property
    def owner(self) -> str:
        boss = self.store.boss
        return f"{self.store.owner.name} under {boss.name if boss else None}"

    @view_property
    def contents(self) -> list[list[str]]:
        store = self.store
        if any(item.label == "boom" for item in store.items.values()):
            raise ValueError("boom")
        return [labels(store.items), labels(store.slots), labels(store.lines), labels(store.bigs)]

    @view_property
    def tags(self) -> list[str]:
        return [tag.name for tag in self.store.tags.values()]

    @view_property
    def factor(self) -> int | None:
        return self.store.settings.factor if self.store.settings else None

    @view_property
    def found(self) -> list[str | None]:
        order = self.store.order
        return [item.label if (item := self.store[ref]) else None for ref in order.items]


class PersonCard(bb.ViewModel, collection="person_cards"):
    """Referrers of a root, what they refer to, and every aggregate; a `where=` and an `of=` that raise."""

    class Store(bb.Store):
        person: Person = root(Person)
        orders: dict[str, Order] = referrers(Order, by="owner", where=lambda order: 6 // order.divisor > 1)
        items: dict[str, Item] = reference("orders.items")
        reports: dict[str, Person] = referrers(Person, by="boss")

    store: Store

    num_orders = aggregate.count("orders")
    inverse = aggregate.sum("items", of=lambda item: 1 / item.price)
    mean_price = aggregate.mean("items", of="price")
    cheapest = aggregate.min("items", of="price")
    dearest = aggregate.max("items", of="price", where=lambda item: item.price < 100)
    kinds = aggregate.count_distinct("items", of="label")
    first = aggregate.collect("items", of="label", order_by=("-price", "label"), limit=2)
    every = aggregate.collect("items", of="tag")
    best = aggregate.top("items", n=2, by="price", of="label")

    @view_property
    def reports(self) -> list[str]:
        return [one.name for one in self.store.reports.values()]

    @view_property
    def mean_of_two(self) -> float | None:
        return None if self.mean_price is None else self.mean_price / 2


class TeamCard(bb.ViewModel, collection="team_cards"):
    """A group, referrers of its members, and references on from there."""

    class Store(bb.Store):
        people: dict[str, Person] = group(Person, by="team")
        bosses: dict[str, Person] = reference("people.boss")
        orders: dict[str, Order] = referrers(Order, by="owner", of="people")
        items: dict[str, Item] = reference("orders.items")
        settings: Settings = document(Settings, "config/shop")

    store: Store

    num_people = aggregate.count("people")
    num_orders = aggregate.count("orders", where=lambda order: order.status == "open")
    total = aggregate.sum("items", of="price")
    names = aggregate.collect("people", of="name")

    @view_property
    def bosses(self) -> list[str]:
        return sorted(self.store.bosses)

    @view_property
    def team(self) -> str:
        return f"{self.key} x {self.store.settings.factor}"


class ItemCard(bb.ViewModel, collection="item_cards"):
    """Referrers by a list, and referrers of those."""

    class Store(bb.Store):
        item: Item = root(Item)
        orders: dict[str, Order] = referrers(Order, by="items")
        owners: dict[str, Person] = reference("orders.owner")
        reports: dict[str, Person] = referrers(Person, by="boss", of="owners")

    store: Store

    num_orders = aggregate.count("orders")
    num_reports = aggregate.count("reports")

    @view_property
    def owners(self) -> list[str]:
        return [one.name for one in self.store.owners.values()]


class TagCard(bb.ViewModel, collection="tag_cards"):
    """Referrers of referrers, by a list and by a map."""

    class Store(bb.Store):
        tag: Tag = root(Tag)
        items: dict[str, Item] = referrers(Item, by="tag")
        orders: dict[str, Order] = referrers(Order, by="items", of="items")
        slotted: dict[str, Order] = referrers(Order, by="slots", of="items")

    store: Store

    num_orders = aggregate.count("orders")
    prices = aggregate.sum("items", of="price")

    @view_property
    def slotted(self) -> list[str]:
        return sorted(self.store.slotted)


class BigCard(bb.ViewModel, collection="big_cards"):
    """A root that is a subclass: other documents of the collection are missing, not invalid."""

    class Store(bb.Store):
        big: Big = root(Big)

    store: Store

    @view_property
    def size(self) -> int:
        return self.store.big.size


VIEWS = [OrderCard, PersonCard, TeamCard, ItemCard, TagCard, BigCard]

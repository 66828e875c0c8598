"""A directory for many tenants: all documents of a tenant are below it, and other tenants can't read them."""

from __future__ import annotations

from collections.abc import Iterator

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, referrers, role, root, view_property


class Tenant(bb.DomainModel, collection="tenants"):
    name: str
    domain: str


class Department(bb.DomainModel, collection="tenants/{tenant}/departments"):
    tenant: Ref[Tenant]
    name: str
    head: Ref[Person] | None = None


class Person(bb.DomainModel, collection="tenants/{tenant}/people"):
    tenant: Ref[Tenant]
    first_name: str
    last_name: str
    title: str = ""
    department: Ref[Department] | None = None
    manager: Ref[Person] | None = None
    months: int = 0

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Spread(aggregate.Custom):
    """The standard deviation of ints; exact, because the state contains only ints."""

    def empty(self) -> list[int]:
        return [0, 0, 0]

    def add(self, state: list[int], value: int) -> list[int]:
        return [state[0] + 1, state[1] + value, state[2] + value * value]

    def retract(self, state: list[int], value: int) -> list[int]:
        return [state[0] - 1, state[1] - value, state[2] - value * value]

    def merge(self, state: list[int], other: list[int]) -> list[int]:
        return [mine + theirs for mine, theirs in zip(state, other, strict=True)]

    def result(self, state: list[int]) -> float | None:
        number, total, squares = state
        return ((number * squares - total * total) / number**2) ** 0.5 if number else None


class DirectoryEntry(bb.ViewModel, path="tenants/{tenant}/directory/{id}"):
    class Store(bb.Store):
        person: Person = root(Person)
        tenant: Tenant = reference("person.tenant")
        department: Department | None = reference("person.department", optional=True)
        manager: Person | None = reference("person.manager", optional=True)
        reports: dict[str, Person] = referrers(Person, by="manager", order_by=("last_name", "first_name"))

    store: Store

    def viewers(self) -> Iterator[str]:
        yield role("member", of=self.store.tenant)

    def editors(self) -> Iterator[str]:
        yield self.store.person.doc_id
        yield role("admin", of=self.store.tenant)

    @view_property
    def name(self) -> str:
        return self.store.person.name

    @view_property
    def mail(self) -> str:
        person = self.store.person
        return f"{person.first_name}.{person.last_name}@{self.store.tenant.domain}".lower()

    @view_property
    def department(self) -> str | None:
        return self.store.department.name if self.store.department else None

    @view_property
    def manager(self) -> str | None:
        return self.store.manager.name if self.store.manager else None

    @view_property
    def reports(self) -> list[str]:
        return [person.name for person in self.store.reports.values()]


class DepartmentPage(bb.ViewModel, path="tenants/{tenant}/department_pages/{id}"):
    class Store(bb.Store):
        department: Department = root(Department)
        head: Person | None = reference("department.head", optional=True)
        people: dict[str, Person] = referrers(Person, by="department")

    store: Store
    num_people = aggregate.count("people")
    longest = aggregate.top("people", n=2, by="months", of="name")
    spread_of_months = aggregate.custom(Spread(), "people", of="months")

    def viewers(self) -> Iterator[str]:
        yield role("member", of=self.store.department.tenant)

    @view_property
    def name(self) -> str:
        return self.store.department.name

    @view_property
    def head(self) -> str | None:
        return self.store.head.name if self.store.head else None

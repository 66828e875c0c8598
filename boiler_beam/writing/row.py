"""A row whose setters can run: its store holds documents that can be assigned to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from boiler_beam.connectors.base import KeyedSource
from boiler_beam.errors import WriteRefused
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import ViewPlan
from boiler_beam.steps.row import store_value
from boiler_beam.values import decode_fields
from boiler_beam.views import ViewModel
from boiler_beam.views.view import CopyOfRow
from boiler_beam.writing.transaction import Transaction

__all__ = ["TransactionSource", "writable_row"]

Reached = Mapping[str, DomainModel]


class TransactionSource(KeyedSource):
    """The documents that a transaction sees, with what it writes."""

    scheme = "transaction"

    def __init__(self, tx: Transaction) -> None:
        super().__init__("")
        self.tx, self.database = tx, tx.database

    def splits(self) -> Sequence[str]:
        """A transaction does not read everything."""
        raise NotImplementedError("a transaction reads documents by path or query")

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """A transaction does not read everything."""
        raise NotImplementedError("a transaction reads documents by path or query")

    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        """Yields the documents at some paths; a deletion for each missing one."""
        return self.tx.current(paths)

    def query(self, collection: str, filters: Sequence[tuple[str, str, Any]]) -> Iterator[Change]:
        """Yields the documents of a collection that match all filters."""
        return self.tx.query(collection, filters)


@functools.cache
def _writable_class(model: Any) -> type[ViewModel]:
    """Returns a subclass whose properties are set by their setters."""
    properties = model.declared_properties()

    def set_attribute(row: Any, name: str, value: Any) -> None:
        declared = properties.get(name)
        if declared is None:
            raise AttributeError(f"{model.__name__} has no property {name!r}")
        setter = getattr(declared, "set_value", None)
        if setter is None:
            raise WriteRefused("not_writable", f"{model.__name__}.{name}: it has no setter; fix: leave it out", name)
        setter(row, value)
        for known in properties:  # their values may differ now
            row.__dict__.pop(known, None)

    namespace = {"__setattr__": set_attribute, "__module__": model.__module__, "__boiler_base__": True}
    made: type[ViewModel] = type(model.__name__, (model,), namespace)
    return made


def writable_row(
    view: ViewPlan,
    key: Any,
    path: str,
    fields: bytes,
    reached: Callable[[str], Reached],
    document: Callable[[type[DomainModel], str], DomainModel | None],
) -> ViewModel:
    """Returns a row whose properties can be assigned to.

    Args:
        view: The view.
        key: The group's key, or the root's id.
        path: The path of the copy that is changed.
        fields: The rendered row, from which aggregates are read: they are those before the change.
        reached: The documents that an edge reached, by the edge's name.
        document: Returns the form of a document that can be assigned to, by its class and path.
    """
    edges = {name: replace(edge, only=None) for name, edge in view.by_name.items()}
    stored = dict(view.properties)
    rendered = decode_fields(fields)

    def those(name: str) -> Reached:
        found = ((one, document(edges[name].model, one)) for one in reached(name))
        return {one: shown for one, shown in found if shown is not None}

    def reach(name: str) -> Any:
        edge = edges[name]
        return store_value(edge, those(name), lambda: those(edge.parent) if edge.parent else {})

    def find(wanted: str) -> Any:
        return next((those(name)[wanted] for name in edges if wanted in reached(name)), None)

    def aggregate(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{view.name}.{name} is not stored, so a setter can't read it")
        return rendered[stored[name]]

    copy = CopyOfRow(view.paths.at)
    copy.path = path
    model: Any = view.model
    cls: Any = _writable_class(model)
    row: ViewModel = cls.__new__(cls)
    row.__dict__.update(store=view.store(reach, find), key=key, _copy=copy, _aggregate=aggregate)
    return row

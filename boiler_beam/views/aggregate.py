"""Aggregates over an edge, as they are declared: `num_users = aggregate.count("users")`.

Each takes `where=` (a function of the document: which count) and, but for `count`, `of=` (a field's name or a function
of the document: what is counted; nulls are skipped). What an aggregate of nothing is: `count` and `sum` 0, `collect`
and `top` [], the others None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "AggregateDeclaration",
    "collect",
    "count",
    "count_distinct",
    "max",
    "mean",
    "min",
    "sum",
    "top",
]

Of = str | Callable[[Any], Any] | None
Where = Callable[[Any], Any] | None


class AggregateDeclaration:
    """One aggregate of a view, as written. In a row it is read as its value."""

    def __init__(self, kind: str, edge: str, of: Of = None, where: Where = None, **options: Any) -> None:
        self.kind, self.edge, self.of, self.where, self.options = kind, edge, of, where, options
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, view: object | None, owner: type) -> Any:
        if view is None:
            return self
        value = view.__dict__[self.name] = view.__dict__["_aggregate"](self.name)
        return value


def count(edge: str, *, where: Where = None) -> Any:
    """How many documents the edge reaches."""
    return AggregateDeclaration("count", edge, where=where)


def sum(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """The sum: an int of ints, a float once one is; exact until the last rounding."""
    return AggregateDeclaration("sum", edge, of, where)


def mean(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """The mean as a float; exact until the last rounding."""
    return AggregateDeclaration("mean", edge, of, where)


def min(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """The smallest value, in Firestore's order of types and values."""
    return AggregateDeclaration("min", edge, of, where)


def max(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """The largest value, in Firestore's order of types and values."""
    return AggregateDeclaration("max", edge, of, where)


def count_distinct(edge: str, *, of: Of = None, where: Where = None) -> Any:
    """How many different values there are; without `of=`, how many documents. A `Ref` counts by its path."""
    return AggregateDeclaration("count_distinct", edge, of, where)


def collect(
    edge: str,
    *,
    of: Of = None,
    where: Where = None,
    order_by: str | tuple[str, ...] | None = None,
    limit: int | None = None,
) -> Any:
    """The values as a list, by path or `order_by` (`"-sent_at"` descending, nulls last, ties by path), `limit` at most.

    Without `of=` the documents' fields under their stored names.
    """
    return AggregateDeclaration("collect", edge, of, where, order_by=order_by, limit=limit)


def top(edge: str, *, n: int, by: str | Callable[[Any], Any], of: Of = None, where: Where = None) -> Any:
    """The values of the `n` documents with the largest `by`, largest first, ties by path; a null `by` is skipped.

    Without `of=` the documents' fields under their stored names.
    """
    return AggregateDeclaration("top", edge, of, where, n=n, by=by)

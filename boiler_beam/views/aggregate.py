"""Aggregates over an edge, as they are declared: `num_users = aggregate.count("users")`.

Each takes `where=` (a function of the document: which count) and, but for `count`, `of=` (a field's name or a function
of the document: what is counted; nulls are skipped). What an aggregate of nothing is: `count` and `sum` 0, `collect`
and `top` [], the others None.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

__all__ = [
    "AggregateDeclaration",
    "Custom",
    "collect",
    "count",
    "count_distinct",
    "custom",
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


class Custom(abc.ABC):
    """Base of an aggregate of your own: how values fold into a state, and out of it again.

    A state is a Firestore value; it is never changed in place. Whatever the order, and however values are split over
    states that are merged, the same values must give the same state: `boiler_beam.testing.check_aggregate` looks at it.

    Here the variance of ints, exact because a state holds ints alone:

    >>> class Spread(Custom):
    ...     def empty(self):
    ...         return [0, 0, 0]
    ...
    ...     def add(self, state, value):
    ...         return [state[0] + 1, state[1] + value, state[2] + value * value]
    ...
    ...     def retract(self, state, value):
    ...         return [state[0] - 1, state[1] - value, state[2] - value * value]
    ...
    ...     def merge(self, state, other):
    ...         return [mine + theirs for mine, theirs in zip(state, other)]
    ...
    ...     def result(self, state):
    ...         number, total, squares = state
    ...         return (number * squares - total * total) / number**2 if number else None
    >>> spread = Spread()
    >>> spread.result(spread.add(spread.add(spread.empty(), 1), 3))
    1.0
    """

    @abc.abstractmethod
    def empty(self) -> Any:
        """The state of nothing."""

    @abc.abstractmethod
    def add(self, state: Any, value: Any) -> Any:
        """The state with one more value: what `of=` gives of a document, never None."""

    @abc.abstractmethod
    def retract(self, state: Any, value: Any) -> Any:
        """The state without a value that was added."""

    @abc.abstractmethod
    def merge(self, state: Any, other: Any) -> Any:
        """The state with all that another one holds."""

    @abc.abstractmethod
    def result(self, state: Any) -> Any:
        """The aggregate's value: any Firestore value."""


def custom(custom: Custom, edge: str, *, of: Of = None, where: Where = None) -> Any:
    """An aggregate of your own; without `of=` its values are the documents' fields under their stored names."""
    return AggregateDeclaration("custom", edge, of, where, custom=custom)

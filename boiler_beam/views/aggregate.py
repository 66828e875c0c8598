"""The aggregates over an edge that a view declares: `num_users = aggregate.count("users")`.

Type checkers know an aggregate by its value: `count` is an `int`, `mean` a `float | None`. They can't know the type of
a field whose name is text; annotate such an aggregate: `total: int = aggregate.sum("lines", of="cents")`. The compiler
compares the annotation with the field.

Each accepts `where=`, a function that selects documents. All except `count` accept `of=`, the value that is aggregated:
a field's name or a function of the document; nulls are skipped. Without any document, `count` and `sum` are 0,
`collect` and `top` are [], and the others are None.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, overload

from typing_extensions import TypeVar

from boiler_beam.values import GeoPoint, Ref

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
Plain = str | int | float | bytes | datetime | Ref[Any] | GeoPoint | list[Any] | dict[str, Any]
"""What a function may give that a row then holds as it is; structs, models and Enums become what is stored of them."""
NumberT = TypeVar("NumberT", bound=float)
PlainT = TypeVar("PlainT", bound=Plain)
ResultT = TypeVar("ResultT", default=Any)


class AggregateDeclaration:
    """One declared aggregate of a view. In a getter, the attribute is the aggregate's value."""

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


def count(edge: str, *, where: Where = None) -> int:
    """Counts the documents of an edge."""
    return AggregateDeclaration("count", edge, where=where)  # type: ignore[return-value]


@overload
def sum(edge: str, *, of: str, where: Where = None) -> Any: ...
@overload
def sum(edge: str, *, of: Callable[[Any], NumberT | None], where: Where = None) -> NumberT: ...
def sum(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """Adds numbers: the sum of ints is an int, any float makes it a float. It is rounded once, at the end."""
    return AggregateDeclaration("sum", edge, of, where)


def mean(edge: str, *, of: str | Callable[[Any], float | None], where: Where = None) -> float | None:
    """Computes the mean of numbers, as a float. It is rounded once, at the end."""
    return AggregateDeclaration("mean", edge, of, where)  # type: ignore[return-value]


@overload
def min(edge: str, *, of: str, where: Where = None) -> Any: ...
@overload
def min(edge: str, *, of: Callable[[Any], PlainT | None], where: Where = None) -> PlainT | None: ...
@overload
def min(edge: str, *, of: Callable[[Any], object], where: Where = None) -> Any: ...
def min(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """Returns the smallest value, in Firestore's order of types and values."""
    return AggregateDeclaration("min", edge, of, where)


@overload
def max(edge: str, *, of: str, where: Where = None) -> Any: ...
@overload
def max(edge: str, *, of: Callable[[Any], PlainT | None], where: Where = None) -> PlainT | None: ...
@overload
def max(edge: str, *, of: Callable[[Any], object], where: Where = None) -> Any: ...
def max(edge: str, *, of: str | Callable[[Any], Any], where: Where = None) -> Any:
    """Returns the largest value, in Firestore's order of types and values."""
    return AggregateDeclaration("max", edge, of, where)


def count_distinct(edge: str, *, of: Of = None, where: Where = None) -> int:
    """Counts distinct values; without `of=`, documents. References are compared by their paths."""
    return AggregateDeclaration("count_distinct", edge, of, where)  # type: ignore[return-value]


OrderBy = str | tuple[str, ...] | None


@overload
def collect(
    edge: str, *, of: None = None, where: Where = None, order_by: OrderBy = None, limit: int | None = None
) -> list[dict[str, Any]]: ...
@overload
def collect(
    edge: str, *, of: str, where: Where = None, order_by: OrderBy = None, limit: int | None = None
) -> list[Any]: ...
@overload
def collect(
    edge: str,
    *,
    of: Callable[[Any], PlainT | None],
    where: Where = None,
    order_by: OrderBy = None,
    limit: int | None = None,
) -> list[PlainT]: ...
@overload
def collect(
    edge: str,
    *,
    of: Callable[[Any], object],
    where: Where = None,
    order_by: OrderBy = None,
    limit: int | None = None,
) -> list[Any]: ...
def collect(
    edge: str, *, of: Of = None, where: Where = None, order_by: OrderBy = None, limit: int | None = None
) -> list[Any]:
    """Collects the values into a list.

    Args:
        edge: The edge's name.
        of: A field's name or a function of the document; without it, the document's fields with their stored names.
        where: Selects documents: a pure function of the document.
        order_by: The fields by which documents are sorted, `"-sent_at"` for descending order; nulls last, ties by path.
            Without it they are sorted by path.
        limit: The maximal number of values: the first ones in that order.
    """
    return AggregateDeclaration("collect", edge, of, where, order_by=order_by, limit=limit)  # type: ignore[return-value]


@overload
def top(
    edge: str, *, n: int, by: str | Callable[[Any], Any], of: None = None, where: Where = None
) -> list[dict[str, Any]]: ...
@overload
def top(edge: str, *, n: int, by: str | Callable[[Any], Any], of: str, where: Where = None) -> list[Any]: ...
@overload
def top(
    edge: str, *, n: int, by: str | Callable[[Any], Any], of: Callable[[Any], PlainT | None], where: Where = None
) -> list[PlainT]: ...
@overload
def top(
    edge: str, *, n: int, by: str | Callable[[Any], Any], of: Callable[[Any], object], where: Where = None
) -> list[Any]: ...
def top(edge: str, *, n: int, by: str | Callable[[Any], Any], of: Of = None, where: Where = None) -> list[Any]:
    """Collects the values of the `n` documents with the largest `by`, largest first, ties by path.

    Args:
        edge: The edge's name.
        n: The maximal number of values.
        by: A field's name or a function of the document; documents for which it is null are skipped.
        of: A field's name or a function of the document; without it, the document's fields with their stored names.
        where: Selects documents: a pure function of the document.
    """
    return AggregateDeclaration("top", edge, of, where, n=n, by=by)  # type: ignore[return-value]


class Custom(abc.ABC, Generic[ResultT]):
    """Base class of a custom aggregate: values are added to a state, and retracted from it.

    A state is a Firestore value and is never changed in place. The same values must give the same state in any order,
    and also if they are split over several states that are merged. `boiler_beam.testing.check_aggregate` checks this.

    `Custom[float | None]` tells type checkers the type of the result. An example is the variance of ints. It is exact,
    because the state contains only ints:

    >>> class Spread(Custom[float | None]):
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
        """Returns the state without any value."""

    @abc.abstractmethod
    def add(self, state: Any, value: Any) -> Any:
        """Returns the state with one more value: the `of=` of a document, never None."""

    @abc.abstractmethod
    def retract(self, state: Any, value: Any) -> Any:
        """Returns the state without a value that was added before."""

    @abc.abstractmethod
    def merge(self, state: Any, other: Any) -> Any:
        """Returns the state with the values of both states."""

    @abc.abstractmethod
    def result(self, state: Any) -> ResultT:
        """Returns the aggregate's value: any Firestore value."""


def custom(custom: Custom[ResultT], edge: str, *, of: Of = None, where: Where = None) -> ResultT:
    """Declares a custom aggregate; without `of=` its values are the documents' fields with their stored names."""
    return AggregateDeclaration("custom", edge, of, where, custom=custom)  # type: ignore[return-value]

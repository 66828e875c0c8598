"""The order of an edge's documents: `order_by="-sent_at"`, or several names.

`-` descending, nulls last, ties by path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from boiler_beam.plan.fieldpath import value_reader
from boiler_beam.views.fold import sort_entries

__all__ = ["Ordering", "ordering"]


@dataclass(frozen=True)
class Ordering:
    """A compiled `order_by=`.

    Attributes:
        names: The fields as written, with `-` before a descending one.
        descending: For each field, whether the largest value comes first.
        readers: For each field, a function that reads it from a document.
        may_raise: Whether one of them is a property, which is a user's function.
    """

    names: tuple[str, ...]
    descending: tuple[bool, ...]
    readers: tuple[Callable[[Any], Any], ...] = field(compare=False, repr=False)
    may_raise: bool

    @property
    def fields(self) -> tuple[str, ...]:
        """The attributes of the document by which it is sorted."""
        return tuple(name.removeprefix("-").partition(".")[0] for name in self.names)

    def ranks(self, document: Any) -> list[Any]:
        """Returns the values by which a document is sorted."""
        return [read(document) for read in self.readers]

    def first(self, documents: Iterable[Any], limit: int | None = None) -> list[Any]:
        """Returns the documents in order, at most `limit` of them."""
        entries = [[self.ranks(one), one.path, one] for one in documents]
        sort_entries(entries, self.descending)
        return [one for _, _, one in entries[:limit]]


def ordering(model: type, order_by: str | tuple[str, ...] | None) -> Ordering:
    """Compiles `order_by=`.

    Raises:
        FieldError: A name is not a field of the model, or is a list or map.
    """
    names = () if order_by is None else (order_by,) if isinstance(order_by, str) else tuple(order_by)
    readers = tuple(value_reader(model, name.removeprefix("-")) for name in names)
    ways = [name.removeprefix("-").split(".") for name in names]
    descending = tuple(name.startswith("-") for name in names)
    return Ordering(names, descending, readers, any(_is_property(model, way) for way in ways))


def _is_property(model: type, way: list[str]) -> bool:
    """Returns whether reading a field path may run a user's code, such as a property."""
    return len(way) > 1 or (isinstance(getattr(model, way[0], None), property) and way[0] != "doc_id")

"""Builds the protobuf queries that read some collections.

>>> for query in queries_of(["users", "orders", "orders/{order}/lines", "archive/{year}/lines"]):
...     print(query.collection_id, query.is_group, *query.patterns)
users False users
orders False orders
lines True orders/{order}/lines archive/{year}/lines
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.values import put_value
from boiler_beam.errors import UsageError
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.values import to_wire

__all__ = ["Field", "Query", "field_path", "put_cursor", "put_order", "queries_of", "query_of"]

Field = str | tuple[str, ...]
"""A field, by its exact stored name; a field within maps by a tuple of names."""

_FIELD_OPERATORS = {
    "<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "!=": 6, "array-contains": 7, "in": 8, "array-contains-any": 9,
    "not-in": 10,
}  # fmt: skip
_COMPARING = frozenset(["<", "<=", ">", ">=", "!=", "not-in"])
_AND, _ASCENDING = 1, 1
_UNARY = {("==", "NaN"): 2, ("==", None): 3, ("!=", "NaN"): 4, ("!=", None): 5}


class Query(msgspec.Struct, frozen=True, dict=True):
    """A query for the documents of all wanted collections that end in one segment.

    Attributes:
        collection_id: The last segment.
        patterns: The collections. A single top-level collection is queried directly. Otherwise the query is for a
            collection group, and the server also returns (and bills) documents of other collections of that name.
        select: The fields to read, in the form of `field_path`; empty for all.
        where: Filters that must all hold: a field in that form, an operator as in Google's clients, a value as parsed
            JSON.
        parent: The parent document of a single subcollection.
    """

    collection_id: str
    patterns: tuple[str, ...]
    select: tuple[str, ...] = ()
    where: tuple[tuple[str, str, Any], ...] = ()
    parent: str = ""

    @cached_property
    def _parsed(self) -> list[CollectionPattern]:
        return [CollectionPattern(text) for text in self.patterns]

    @cached_property
    def is_group(self) -> bool:
        """Whether it queries a collection group."""
        return not self.parent and not all(pattern.is_flat for pattern in self._parsed)

    @cached_property
    def is_by_name(self) -> bool:
        """Whether its documents are ordered by name; filters with comparisons need another order."""
        return _COMPARING.isdisjoint(operator for _, operator, _ in self.where)

    @cached_property
    def name(self) -> str:
        """The patterns, for messages and positions."""
        return ",".join(sorted(self.patterns))

    def holds(self, path: str) -> bool:
        """Returns whether a document belongs to one of its collections."""
        return any(pattern.match(path) is not None for pattern in self._parsed)

    def put(self, structured: Any) -> None:
        """Sets the collection and fields of a `StructuredQuery`, without filters and order."""
        source = structured.from_.add()
        source.collection_id, source.all_descendants = self.collection_id, self.is_group
        for field in self.select:
            structured.select.fields.add().field_path = field

    def put_where(self, structured: Any, root: str) -> None:
        """Sets the filters of a `StructuredQuery`; `root` is the prefix for the paths of references."""
        if self.where:
            every = structured.where.composite_filter
            every.op = _AND
            for field, operator, value in self.where:
                _put_filter(every.filters.add(), field, operator, value, root)


_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def field_path(field: Field) -> str:
    r"""Returns a field in the form of Firestore's queries: names that are not simple are in backquotes.

    Source: https://firebase.google.com/docs/firestore/reference/rest/v1/StructuredQuery#fieldreference

    Raises:
        UsageError: The field is not a name or a tuple of names.

    >>> field_path("age"), field_path("a.b"), field_path(("address", "24h"))
    ('age', '`a.b`', 'address.`24h`')
    """
    names = (field,) if isinstance(field, str) else tuple(field) if isinstance(field, (tuple, list)) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        fix = 'write "name", or ("address", "city") for a field within a map'
        raise UsageError(f"{field!r}: expected a field's stored name, or a tuple of names; fix: {fix}")
    return ".".join(name if _SIMPLE_NAME.fullmatch(name) else f"`{_escaped(name)}`" for name in names)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("`", "\\`")


def query_of(collection: str, where: Sequence[tuple[Field, str, Any]]) -> Query:
    """Returns the query for documents of one collection, given by its pattern or its path (`rooms/r1/messages`).

    Raises:
        UsageError: A pattern or an operator is invalid.
    """
    parent, _, last = collection.rpartition("/")
    is_single = parent.count("/") % 2 == 1 and "{" not in parent
    (query,) = queries_of([last if is_single else collection], (), where)
    return msgspec.structs.replace(query, parent=parent) if is_single else query


def _put_filter(one: Any, field: str, operator: str, value: Any, root: str) -> None:
    kind = "NaN" if value == {"doubleValue": "NaN"} else value
    unary = _UNARY.get((operator, kind)) if kind is None or kind == "NaN" else None
    if unary is not None:
        one.unary_filter.field.field_path, one.unary_filter.op = field, unary
        return
    one.field_filter.field.field_path, one.field_filter.op = field, _FIELD_OPERATORS[operator]
    put_value(one.field_filter.value, value, root)


def put_order(structured: Any) -> None:
    """Orders a `StructuredQuery` by document names."""
    order = structured.order_by.add()
    order.field.field_path, order.direction = "__name__", _ASCENDING


def put_cursor(cursor: Any, name: str, *, is_before: bool) -> None:
    """Sets a cursor just before or just after a document's full name."""
    cursor.values.add().reference_value = name
    cursor.before = is_before


def queries_of(
    patterns: Sequence[str], select: Sequence[Field] = (), where: Sequence[tuple[Field, str, Any]] = ()
) -> list[Query]:
    """Returns the queries that read some collections: one for each last segment.

    Args:
        patterns: The collections, as models declare them.
        select: The fields to read; empty for all.
        where: Filters: field, operator, Python value.

    Raises:
        UsageError: A pattern, a field or an operator is invalid.
    """
    for text in patterns:
        if problem := CollectionPattern(text).problem():
            raise UsageError(
                f"{text!r}: expected a collection (users, rooms/{{room}}/messages, **/comments), got {problem}; "
                "fix: write it as in a model's collection="
            )
    for field, operator, _ in where:
        if operator not in _FIELD_OPERATORS:
            raise UsageError(
                f"where {field!r}: expected one of {' '.join(_FIELD_OPERATORS)}, got {operator!r}; fix: write one"
            )
    named: dict[str, list[str]] = {}
    for text in dict.fromkeys(patterns):
        named.setdefault(CollectionPattern(text).segments[-1], []).append(text)
    filters = tuple((field_path(field), operator, to_wire(value)) for field, operator, value in where)
    fields = tuple(map(field_path, select))
    return [Query(last, tuple(some), fields, filters) for last, some in named.items()]

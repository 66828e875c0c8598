"""Which queries read some collections, in protobuf: pure.

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
"""A field by its stored name, exactly as it is written; one within maps by a tuple of names."""

_FIELD_OPERATORS = {
    "<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "!=": 6, "array-contains": 7, "in": 8, "array-contains-any": 9,
    "not-in": 10,
}  # fmt: skip
_COMPARING = frozenset(["<", "<=", ">", ">=", "!=", "not-in"])
_AND, _ASCENDING = 1, 1
_UNARY = {("==", "NaN"): 2, ("==", None): 3, ("!=", "NaN"): 4, ("!=", None): 5}


class Query(msgspec.Struct, frozen=True, dict=True):
    """All documents of collections that end in one segment.

    Attributes:
        collection_id: The last segment.
        patterns: The collections: one top-level collection is read as such, all else as a collection group, of which
            a server gives (and bills) the documents of other collections of that name, too.
        select: The fields to read, as `field_path` writes them; empty for all.
        where: Filters, all of which must hold: field, likewise, operator as Google's clients write it, value as parsed
            JSON.
        parent: The document that a single subcollection belongs to.
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
        """Whether it asks for a collection group."""
        return not self.parent and not all(pattern.is_flat for pattern in self._parsed)

    @cached_property
    def is_by_name(self) -> bool:
        """Whether its documents come in the order of their names: a filter that compares demands another one."""
        return _COMPARING.isdisjoint(operator for _, operator, _ in self.where)

    @cached_property
    def name(self) -> str:
        """Its patterns, for messages and positions."""
        return ",".join(sorted(self.patterns))

    def holds(self, path: str) -> bool:
        """Whether a document that it gave, or whose name came from elsewhere, is of its collections."""
        return any(pattern.match(path) is not None for pattern in self._parsed)

    def put(self, structured: Any) -> None:
        """Writes it into a `StructuredQuery`, without filters and order."""
        source = structured.from_.add()
        source.collection_id, source.all_descendants = self.collection_id, self.is_group
        for field in self.select:
            structured.select.fields.add().field_path = field

    def put_where(self, structured: Any, root: str) -> None:
        """Writes its filters; `root` stands before the paths of references."""
        if self.where:
            every = structured.where.composite_filter
            every.op = _AND
            for field, operator, value in self.where:
                _put_filter(every.filters.add(), field, operator, value, root)


_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def field_path(field: Field) -> str:
    r"""A field as Firestore's queries name it: a name that is not simple stands in backquotes.

    Source: https://firebase.google.com/docs/firestore/reference/rest/v1/StructuredQuery#fieldreference

    Raises:
        UsageError: It is no name.

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
    """The query for documents of one collection, given by its pattern, or by its path (`rooms/r1/messages`).

    Raises:
        UsageError: A pattern or an operator is none.
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
    """Orders a `StructuredQuery` by the documents' names."""
    order = structured.order_by.add()
    order.field.field_path, order.direction = "__name__", _ASCENDING


def put_cursor(cursor: Any, name: str, *, is_before: bool) -> None:
    """Sets a cursor to just before or just behind a document's full name."""
    cursor.values.add().reference_value = name
    cursor.before = is_before


def queries_of(
    patterns: Sequence[str], select: Sequence[Field] = (), where: Sequence[tuple[Field, str, Any]] = ()
) -> list[Query]:
    """The queries that read some collections: as few as there are last segments.

    Args:
        patterns: The collections, as models declare them.
        select: The fields to read; empty for all.
        where: Filters: field, operator, value as Python has it.

    Raises:
        UsageError: A pattern, a field or an operator is none.
    """
    for text in patterns:
        if problem := CollectionPattern(text).problem():
            raise UsageError(
                f"{text!r}: expected a collection (users, rooms/{{room}}/messages, **/comments), got {problem}; "
                "fix: write it as a model's collection= is written"
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

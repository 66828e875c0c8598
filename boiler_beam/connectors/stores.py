"""The protocol of document stores: what a transaction reads and writes.

A `DocumentStore` begins attempts. An `Attempt` reads documents as of one time, and commits writes only if nothing that
it read was changed meanwhile; otherwise it raises `Conflict`, and the caller begins another attempt.

Values are in the JSON form of `boiler_beam.values`. Field names are the stored ones.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, NamedTuple

from boiler_beam.connectors.field_values import FieldTransform
from boiler_beam.events import Change
from boiler_beam.values import Database, format_timestamp

__all__ = [
    "Attempt",
    "DocumentStore",
    "FieldNames",
    "Filter",
    "Precondition",
    "Write",
    "masked",
    "matches",
    "put_at",
    "written_fields",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FieldNames = tuple[str, ...]
"""A field within maps, from the outermost: `("address", "city")`."""
Filter = tuple[str, str, Any]
"""A field's stored name, an operator, and a Firestore value or a list of them: as in `KeyedSource.query`."""


class Precondition(NamedTuple):
    """What must be so for a write to be made.

    Attributes:
        exists: Whether the document exists; None: it does not matter.
        version: Its version in microseconds; None: any.
    """

    exists: bool | None = None
    version: int | None = None


_ANY = Precondition()


@dataclass(frozen=True)
class Write:
    """One write of a transaction.

    Attributes:
        path: The document's path.
        fields: The values of the fields in `mask`, nested in maps as they are stored; None deletes the document.
        mask: The fields to set; those that are not in `fields` are removed. None: the document is replaced.
        transforms: What the store computes from the stored value, by field.
        precondition: What must be so.
    """

    path: str
    fields: Mapping[str, Any] | None
    mask: Sequence[FieldNames] | None = None
    transforms: Mapping[FieldNames, FieldTransform] = field(default_factory=dict)
    precondition: Precondition = _ANY


class Attempt(abc.ABC):
    """One attempt of a transaction."""

    @abc.abstractmethod
    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        """Yields the documents at some paths; a deletion for each missing one."""

    @abc.abstractmethod
    def query(self, collection: str, filters: Sequence[Filter]) -> Iterator[Change]:
        """Yields the documents of a collection (a pattern or a path) that match all filters."""

    @abc.abstractmethod
    def commit(self, writes: Sequence[Write]) -> dict[str, int]:
        """Makes all writes, or none; returns the version of each written document, by path.

        Raises:
            Conflict: Something that was read has changed, or a precondition is not met.
            UnknownOutcome: It can't be known whether they were made.
            BoilerBeamError: They can't be made.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the attempt; without `commit` nothing is written."""


class DocumentStore(abc.ABC):
    """Documents that transactions read and write.

    Attributes:
        uri: The URI, for messages.
        database: The database of its documents.
    """

    scheme: ClassVar[str]
    uri: str
    database: Database

    @abc.abstractmethod
    def __init__(self, rest: str) -> None:
        """Creates it from the part of the URI after `scheme:`; nothing is opened yet."""

    @abc.abstractmethod
    def begin(self) -> Attempt:
        """Begins an attempt.

        Raises:
            UsageError: The store can't be opened.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Closes connections."""


_NOTHING: Any = object()


def written_fields(before: Mapping[str, Any] | None, write: Write, version: int) -> dict[str, Any] | None:
    """Returns the fields of a document after a write; None if it is deleted.

    Args:
        before: Its fields before; None if there was no document.
        write: The write.
        version: The time of the write in microseconds since the epoch, for `SERVER_TIME`.
    """
    if write.fields is None:
        return None
    if write.mask is None:
        after = dict(write.fields)
    else:
        after = dict(before or {})
        for names in write.mask:
            put_at(after, names, _at(write.fields, names))
    time = {"timestampValue": format_timestamp(_EPOCH + timedelta(microseconds=version))}
    for names, transform in write.transforms.items():
        old = _at(after, names)
        put_at(after, names, transform.applied(None if old is _NOTHING else old, time))
    return after


def _at(fields: Mapping[str, Any], names: FieldNames) -> Any:
    value: Any = fields
    for name in names:
        if not isinstance(value, Mapping) or name not in value:
            return _NOTHING
        value = value[name]
    return value


def masked(fields: Mapping[str, Any], mask: Iterable[FieldNames]) -> dict[str, Any]:
    """Returns the masked fields that have a value.

    >>> masked({"a": {"b": 1, "c": 2}, "d": 3}, [("a", "b"), ("e",)])
    {'a': {'b': 1}}
    """
    kept: dict[str, Any] = {}
    for names in mask:
        value = _at(fields, names)
        if value is not _NOTHING:
            put_at(kept, names, value)
    return kept


def put_at(fields: dict[str, Any], names: FieldNames, value: Any = _NOTHING) -> None:
    """Sets a field within maps, which are copied; without a value it is removed."""
    first, *rest = names
    if rest:
        inner = fields.get(first)
        copied = dict(inner) if isinstance(inner, Mapping) else {}
        put_at(copied, tuple(rest), value)
        fields[first] = copied
    elif value is _NOTHING:
        fields.pop(first, None)
    else:
        fields[first] = value


def matches(fields: Mapping[str, Any], filters: Iterable[Filter]) -> bool:
    """Returns whether the fields of a document (Firestore values) match all filters.

    >>> matches({"tags": ["a", "b"], "age": 7}, [("tags", "array-contains", "a"), ("age", "in", [7, 8])])
    True
    """
    return all(name in fields and _holds(fields[name], operator, value) for name, operator, value in filters)


def _holds(found: Any, operator: str, value: Any) -> bool:
    if operator in ("==", "in"):
        return any(_is_equal(found, one) for one in (value if operator == "in" else [value]))
    if operator in ("array-contains", "array-contains-any"):
        wanted = value if operator == "array-contains-any" else [value]
        return isinstance(found, list) and any(_is_equal(one, other) for one in found for other in wanted)
    raise ValueError(f"expected ==, in, array-contains or array-contains-any, got {operator!r}")


def _is_equal(one: Any, other: Any) -> bool:
    """Compares Firestore values: numbers by value, everything else also by type."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)

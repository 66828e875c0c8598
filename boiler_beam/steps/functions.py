"""Calls users' functions of one document: whether an edge shows it, what it refers to, its groups, its values.

All that a user wrote (`where=`, `of=`, `by=`, properties) runs in here, before any state is touched: what it raises
becomes a `FunctionRaised`, which makes the document absent at that edge or aggregate (S10a).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from itertools import product
from typing import Any
from urllib.parse import quote

from boiler_beam.errors import BoilerBeamError
from boiler_beam.models import stored_value
from boiler_beam.plan import Aggregate, Group, Reference, Referrers
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.rowpath import MAX_ID_BYTES
from boiler_beam.plan.tree import Edge
from boiler_beam.raised import raised
from boiler_beam.values import Ref

__all__ = [
    "NOTHING",
    "FunctionRaised",
    "aggregated_value",
    "group_ids",
    "group_ids_of",
    "is_shown",
    "key_parts",
    "known_references",
    "references",
    "row_id",
    "targets",
]

NOTHING: Any = object()
"""The value of a document that an aggregate does not count."""


class FunctionRaised(BoilerBeamError):
    """A user's function of one document raised; the message names it and the error."""

    code = "function_raised"


class KeyTooLong(FunctionRaised):
    """A group's key, quoted, is longer than an id may be; it is handled like a function that raised."""

    code = "bad_path"


class _IdTooLong(ValueError):
    """An id is longer than Firestore takes."""


def is_shown(edge: Edge, document: Any) -> bool:
    """Whether the edge shows this document: its class fits, and `where=` does not refuse it.

    Raises:
        FunctionRaised: `where=` raised, or a property that `order_by=` names.
    """
    if not isinstance(document, edge.model):
        return False
    word, function = "where=", edge.where
    try:
        if edge.where is not None and not edge.where(document):
            return False
        word, function = "order_by=", None
        if edge.order is not None and edge.order.may_raise:
            edge.order.ranks(document)
    except Exception as error:
        raise FunctionRaised(f"{word} of {edge.name} raised {raised(error, function)}") from error
    return True


def references(edge: Reference, parent: Any) -> list[tuple[str | None, str]]:
    """The paths to which a parent document refers over this edge, in the field's order, each after its map key or None.

    Raises:
        FunctionRaised: A property in the field path raised.
    """
    try:
        return [(key, ref.path) for key, ref in edge.field.read(parent)]
    except Exception as error:
        raise FunctionRaised(f"{edge.field.text} of {edge.name} raised {raised(error)}") from error


def known_references(edge: Reference, parent: Any) -> list[tuple[str | None, str]]:
    """Like `references`, but empty if a property raised, which the document's join reports."""
    try:
        return references(edge, parent)
    except FunctionRaised:
        return []


def targets(edge: Referrers, document: Any) -> list[str]:
    """The paths of the parents that this document refers to over this edge, each once.

    Raises:
        FunctionRaised: A property in the field path raised.
    """
    try:
        found = edge.by.read(document)
        if len(found) == 1:
            return [found[0][1].path]
        return list(dict.fromkeys(ref.path for _, ref in found))
    except Exception as error:
        raise FunctionRaised(f"by= of {edge.name} raised {raised(error)}") from error


def group_ids(edge: Group, document: Any) -> dict[str, Any]:
    """The ids of the rows that this document is a member of, each with the group's key.

    Raises:
        FunctionRaised: A property in a field path raised, or a key has a type or a length that makes no id.
    """
    return group_ids_of(edge)(document)


def group_ids_of(edge: Group) -> Callable[[Any], dict[str, Any]]:
    """Returns `group_ids` of an edge, for many documents."""
    readers = [_parts_of(path) for path in edge.by]

    def ids(document: Any) -> dict[str, Any]:
        try:
            parts = [read(document) for read in readers]
            if not edge.is_tuple:
                return {row_id((key,)): key for key in parts[0]}
            return {row_id(key): key for key in product(*parts)}
        except _IdTooLong as error:
            raise KeyTooLong(f"by= of {edge.name}: {error}; fix: group by a shorter key") from error
        except Exception as error:
            raise FunctionRaised(f"by= of {edge.name} raised {raised(error)}") from error

    return ids


def key_parts(edge: Group, document: Any) -> tuple[tuple[str, ...] | None, ...]:
    """For each part of a group's key, its texts in the ids of the document's rows; None if it can't be read."""
    return tuple(_texts(path, document) for path in edge.by)


def _texts(path: FieldPath, document: Any) -> tuple[str, ...] | None:
    try:
        return tuple(map(_part, _parts_of(path)(document)))
    except Exception:  # a user's property raised: the part is unknown
        return None


def _parts_of(path: FieldPath) -> Callable[[Any], list[Any]]:
    """Returns the function that reads one part of a key; its values are checked against the annotation of the field."""
    read, annotation = path.read, path.annotation

    def parts(document: Any) -> list[Any]:
        found = [_plain(key) for _, key in read(document)]
        if annotation is str or annotation is int:
            for key in found:
                if not isinstance(key, annotation):  # "7" and 7 would give the same id
                    expected = f"{path.text} to be {annotation.__name__}, as it is annotated"
                    raise TypeError(f"expected {expected}, got {key!r}")
        return found

    if not path.holds_paths or path.is_many:
        return parts
    stored = stored_value(path.text)

    def one_path(document: Any) -> list[str]:
        ref = stored(document)
        return [] if ref is None else [ref if type(ref) is str else ref.path]

    return one_path


def _plain(key: Any) -> Any:
    """A key's value as rows get it: the path of a Ref, the value of an Enum."""
    if isinstance(key, Ref):
        return key.path
    return key.value if isinstance(key, Enum) else key


def row_id(parts: Iterable[Any]) -> str:
    """The id of the row that the parts of a group's key make.

    Raises:
        ValueError: A part is neither text nor an int, or the id is too long.

    >>> row_id(["a/b c"]), row_id([7]), row_id(["."]), row_id([""]), row_id(["a,b", 7])
    ('a%2Fb%20c', '7', '%2E', '%', 'a%2Cb,7')
    """
    text = ",".join([_quoted(part) if type(part) is str else _part(_plain(part)) for part in parts])
    if text in (".", "..") or (text.startswith("__") and text.endswith("__") and len(text) >= 4):
        text = f"%{ord(text[0]):02X}{text[1:]}"
    if len(text) > MAX_ID_BYTES:  # quoted text is ASCII
        most, size = f"{MAX_ID_BYTES:,} bytes", f"{len(text):,} bytes"
        raise _IdTooLong(
            f"expected a key that, quoted, is no longer than an id may be ({most}), got {size}: {text[:40]}..."
        )
    return text


@lru_cache(maxsize=1 << 14)
def _quoted(text: str) -> str:
    """A text as a part of an id, in ASCII; cached, because many documents have the same keys."""
    return quote(text, safe="") or "%"


def _part(key: Any) -> str:
    if isinstance(key, str):
        return _quoted(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise ValueError(f"expected text, an int, an Enum or a Ref as key, got {key!r}")


def aggregated_value(aggregate: Aggregate, document: Any) -> Any:
    """What a document adds to an aggregate: a Firestore value, or `NOTHING`.

    Raises:
        FunctionRaised: `where=` or `of=` raised, or `of=` returned what Firestore or the fold does not accept.
    """
    try:
        if aggregate.where is not None and not aggregate.where(document):
            return NOTHING
        value = aggregate.of(document)
        if value is None:
            return NOTHING
        aggregate.fold.check(value)
        return value
    except Exception as error:
        raise FunctionRaised(f"aggregate {aggregate.name} raised {raised(error)}") from error

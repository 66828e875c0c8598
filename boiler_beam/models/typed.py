r"""Fields of references and times: decoded as they are stored, then checked, a whole field at a time.

msgspec has no type for them. It could call a function for each value; that would take several times as long as the rest
of the document.

| annotation | msgspec decodes | a document holds | users read |
| --- | --- | --- | --- |
| `Ref[User]` | text or `StoredReference` | the path as text | `Ref` |
| `datetime` | `StoredTimestamp` | `datetime` | `datetime` |
| `list[Ref[User]]`, `dict[str, Ref[User]]`, `... \| None` | the same in a list or dict, or None | likewise | likewise |

A path becomes a `Ref` when the field is read. Joins read the text, with `stored_value`.
"""

from __future__ import annotations

import inspect
import operator
import re
import types
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec

from boiler_beam.models.collection import CollectionPattern
from boiler_beam.models.declare import DomainModel, ModelMeta
from boiler_beam.models.narrow import STORED
from boiler_beam.values import TYPED_NAMES, Database, Ref, parse_timestamp

__all__ = ["TypedField", "prepare_fields", "reference_hook", "stored_name_of", "stored_value", "target_of"]
__all__ += ["typed_field"]

_Finish = Callable[[Any], Any]


class StoredReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`{"referenceValue": "users/u1"}`."""

    path: str = msgspec.field(name="referenceValue")


class StoredTimestamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`{"timestampValue": "2026-01-01T00:00:00Z"}`."""

    time: str = msgspec.field(name="timestampValue")


class TypedField(NamedTuple):
    """A field that msgspec decodes as it is stored.

    Attributes:
        native: The annotation that msgspec gets.
        item: The annotation of each value: a `Ref` or `datetime`.
        container: `list`, `dict`, or None where the field is one value.
    """

    native: Any
    item: Any
    container: type | None

    @property
    def placeholder(self) -> object:
        """What msgspec accepts for the field until its value is set."""
        if self.container is not None:
            return self.container()
        return {"timestampValue": ""} if self.item is datetime else ""

    @property
    def is_reference(self) -> bool:
        """Whether its values are references."""
        return self.item is not datetime

    def finish(self, database: Database) -> _Finish:
        """Returns the function that makes what documents hold of what msgspec decoded; it raises `ValueError`."""
        if self.is_reference:
            one, several = _references(target_of(self.item), database)
        else:
            one, several = _timestamp, lambda values: list(map(_timestamp, values))
        if self.container is None:
            return one
        if self.container is list:
            return several
        return lambda values: dict(zip(_keys(values), several(values.values()), strict=True))


def typed_field(annotation: Any) -> TypedField | None:
    """Returns how a field with this annotation is decoded, if it is one of references or times."""
    inner, is_optional = annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        if len(rest) != 1:
            return None
        (inner,), is_optional = rest, True
    container = get_origin(inner) if get_origin(inner) in (list, dict) else None
    args = get_args(inner)
    item = inner if container is None else args[-1]
    if container is dict and args[0] is not str:
        return None
    if item is Ref or get_origin(item) is Ref:
        native: Any = Union[str, StoredReference]  # noqa: UP007
    elif item is datetime:
        native = StoredTimestamp
    else:
        return None
    if container is not None:
        native = list[native] if container is list else dict[str, native]
    return TypedField(Union[native, None] if is_optional else native, item, container)  # noqa: UP007


def _keys(values: dict[str, Any]) -> dict[str, Any]:
    """Checks that it is not a typed value itself, which looks like a map."""
    if len(values) == 1 and next(iter(values)) in TYPED_NAMES:
        raise ValueError("a typed value where a map was expected")
    return values


def _timestamp(stored: Any) -> datetime:
    return stored if isinstance(stored, datetime) else parse_timestamp(stored.time)


def _references(target: type[DomainModel] | None, database: Database) -> tuple[_Finish, _Finish]:
    """Returns the functions that check one stored reference, and several in a list or map: they return paths.

    Paths are not interned: looking a path up among all known ones would cost more than its memory is worth.
    """
    pattern = _paths_of(target.__boiler__.collection if target is not None else None)
    is_path = re.compile(pattern).fullmatch
    are_paths = re.compile(rf"{pattern}(?:\n{pattern})*").fullmatch

    def one(stored: Any) -> str:
        text = stored.path if type(stored) is StoredReference else stored
        if type(text) is str and is_path(text) is not None:
            return text
        if isinstance(stored, Ref):  # the field's default
            return stored.path
        if isinstance(stored, StoredReference):
            stored = Ref.at(database.relative(stored.path)) if stored.path else ""
        return _resolved(target, stored, database).path

    def several(stored: Collection[Any]) -> Collection[str]:
        try:
            text = "\n".join(stored)
        except TypeError:  # typed values, or the field's default
            return list(map(one, stored))
        if are_paths(text) is not None and text.count("\n") == len(stored) - 1:
            return stored
        return list(map(one, stored))

    return one, several


def _paths_of(pattern: CollectionPattern | None) -> str:
    """Returns a regular expression of paths of documents that need no resolving; a path of another form may, too."""
    if pattern is None:
        return r"(?!projects/)[^\n]+"
    if pattern.is_group:
        return "(?!)"
    parts = [r"[^/\n]+" if number % 2 else re.escape(one) for number, one in enumerate((*pattern.segments, ""))]
    return "/".join(parts)


class _References:
    """The attribute of a field of references: paths become `Ref` when it is read, and stay so."""

    def __init__(self, member: Any) -> None:
        self.member = member

    def __get__(self, document: DomainModel | None, owner: type) -> Any:
        if document is None:
            return self
        value = self.member.__get__(document)
        kind = type(value)
        if kind is str:
            value = Ref.at(value)
            self.member.__set__(document, value)
        elif kind is list:
            if value and type(value[0]) is str:
                value[:] = map(Ref.at, value)
        elif kind is dict and type(next(iter(value.values()), None)) is str:
            value.update(zip(value, map(Ref.at, value.values()), strict=True))
        return value

    def __set__(self, document: DomainModel, value: Any) -> None:
        self.member.__set__(document, value)


def stored_name_of(name: str) -> str:
    """Returns the attribute under which a field's value can be read and set as documents hold it."""
    return f"{name}{STORED}"


def stored_value(name: str) -> Callable[[Any], Any]:
    """Returns a reader of a field's value as documents hold it: references are paths, or `Ref` once they were read."""
    return operator.attrgetter(stored_name_of(name))


def prepare_fields(model: type[DomainModel], names: Iterable[str], references: Collection[str]) -> None:
    """Adds the attributes to a class that read its fields as users see them, and as documents hold them.

    Args:
        model: The class.
        names: All its fields.
        references: Those that hold references.
    """
    for name in names:
        known = inspect.getattr_static(model, name)
        member = known.member if isinstance(known, _References) else known
        setattr(model, stored_name_of(name), member)
        if name in references:
            setattr(model, name, _References(member))
        elif member is not known:  # a base class has references in this field
            setattr(model, name, member)


def target_of(annotation: Any) -> type[DomainModel] | None:
    """Returns the model that `Ref[User]` names; None for a plain `Ref`."""
    (target,) = get_args(annotation) or (None,)
    return target if isinstance(target, ModelMeta) else None  # type: ignore[return-value]


def reference_hook(database: Database) -> Callable[[type, Any], Any]:
    """Returns a `dec_hook` for msgspec that makes references of stored values, according to their annotation."""

    def read(kind: Any, value: Any) -> Any:
        if kind is not Ref and get_origin(kind) is not Ref:
            raise NotImplementedError(f"no value is read as {kind}")
        return _resolved(target_of(kind), value, database)

    return read


def _resolved(target: type[DomainModel] | None, value: Any, database: Database) -> Ref[Any]:
    """Returns the reference for a stored value: a Firestore reference, a resource name, a path or an id alone.

    Args:
        target: The model of the documents that it may point to; None for any.
        value: The stored value.
        database: The database whose documents are read.

    Raises:
        ValueError: The value is not a reference, or points into another collection than the target's.
    """
    if type(value) is str and value:
        ref = Ref.at(database.relative(value))
    elif isinstance(value, Ref):
        ref = value
    else:
        raise ValueError(f"expected a reference, got {value!r}")
    path = ref.relative_path
    pattern = target.__boiler__.collection if target is not None else None
    if pattern is None:
        return ref
    if pattern.is_flat:
        head, slash, tail = path.partition("/")
        if not slash:
            return Ref.at(f"{pattern.text}/{head}")
        if head == pattern.text and tail and "/" not in tail:
            return ref
    elif pattern.match(path) is not None:
        return ref
    raise ValueError(f"expected a reference into {pattern.text!r}, got {ref.path!r}")

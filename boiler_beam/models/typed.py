r"""Fields of references and times: decoded as they are stored, then made what models hold, a whole field at a time.

msgspec has no type for them. It could call a function for each value; that would take several times as long as the rest
of the document.

| annotation | msgspec decodes | models hold |
| --- | --- | --- |
| `Ref[User]` | text or `StoredReference` | `Ref` |
| `datetime` | `StoredTimestamp` | `datetime` |
| `list[Ref[User]]`, `dict[str, Ref[User]]`, `... \| None` | the same in a list or dict, or None | the same |
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec

from boiler_beam.models.declare import DomainModel, ModelMeta
from boiler_beam.values import TYPED_NAMES, Database, Ref, parse_timestamp

__all__ = ["TypedField", "reference_hook", "target_of", "typed_field"]

_REFERENCES_KEPT = 1 << 17
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

    def finish(self, database: Database) -> _Finish:
        """Returns the function that makes what models hold of what msgspec decoded; it raises `ValueError`."""
        if self.item is datetime:
            one: _Finish = _timestamp
        else:
            one = _KnownReferences(target_of(self.item), database).__getitem__
        if self.container is None:
            return one
        if self.container is list:
            return lambda values: list(map(one, values))
        return lambda values: dict(zip(_keys(values), map(one, values.values()), strict=True))


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


class _KnownReferences(dict[Any, Ref[Any]]):
    """The references of one field by their stored values: many documents refer to the same one."""

    def __init__(self, target: type[DomainModel] | None, database: Database) -> None:
        super().__init__()
        pattern = target.__boiler__.collection if target is not None else None
        self._target, self._database = target, database
        self._prefix = f"{pattern.text}/" if pattern is not None and pattern.is_flat else "\0"

    def __missing__(self, stored: Any) -> Ref[Any]:
        if isinstance(stored, Ref):  # the field's default
            return stored
        is_text, prefix = type(stored) is str, self._prefix
        path = stored if is_text else stored.path
        if path.startswith(prefix) and path.count("/") == 1 and len(path) > len(prefix):  # most are so
            ref = Ref.at(sys.intern(path))
        else:
            value = path if is_text or not path else Ref.at(self._database.relative(path))
            ref = _resolved(self._target, value, self._database)
        if len(self) >= _REFERENCES_KEPT:
            self.clear()
        self[stored] = ref
        return ref


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

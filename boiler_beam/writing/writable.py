"""Documents that can be assigned to: copies of frozen documents, and what was changed in them.

>>> import boiler_beam as bb
>>> class Address(bb.Struct):
...     city: str
...     zip_code: str
>>> class User(bb.DomainModel, collection="users"):
...     first_name: str
...     address: Address
>>> user = writable(User(path="users/u1", first_name="Ann", address=Address(city="Rome", zip_code="1")))
>>> before = stored_values(user)
>>> user.address.city = "Bern"
>>> changes(before, stored_values(user))
{('address', 'city'): 'Bern'}
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from boiler_beam.connectors.field_values import DELETE_FIELD, FieldTransform
from boiler_beam.connectors.stores import FieldNames
from boiler_beam.models import DomainModel, Struct, wire_of
from boiler_beam.models.codec import stored_fields
from boiler_beam.models.declare import ModelMeta
from boiler_beam.values import is_typed, to_wire_map

__all__ = ["changes", "model_of", "stored_values", "writable"]

T = TypeVar("T")


@functools.cache
def _writable_class(model: ModelMeta) -> ModelMeta:
    """Returns the subclass whose instances can be assigned to; it is not a model of its own."""
    namespace = {
        "__module__": model.__module__,
        "__qualname__": model.__qualname__,
        "__doc__": model.__doc__,
        "__boiler_writable__": True,
    }
    return type(model)(model.__name__, (model,), namespace, frozen=False)


def model_of(document: DomainModel) -> type[DomainModel]:
    """Returns the declared class of a document, also if it can be assigned to."""
    kind = type(document)
    return kind.__mro__[1] if "__boiler_writable__" in vars(kind) else kind


def writable(value: T) -> T:
    """Returns a copy of a document, struct, list or dict that can be assigned to, at any depth."""
    kind: Any = type(value)
    if isinstance(kind, ModelMeta):
        cls: Any = kind if "__boiler_writable__" in vars(kind) else _writable_class(kind)
        fields = {name: writable(getattr(value, name)) for name in kind.__struct_fields__}
        return cls(**fields)  # type: ignore[no-any-return]
    if kind is list:
        return [writable(item) for item in value]  # type: ignore[attr-defined, return-value]
    if kind is dict:
        return {key: writable(item) for key, item in value.items()}  # type: ignore[attr-defined, return-value]
    return value


def stored_values(document: DomainModel) -> dict[str, Any]:
    """Returns the fields of a document by their stored names, in JSON form; values that a store computes stay."""
    return _values(document, *stored_fields(type(document), "camel"))


def _values(value: Any, case: str, rows: Any) -> dict[str, Any]:
    found = {}
    for key, stored, encode in rows:
        item = getattr(value, key)
        is_encoded = encode is None or isinstance(item, FieldTransform)
        found[stored] = _value(item if is_encoded else encode(item), case)
    return found


def _value(value: Any, case: str) -> Any:
    kind: Any = type(value)
    if kind is FieldTransform:
        return value
    if isinstance(value, (Struct, DomainModel)):
        fields = _values(value, *stored_fields(kind, case))
        return fields if len(fields) != 1 else to_wire_map(fields, lambda item: item)
    if kind is dict:
        return to_wire_map(value, lambda item: _value(item, case))
    return wire_of(value, case)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[FieldNames, Any]:
    """Returns the fields that differ, with their new values; `DELETE_FIELD` for one that is no longer there.

    Maps are compared field by field, so that fields in them that no model knows stay.
    """
    found: dict[FieldNames, Any] = {}
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            found[(name,)] = DELETE_FIELD
        elif name not in before:
            found[(name,)] = after[name]
        elif _differ(before[name], after[name]):
            old, new = before[name], after[name]
            if _is_map(old) and _is_map(new):
                found |= {(name, *names): value for names, value in changes(old, new).items()}
            else:
                found[(name,)] = new
    return found


def _is_map(value: Any) -> bool:
    return type(value) is dict and bool(value) and not is_typed(value)


def _differ(one: Any, other: Any) -> bool:
    """Compares JSON values by type and value: 1 and 1.0 and True differ."""
    if type(one) is not type(other):
        return True
    if type(one) is FieldTransform:
        return bool(one != other)
    return msgspec.json.encode(_plain(one)) != msgspec.json.encode(_plain(other))


def _plain(value: Any) -> Any:
    """Replaces values that a store computes by their description, so that they can be compared."""
    if type(value) is FieldTransform:
        return ["", value.kind, value.operand]
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if type(value) is list else value

"""Documents with only some of their fields (`only=` on an edge): reading another field raises an error that says so."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import msgspec

__all__ = ["Narrowed", "Partial", "known_fields", "narrow_fields"]

STORED = ":stored"
"""Behind the name of a field: its value as documents hold it (`boiler_beam.models.stored_value`)."""
_ALWAYS = frozenset({"path", "version", "doc_id"})


class Partial(SimpleNamespace):
    """Some fields of a document, as attributes, with `path`, `version`, `doc_id` and its path fields.

    Properties and methods of its class work if they need only these fields; otherwise they raise `AttributeError`.

    Attributes:
        model__: The document's class.
        is_class_known__: Whether the class is certain; it is not if `obj_type` can't be decoded.
    """

    model__: type[msgspec.Struct]
    is_class_known__: bool = True

    def __getattr__(self, name: str) -> Any:
        model = self.__dict__["model__"]
        if name.endswith(STORED):  # values of partial documents are held in one way
            return getattr(self, name.removesuffix(STORED))
        described = inspect.getattr_static(model, name, None)
        if not name.startswith("__") and name not in model.__struct_fields__ and described is not None:
            return described.__get__(self, model) if hasattr(described, "__get__") else described
        raise AttributeError(f"{model.__name__}.{name} can't be read of this document")


class Narrowed:
    """A document as getters see it over an edge with `only=`: these fields, and properties that need only these fields.

    Args:
        document: A model, or a `Partial` of one.
        edge: The edge's name.
        only: The fields that may be read, in addition to path fields.
    """

    __slots__ = ("_document", "_edge", "_model", "_only")

    def __init__(self, document: Any, edge: str, only: tuple[str, ...]) -> None:
        self._document, self._edge, self._only = document, edge, only
        self._model: type[msgspec.Struct] = document.model__ if isinstance(document, Partial) else type(document)

    def __getattr__(self, name: str) -> Any:
        described = getattr(self._model, name, None)
        if isinstance(described, property) and described.fget is not None and name not in _ALWAYS:
            return described.fget(self)
        if name in self._only or name in _ALWAYS:
            return getattr(self._document, name)
        if name in self._model.__struct_fields__:
            raise AttributeError(
                f"{self._model.__name__}.{name} was read over the edge {self._edge}, whose only= lacks it: add {name!r}"
            )
        raise AttributeError(f"{self._model.__name__} has no {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Narrowed) and (self._document.path, self._edge) == (other._document.path, other._edge)

    def __hash__(self) -> int:
        return hash((self._document.path, self._edge))

    def __repr__(self) -> str:
        return f"{self._model.__name__}({self._document.path!r}, only={self._only})"


def known_fields(narrowed: Narrowed) -> tuple[type[msgspec.Struct], tuple[str, ...]]:
    """Returns the class of a narrowed document, and the fields that may be read."""
    return narrowed._model, narrowed._only


_read = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def narrow_fields(fields: bytes, names: frozenset[str]) -> bytes:
    """Returns the JSON of only those fields that have these stored names.

    >>> narrow_fields(b'{"a": 1, "b": {"c": 2}}', frozenset({"b"}))
    b'{"b":{"c": 2}}'
    """
    return msgspec.json.encode({name: value for name, value in _read(fields).items() if name in names})

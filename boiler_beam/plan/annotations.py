"""Checks the annotations of `key` and of aggregates in a view. They are optional, and type checkers rely on them.

>>> matches(int, float), matches(int, str), matches(str | None, str), matches(Any, str)
(True, False, False, True)
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from boiler_beam.plan.fieldpath import FieldError, FieldPath, field_path
from boiler_beam.plan.tree import Edge, Group
from boiler_beam.values import GeoPoint, Ref
from boiler_beam.views import ViewModel
from boiler_beam.views.aggregate import AggregateDeclaration

__all__ = ["annotation_mistakes", "matches", "shown"]

_PLAIN = (str, int, float, bool, bytes, datetime, GeoPoint)
"""The types of values that a row holds as a document has them."""


def annotation_mistakes(
    view: type[ViewModel], edges: Mapping[str, Edge], aggregates: Sequence[AggregateDeclaration]
) -> list[tuple[str, str, str, str]]:
    """Returns the mistakes in the annotations of a view, each as where, expected, got, fix.

    Args:
        view: The class.
        edges: Its compiled edges.
        aggregates: Its declared aggregates. Those over an unknown edge are left out; they are another mistake.
    """
    root = next((edge for edge in edges.values() if edge.parent is None), None)
    known = {} if root is None else {"key": _key_type(root)}
    known |= {one.name: _type_of(one, edges[one.edge].model) for one in aggregates if one.edge in edges}
    mistakes = []
    for name, actual in known.items():
        try:
            annotation = _written(view, name)
        except (NameError, TypeError) as error:
            fix = "define the named class at module level"
            mistakes.append((name, "an annotation that can be resolved", str(error), fix))
            continue
        if not matches(actual, annotation):
            fix = "annotate it so, or remove the annotation"
            mistakes.append((name, f"the annotation {shown(actual)}", shown(annotation), fix))
    return mistakes


def _written(view: type[ViewModel], name: str) -> Any:
    """Returns the annotation of an attribute of a view, or of its bases; `Any` if there is none.

    Raises:
        NameError: A name in the annotation is not defined.
        TypeError: The annotation is not a type.
    """
    for base in view.__mro__:
        if base is ViewModel:
            break
        annotation = base.__dict__.get("__annotations__", {}).get(name)
        if annotation is not None:
            holder = types.SimpleNamespace(__annotations__={name: annotation})
            known = {**vars(base), **vars(sys.modules.get(base.__module__, holder))}
            return get_type_hints(holder, globalns=known)[name]
    return Any


def _key_type(root: Edge) -> Any:
    """Returns the type of `self.key`: text for a root's id, for a group that of its `by=`."""
    if not isinstance(root, Group):
        return str
    parts = tuple(_key_part(path.annotation) for path in root.by)
    return tuple[parts] if root.is_tuple else parts[0]  # type: ignore[valid-type]


def _key_part(annotation: Any) -> Any:
    """Returns the type of one part of a key: the path of a `Ref`, the value of an Enum."""
    if annotation is Ref or get_origin(annotation) is Ref:
        return str
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return type(next(iter(annotation)).value)
    return annotation


def _type_of(declared: AggregateDeclaration, model: type) -> Any:
    """Returns the type of an aggregate; `Any` for what neither its kind nor the field that `of=` names says."""
    of = _value_type(model, declared.of)
    match declared.kind:
        case "count" | "count_distinct":
            return int
        case "mean":
            return float | None
        case "sum":
            return of if of in (int, float) else Any
        case "min" | "max":
            return Any if of is Any else of | None
        case "collect" | "top":
            return list[dict[str, Any]] if declared.of is None else list[of]  # type: ignore[valid-type]
    return Any


def _value_type(model: type, of: Any) -> Any:
    if not isinstance(of, str):
        return Any
    try:
        path: FieldPath = field_path(model, of)
    except FieldError:  # reported where the field is read
        return Any
    kind = path.annotation
    is_known = kind in _PLAIN or kind is Ref or get_origin(kind) is Ref
    return kind if is_known and not path.is_many else Any


def matches(actual: Any, annotation: Any) -> bool:
    """Returns whether an annotation includes every value of a type; `Any` matches every type."""
    if annotation in (Any, object) or actual is Any:
        return True
    if get_origin(actual) in (Union, types.UnionType):
        return all(matches(one, annotation) for one in get_args(actual))
    if get_origin(annotation) in (Union, types.UnionType):
        return any(matches(actual, one) for one in get_args(annotation))
    if get_origin(actual) is Literal and get_origin(annotation) is not Literal:
        return all(matches(type(value), annotation) for value in get_args(actual))
    if actual is int and annotation is float:
        return True
    origin, wanted = get_origin(actual) or actual, get_origin(annotation) or annotation
    if not (isinstance(origin, type) and isinstance(wanted, type)):
        return bool(actual == annotation)
    if not issubclass(origin, wanted):
        return False
    given, asked = get_args(actual), get_args(annotation)
    if origin is not wanted or not asked or not given or origin is Ref:
        return True
    if origin is tuple and len(asked) == 2 and asked[1] is Ellipsis:
        return all(matches(one, asked[0]) for one in given)
    return len(given) == len(asked) and all(map(matches, given, asked))


def shown(annotation: Any) -> str:
    """Returns an annotation as it is written in source code."""
    if annotation in (None, type(None)):
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return str(getattr(annotation, "__name__", annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(map(shown, args))
    inner = ", ".join(map(repr if origin is Literal else shown, args))
    return f"{'Literal' if origin is Literal else origin.__name__}[{inner}]"

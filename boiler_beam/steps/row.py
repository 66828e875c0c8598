"""A row: from what its edges reached to the fields that are stored (S4, S6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from boiler_beam.errors import RenderError
from boiler_beam.models import DomainModel, wire_of
from boiler_beam.plan import Fixed, Reference, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import references
from boiler_beam.steps.size import check_size

__all__ = ["is_missing", "render", "store_value"]

Reached = Mapping[str, DomainModel]
_encode = msgspec.json.Encoder(order="deterministic").encode


def is_missing(edge: Edge, reached: Reached) -> bool:
    """Whether a row can't exist because this edge reached nothing: it is required, to one document."""
    return isinstance(edge, (Reference, Fixed)) and edge.is_required and not reached


def store_value(edge: Edge, reached: Reached, parents: Callable[[], Reached]) -> Any:
    """What a getter reads of an edge: one document or None, or a dict of documents.

    The dict's order: that of the list or map that holds the references where one document holds them all, else by path.

    Args:
        edge: The edge.
        reached: The documents that it reached, by path.
        parents: The documents that its parent edge reached.
    """
    if not edge.is_many:
        return next(iter(reached.values()), None)
    if edge.keyed_by == "map":
        assert isinstance(edge, Reference)
        (parent,) = parents().values()
        return {key: reached[path] for key, path in references(edge, parent) if path in reached}
    paths: Any = sorted(reached)
    if isinstance(edge, Reference) and len(reached) > 1:
        holders = parents()
        if len(holders) == 1:
            (parent,) = holders.values()
            paths = [path for path in dict.fromkeys(path for _, path in references(edge, parent)) if path in reached]
    if edge.keyed_by == "path":
        return {path: reached[path] for path in paths}
    return {path[path.rfind("/") + 1 :]: reached[path] for path in paths}


def render(
    view: ViewPlan,
    path: str,
    key: Any,
    reached: Callable[[str], Reached],
    aggregate: Callable[[int], Any],
) -> bytes:
    """Runs the getters of one row.

    Args:
        view: The view.
        path: The row's path.
        key: The group's key, or the root's id.
        reached: The documents that an edge reached, by the edge's name.
        aggregate: The value of an aggregate, by its place in the plan.

    Returns:
        The row's fields as canonical JSON bytes.

    Raises:
        RenderError: A getter raised, or returned what Firestore has no type for; or the row is too large.
    """
    edges = view.by_name

    def reach(name: str) -> Any:
        edge = edges[name]
        if not edge.is_read:
            raise RuntimeError(
                f"store.{name} was read where no getter was seen to read it: read it as self.store.{name}"
            )
        return store_value(edge, reached(name), lambda: reached(edge.parent) if edge.parent else {})

    def find(wanted: str) -> DomainModel | None:
        for name in edges:
            if (found := reached(name).get(wanted)) is not None:
                return found
        return None

    store_class = view.model.declared_store()
    assert store_class is not None
    row = view.model.__new__(view.model)
    row.__dict__.update(
        store=store_class(reach, find),
        key=key,
        path=path,
        doc_id=path[path.rfind("/") + 1 :],
        _aggregate=lambda name: aggregate(view.aggregate_places[name]),
    )
    fields = {}
    name = ""
    try:
        for name, stored in view.properties:
            value = getattr(row, name)
            if name[0] != "_":
                fields[stored] = wire_of(value, view.case)
        encoded = _encode(fields)
    except Exception as error:  # a user's getter: whatever it raises, the row that stands stays (S6)
        where = f"{view.name}.{name}"
        code = "getter_raised"
        raise RenderError(code, f"{where} raised {type(error).__name__}: {error}") from error
    check_size(view.name, path, encoded)
    return encoded

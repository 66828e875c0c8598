"""Renders a row: calls its getters with the documents that it has over its edges, for each of its copies (S4, S6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from boiler_beam.compare import path_key
from boiler_beam.errors import RenderError
from boiler_beam.events import DeadLetter
from boiler_beam.models import STORED_AS_THEY_ARE, DomainModel, Narrowed, wire_of
from boiler_beam.plan import Group, Reference, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.raised import place, raised
from boiler_beam.steps.functions import known_references
from boiler_beam.steps.size import check_size
from boiler_beam.views import ViewModel
from boiler_beam.views.view import CopyOfRow
from boiler_beam.views.visibility import named

__all__ = ["Copy", "render", "store_value"]

Documents = Mapping[str, DomainModel]
_encode = msgspec.json.Encoder(order="deterministic").encode


def store_value(edge: Edge, documents: Documents, parents: Callable[[], Documents]) -> Any:
    """What a getter reads of an edge: one document or None, or a dict of documents.

    The dict's order: `order_by`, else that of the list or map that holds the references where one document holds them
    all, else by path.

    Args:
        edge: The edge.
        documents: The documents that a row has over it, by path.
        parents: Those that the row has over its parent edge.
    """
    if edge.only is not None:
        shown: Documents = {path: Narrowed(one, edge.name, edge.only) for path, one in documents.items()}  # type: ignore[misc]
    else:
        shown = documents
    if not edge.is_many:
        return next(iter(shown.values()), None)
    paths: Any = sorted(documents, key=path_key)
    if edge.order is not None:
        paths = [one.path for one in edge.order.first(documents.values())]
    elif isinstance(edge, Reference) and edge.field.is_many and (edge.keyed_by == "map" or len(documents) > 1):
        holders = parents()
        if len(holders) == 1:
            (parent,) = holders.values()
            found = known_references(edge, parent)
            if edge.keyed_by == "map":
                return {key: shown[path] for key, path in found if path in documents}
            paths = [path for path in dict.fromkeys(path for _, path in found) if path in documents]
    if edge.keyed_by == "path":
        return {path: shown[path] for path in paths}
    return {path[path.rfind("/") + 1 :]: shown[path] for path in paths}


class Copy(NamedTuple):
    """One copy of a row.

    Attributes:
        path: Its path; where it is unknown which copies there are, the wildcard of their paths (`RowPath.wildcard`).
        fields: Its fields as canonical JSON bytes; None where they are unknown, so that the current row stays.
        tainted_by: The invalid documents that may belong to the row; its fields are computed without them (S5).
    """

    path: str
    fields: bytes | None
    tainted_by: tuple[str, ...] = ()

    @property
    def is_wildcard(self) -> bool:
        """Whether its path is a wildcard, which represents all copies of a row."""
        return "//" in self.path or self.path[-1] == "/"


def render(
    view: ViewPlan,
    row_id: str,
    group_key: Any,
    documents_of: Callable[[str], Documents],
    aggregate: Callable[[int], Any],
    refuse: Callable[[DeadLetter], None],
    value: Callable[[str], Any] | None = None,
) -> list[Copy]:
    """Runs the getters of one row, for each of its copies.

    Args:
        view: The view.
        row_id: The row's id.
        group_key: The group's key, of a tuple also as a list; not used if the view has a root, whose id is the key.
        documents_of: Returns the documents that the row has over an edge, by the edge's name.
        aggregate: Returns the value of an aggregate, by its index in the view.
        refuse: Takes a dead letter if a getter or `paths()` raised or returned what Firestore has no type for, or if a
            copy has no path or is too large.
        value: Returns what a getter reads of an edge; None: `store_value` of these documents.
    """
    if isinstance(view.root, Group):
        key = tuple(group_key) if view.root.is_tuple else group_key
    else:
        key = row_id[row_id.rfind("/") + 1 :]
    row = _row(view, key, documents_of, aggregate, value or partial(_value, view, documents_of))
    rendering = _Rendering(view, row_id, row, refuse)
    try:
        if not view.has_paths:
            return [rendering.copy(view.paths.fill(row_id))]
        return [rendering.copy(path) for path in rendering.paths()]
    except _Raised as raised:
        placeholders = {name: f"{{{name}}}" for name in view.paths.given}
        rendering.refuse(raised, view.paths.fill(row_id, placeholders))
        return [Copy(view.paths.wildcard(row_id), None)]


class _Raised(Exception):
    """A row, or one copy of it, could not be computed.

    Attributes:
        code: The dead letter's code.
        is_shared: Whether all copies fail alike: what failed does not read `self.at`.
    """

    def __init__(self, code: str, message: str, *, is_shared: bool = True) -> None:
        super().__init__(message)
        self.code, self.is_shared = code, is_shared


def _read(view: ViewPlan, value: Callable[[str], Any], name: str) -> Any:
    """What a getter reads of an edge, if the plan saw that a getter reads it."""
    if name in view.unread:
        raise RuntimeError(f"store.{name} was read where no getter was seen to read it: read it as self.store.{name}")
    return value(name)


def _value(view: ViewPlan, documents_of: Callable[[str], Documents], name: str) -> Any:
    edge = view.by_name[name]
    return store_value(edge, documents_of(name), lambda: documents_of(edge.parent) if edge.parent else {})


def _find(view: ViewPlan, documents_of: Callable[[str], Documents], wanted: str) -> Any:
    """The document at a path over any edge; over one with `only=`, if no other edge reaches it."""
    narrowed = None
    for name, edge in view.by_name.items():
        if (found := documents_of(name).get(wanted)) is not None:
            if edge.only is None:
                return found
            narrowed = narrowed or Narrowed(found, name, edge.only)
    return narrowed


def _row(
    view: ViewPlan,
    key: Any,
    documents_of: Callable[[str], Documents],
    aggregate: Callable[[int], Any],
    value: Callable[[str], Any],
) -> ViewModel:
    """Creates the object on which the getters of one row run."""
    row = view.model.__new__(view.model)
    row.__dict__.update(
        store=view.store(partial(_read, view, value) if view.unread else value, partial(_find, view, documents_of)),
        key=key,
        _copy=CopyOfRow(view.paths.at),
        _aggregate=lambda name: aggregate(view.aggregate_indexes[name]),
    )
    return row


class _Rendering:
    """The copies of one row; what is the same in all of them is computed for the first."""

    def __init__(self, view: ViewPlan, row_id: str, row: ViewModel, refuse: Callable[[DeadLetter], None]) -> None:
        self.view, self.row_id, self.row, self._refuse = view, row_id, row, refuse
        self._reported: set[tuple[str, str]] = set()
        self.copy_of_row: CopyOfRow = row.__dict__["_copy"]
        self.shared: dict[str, Any] = {}
        self.encoded: bytes | None = None

    def refuse(self, raised: _Raised, path: str) -> None:
        """Reports a failure once, where several copies fail alike."""
        if (path, str(raised)) not in self._reported:
            self._reported.add((path, str(raised)))
            self._refuse(DeadLetter(stage="render", code=raised.code, message=str(raised), path=path))

    def named(self, what: str) -> str:
        """What failed, `Profile.name`; and in which row, where its path does not identify it."""
        return f"{self.view.name}.{what}" + ("" if self.view.paths.is_unique else f" of {self.row_id!r}")

    def paths(self) -> list[str]:
        """The path of each copy, once; those that make none are dead letters."""
        view, row_id, found = self.view, self.row_id, dict[str, None]()
        where = self.named("paths")
        try:
            for number, yielded in enumerate(self.row.paths()):  # type: ignore[attr-defined]
                if number >= view.max_paths:
                    message = f"{where}: expected at most {view.max_paths:,} copies, got more; fix: raise max_paths="
                    raise _Raised("too_many_paths", message)
                try:
                    found[view.paths.fill(row_id, view.paths.yielded(where, yielded))] = None
                except RenderError as error:
                    if error.code != "bad_path":
                        message = f"{error}{place(error, view.model.declared_method('paths'))}"
                        raise _Raised(error.code, message) from error
                    self.refuse(_Raised(error.code, str(error)), view.paths.wildcard(row_id))
        except _Raised:
            raise
        except Exception as error:  # a user's method: whatever it raises, the current rows stay (S6)
            raise _Raised(
                "getter_raised", f"{where} raised {raised(error, view.model.declared_method('paths'))}"
            ) from error
        return list(found)

    def copy(self, path: str) -> Copy:
        """One copy; where it alone fails, a dead letter and no fields."""
        self.copy_of_row.path = path
        try:
            return Copy(path, self._encoded(path))
        except _Raised as raised:
            if raised.is_shared:
                raise
            self.refuse(raised, path)
            return Copy(path, None)

    def _encoded(self, path: str) -> bytes:
        if self.encoded is not None:
            return self.encoded
        copy = self.copy_of_row
        fields = self._fields()
        try:
            encoded = _encode(fields)
            check_size(self.view.name, path, encoded)
        except RenderError as error:
            raise _Raised(error.code, str(error), is_shared=copy.reads == 0) from error
        except Exception as error:
            raise _Raised("getter_raised", f"{self.view.name}: {error}", is_shared=copy.reads == 0) from error
        if copy.reads == 0:
            self.encoded = encoded
        return encoded

    def _fields(self) -> dict[str, Any]:
        view, row, copy, shared = self.view, self.row, self.copy_of_row, self.shared
        fields, case, visibility = {}, view.case, view.visibility
        for name, stored in view.fields:
            if name in shared:
                wire = shared[name]
            else:
                reads = copy.reads
                try:
                    value = getattr(row, name)
                    if type(value) in STORED_AS_THEY_ARE:
                        wire = value
                    else:
                        wire = wire_of(named(value()) if name in visibility else value, case)
                except Exception as error:  # a user's getter: whatever it raises, the current row stays (S6)
                    found = getattr(view.model, name)
                    message = f"{self.named(name)} raised {raised(error, getattr(found, 'getter', found))}"
                    raise _Raised("getter_raised", message, is_shared=copy.reads == reads) from error
                if copy.reads == reads:
                    shared[name] = wire
            if stored is not None:
                fields[stored] = wire
        return fields

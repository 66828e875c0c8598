"""Compiles edges: checks their models, fields, parents and annotations."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, get_args, get_origin

from boiler_beam.models import DomainModel, base_model
from boiler_beam.models.declare import ModelMeta
from boiler_beam.plan.annotations import shown
from boiler_beam.plan.fieldpath import FieldError, FieldPath, field_path
from boiler_beam.plan.ordering import ordering
from boiler_beam.plan.tree import Edge, Fixed, Group, Reference, Referrers, Root
from boiler_beam.values import Ref
from boiler_beam.views import EdgeDeclaration, Store

__all__ = ["EdgeCompiler", "ReportMistake"]

ReportMistake = Callable[[str, str, str, str], None]
"""Called with a mistake: where in the view, expected, got, fix."""


class EdgeCompiler:
    """Compiles the edges of one store.

    Args:
        store: The class `Store` of the view, or None.
        type_index_of: Returns the index of a model's document type in the plan.
        report: Called with each mistake.

    Attributes:
        declared: The edges as they were declared.
        edges: The compiled edges, by name.
    """

    def __init__(
        self, store: type[Store] | None, type_index_of: Callable[[type[DomainModel]], int], report: ReportMistake
    ) -> None:
        self.store, self.type_index_of, self.mistake = store, type_index_of, report
        self.declared: dict[str, EdgeDeclaration] = store.declared_edges() if store else {}
        self.edges: dict[str, Edge] = {}
        self._open: list[str] = []

    def compile(self) -> None:
        """Compiles every edge, and reports the mistakes."""
        self._check_root()
        for name in self.declared:
            self._edge(name)
        self._check_annotations()

    def _check_root(self) -> None:
        if self.store is None:
            self.mistake("", "a class Store(bb.Store) in it", "none", "declare which documents a row is made of")
            return
        roots = [name for name, one in self.declared.items() if one.kind in ("root", "group")]
        if len(roots) != 1:
            got = ", ".join(roots) if roots else "none"
            self.mistake(
                "Store", "one root(...) or group(...)", got, "declare with one edge which documents have a row"
            )

    def _edge(self, name: str) -> Edge | None:
        """Compiles an edge and its parents; returns None if there is a mistake in them."""
        if name in self.edges:
            return self.edges[name]
        declared = self.declared[name]
        if name in self._open:
            way = " -> ".join([*self._open[self._open.index(name) :], name])
            self.mistake(
                f"Store.{name}",
                "edges that lead away from the root",
                f"a cycle: {way}",
                "make one of them a child of another edge",
            )
            return None
        self._open.append(name)
        try:
            edge = self._compile_edge(name, declared)
        finally:
            self._open.pop()
        if edge is not None:
            self.edges[name] = edge
        return edge

    def _compile_edge(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        where = declared.options.get("where")
        if where is not None and not callable(where):
            self.mistake(
                f"Store.{name}",
                "where= to be a function of the document",
                repr(where),
                "write where=lambda document: ...",
            )
            return None
        if "model" in declared.options and not self._is_model(name, declared.options["model"]):
            return None
        match declared.kind:
            case "root":
                model = declared.options["model"]
                return Root(
                    name=name,
                    model=model,
                    type_index=self.type_index_of(model),
                    parent=None,
                    is_many=False,
                    where=where,
                )
            case "group":
                return self._group(name, declared)
            case "reference":
                return self._reference(name, declared)
            case "referrers":
                return self._referrers(name, declared)
            case "document":
                return self._fixed(name, declared)
        raise AssertionError(declared.kind)

    def _is_model(self, name: str, model: Any) -> bool:
        if not (isinstance(model, ModelMeta) and issubclass(model, DomainModel)):
            self.mistake(
                f"Store.{name}", "a domain model", repr(model), "pass a class that derives from bb.DomainModel"
            )
            return False
        if model.__boiler__.collection is None:
            self.mistake(
                f"Store.{name}",
                f"{model.__name__} to have a collection",
                "none",
                f'write class {model.__name__}(bb.DomainModel, collection="...")',
            )
            return False
        if model.__boiler__.collection.problem():
            self.type_index_of(model)  # reports the mistake
            return False
        return True

    def _path(self, name: str, model: type[DomainModel], text: str) -> FieldPath | None:
        try:
            return field_path(model, text)
        except FieldError as error:
            self.mistake(f"Store.{name}", error.expected, error.got, error.fix)
        except (NameError, TypeError) as error:
            self.mistake(
                f"Store.{name}",
                f"annotations of {model.__name__} that can be resolved",
                str(error),
                "define the named class at module level",
            )
        return None

    def _keyed_by(self, model: type[DomainModel]) -> typing.Literal["doc_id", "path"]:
        assert model.__boiler__.collection is not None
        return "doc_id" if model.__boiler__.collection.is_flat else "path"

    def _shows(self, name: str, declared: EdgeDeclaration, model: type[DomainModel], is_many: bool) -> dict[str, Any]:
        """Checks and compiles the options of an edge that select documents: `where`, `order_by`, `limit`, `only`."""
        options = declared.options
        order_by, limit, only = options.get("order_by"), options.get("limit"), options.get("only")
        where = f"Store.{name}"
        if not is_many and not (order_by is None and limit is None):
            word = "limit=" if order_by is None else "order_by="
            self.mistake(where, f"{word} on an edge to many documents", "an edge to one", f"leave {word} out")
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            self.mistake(where, "limit= to be an int from 1", repr(limit), "write a positive int")
        order = None
        if order_by is not None or limit is not None:
            try:
                order = ordering(model, order_by)
            except FieldError as error:
                self.mistake(where, error.expected, f"order_by={error.got}", error.fix)
        if only is not None:
            only = (only,) if isinstance(only, str) else tuple(only)
            names = [one for one in model.__struct_fields__ if one not in ("path", "version")]
            for one in only:
                if one not in names:
                    self.mistake(where, f"fields of {model.__name__} in only=", repr(one), f"name: {', '.join(names)}")
            only = tuple(sorted(set(only)))
        return {"where": options["where"], "order": order, "limit": limit, "only": only}

    def _group(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        model, by = declared.options["model"], declared.options["by"]
        is_tuple = not isinstance(by, str)
        paths = [self._key(name, model, one) for one in (by if is_tuple else (by,))]
        if not paths or any(path is None for path in paths):
            if not paths:
                self.mistake(f"Store.{name}", "by= to name a field", "an empty tuple", "name what the documents share")
            return None
        return Group(
            name=name, model=model, type_index=self.type_index_of(model), parent=None, is_many=True,
            keyed_by=self._keyed_by(model), **self._shows(name, declared, model, is_many=True),
            by=tuple(path for path in paths if path is not None), is_tuple=is_tuple,
        )  # fmt: skip

    def _key(self, name: str, model: type[DomainModel], text: str) -> FieldPath | None:
        """Compiles the field path of a group's key, or of a part of it."""
        path = self._path(name, model, text)
        if path is None:
            return None
        kind = path.annotation
        is_fit = kind in (str, int) or kind is Ref or get_origin(kind) in (Ref, typing.Literal)
        if get_origin(kind) is typing.Literal:
            is_fit = {type(value) for value in get_args(kind)} in ({str}, {int})
        if not (is_fit or (isinstance(kind, type) and issubclass(kind, Enum))):
            got = (
                "a property without a return annotation"
                if kind is Any
                else f"of type {getattr(kind, '__name__', kind)}"
            )
            self.mistake(
                f"Store.{name}",
                "by= to name a text, an int, an Enum or a Ref",
                f"{path.text!r}, {got}",
                "group by another field, or by a property that returns text (-> str)",
            )
            return None
        return path

    def _parent(self, name: str, parent_name: str, written: str) -> Edge | None:
        if parent_name not in self.declared:
            known = ", ".join(other for other in self.declared if other != name)
            self.mistake(f"Store.{name}", "an edge of the store", repr(written), f"begin with one of: {known}")
            return None
        return self._edge(parent_name)

    def _reference(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        written: str = declared.options["path"]
        parent_name, _, rest = written.partition(".")
        parent = self._parent(name, parent_name, written)
        if parent is None:
            return None
        if not rest:
            self.mistake(
                f"Store.{name}",
                'an edge and a field: "edge.field"',
                repr(written),
                f"name a field of {parent.model.__name__}",
            )
            return None
        path = self._path(name, parent.model, rest)
        if path is None:
            return None
        target = self._target(name, path, declared.options["to"])
        if target is None:
            return None
        if path.annotation is str:
            path = _as_ids(path, target)
        is_many = parent.is_many or path.is_many
        return Reference(
            name=name, model=target, type_index=self.type_index_of(target), parent=parent_name, is_many=is_many,
            keyed_by="map" if path.is_map and not parent.is_many else self._keyed_by(target),
            **self._shows(name, declared, target, is_many),
            field=path, is_required=not is_many and not declared.options["optional"],
        )  # fmt: skip

    def _target(self, name: str, path: FieldPath, to: Any) -> type[DomainModel] | None:
        kind = path.annotation
        if kind is Ref or get_origin(kind) is Ref:
            (named,) = get_args(kind) or (None,)
            target = to if to is not None else named
            if not isinstance(target, ModelMeta):
                self.mistake(
                    f"Store.{name}",
                    "a Ref[Model]",
                    f"{path.text!r}, a bare Ref",
                    "annotate the field Ref[Model], or pass to=Model",
                )
                return None
            if to is not None and isinstance(named, ModelMeta) and base_model(to) is not base_model(named):  # type: ignore[arg-type]
                self.mistake(f"Store.{name}", f"to= to be {named.__name__} or a subclass", to.__name__, "remove to=")
                return None
        elif to is not None and kind is str:
            target = to
        elif to is None and kind is str:
            self.mistake(
                f"Store.{name}",
                "a Ref, or an id with to=",
                f"{path.text!r}, a str",
                "annotate the field Ref[Model], or pass to=Model",
            )
            return None
        else:
            self.mistake(
                f"Store.{name}",
                "a field that holds references",
                f"{path.text!r}, of type {getattr(kind, '__name__', kind)}",
                "end the path at a Ref[...]",
            )
            return None
        if not self._is_model(name, target):
            return None
        if kind is str and not target.__boiler__.collection.is_flat:
            self.mistake(
                f"Store.{name}",
                "a flat collection behind to=, where an id says which document",
                target.__name__,
                "hold a Ref in the field",
            )
            return None
        return typing.cast("type[DomainModel]", target)

    def _referrers(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        model = declared.options["model"]
        roots = [other for other, one in self.declared.items() if one.kind in ("root", "group")]
        of = declared.options["of"] or (roots[0] if roots else None)
        if of is None:
            return None
        parent = self._parent(name, of, of)
        path = self._path(name, model, declared.options["by"])
        if parent is None or path is None:
            return None
        kind = path.annotation
        (named,) = get_args(kind) or (None,)
        if get_origin(kind) is not Ref or not isinstance(named, ModelMeta):
            self.mistake(
                f"Store.{name}",
                "by= to name a Ref[...]",
                f"{path.text!r}, of type {getattr(kind, '__name__', kind)}",
                f"name the field of {model.__name__} that refers to {parent.model.__name__}",
            )
            return None
        if base_model(named) is not base_model(parent.model):  # type: ignore[arg-type]
            self.mistake(
                f"Store.{name}",
                f"by= to refer to {parent.model.__name__}, the model of {of!r}",
                f"{path.text!r}, which refers to {named.__name__}",
                "name another field, or another edge with of=",
            )
            return None
        collection = model.__boiler__.collection
        is_child = not parent.is_many and collection is not None and path.text in collection.placeholders[-1:]
        return Referrers(
            name=name, model=model, type_index=self.type_index_of(model), parent=of, is_many=True,
            keyed_by="doc_id" if is_child else self._keyed_by(model),
            **self._shows(name, declared, model, is_many=True), by=path,
        )  # fmt: skip

    def _fixed(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        model, path = declared.options["model"], declared.options["path"]
        if model.__boiler__.collection.match(path) is None:
            self.mistake(
                f"Store.{name}",
                f"the path of a document in {model.__boiler__.collection.text!r}",
                repr(path),
                "name one document of the model's collection",
            )
            return None
        roots = [other for other, one in self.declared.items() if one.kind in ("root", "group")]
        return Fixed(
            name=name, model=model, type_index=self.type_index_of(model), parent=roots[0] if roots else None,
            is_many=False,
            **self._shows(name, declared, model, is_many=False),
            path=path, is_required=not declared.options["optional"],
        )  # fmt: skip

    def in_order(self) -> list[Edge]:
        """Orders edges: the root or group first, parents before children, otherwise as declared."""
        order = [edge for edge in self.edges.values() if edge.parent is None]
        rest = [self.edges[name] for name in self.declared if self.edges[name].parent is not None]
        while rest:
            placed = {edge.name for edge in order}
            ready = [edge for edge in rest if edge.parent in placed]
            order += ready
            rest = [edge for edge in rest if edge not in ready]
        return order

    def _check_annotations(self) -> None:
        if self.store is None:
            return
        try:
            hints = typing.get_type_hints(self.store)
        except (NameError, TypeError) as error:
            self.mistake(
                "Store", "annotations that can be resolved", str(error), "define the named class at module level"
            )
            return
        for name, edge in self.edges.items():
            if name not in hints:
                continue
            wanted: list[Any]
            if edge.is_many:
                wanted = [dict[str, base] for base in edge.model.__mro__ if isinstance(base, ModelMeta)]  # type: ignore[valid-type]
            else:
                is_required = not isinstance(edge, (Reference, Fixed)) or edge.is_required
                wanted = [
                    base if is_required else base | None for base in edge.model.__mro__ if isinstance(base, ModelMeta)
                ]
            if hints[name] not in [*wanted, Any]:
                self.mistake(
                    f"Store.{name}",
                    f"the annotation {shown(wanted[0])}",
                    shown(hints[name]),
                    "annotate it so, or remove the annotation",
                )
        for name in hints:
            if name not in self.declared and not name.startswith("_"):
                self.mistake(f"Store.{name}", "an edge", "an annotation alone", f"write {name}: ... = reference(...)")


def _as_ids(path: FieldPath, target: type[DomainModel]) -> FieldPath:
    """Returns a path whose ids are read as references into a flat collection."""
    assert target.__boiler__.collection is not None
    prefix, read = target.__boiler__.collection.text, path.read
    return replace(path, read=lambda document: [(key, Ref.at(f"{prefix}/{value}")) for key, value in read(document)])

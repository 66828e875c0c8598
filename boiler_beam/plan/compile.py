"""From classes to a plan: every mistake in them is found here, all at once."""

from __future__ import annotations

import functools
import importlib
import re
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, get_args, get_origin

from boiler_beam.errors import DeclarationError, Mistake, UsageError
from boiler_beam.models import DomainModel, FamilyCodec, family_base, stored_name, wire_of
from boiler_beam.models.declare import ModelMeta
from boiler_beam.plan.fieldpath import FieldError, FieldPath, field_path
from boiler_beam.plan.fingerprint import code_of, fingerprint
from boiler_beam.plan.reads import edges_read
from boiler_beam.plan.tree import Aggregate, Edge, Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan
from boiler_beam.values import GeoPoint, Ref, from_wire
from boiler_beam.views import EdgeDeclaration, ViewModel
from boiler_beam.views.aggregate import AggregateDeclaration
from boiler_beam.views.fold import Collect, Count, CountDistinct, Extreme, Fold, Mean, Sum

__all__ = ["compile_plan", "load_plan", "refuse_main"]

RESERVED = frozenset({"store", "key", "at", "path", "paths", "doc_id", "version", "viewers", "editors", "get", "new"})
_UNFIT_KEYS = (bool, float, datetime, bytes, dict, GeoPoint)


def compile_plan(views: Sequence[type[ViewModel]]) -> Plan:
    """The plan of these views.

    Raises:
        DeclarationError: With every mistake in the classes.
    """
    mistakes: list[Mistake] = []
    families: dict[type[DomainModel], FamilyCodec] = {}

    def family_of(model: type[DomainModel]) -> int:
        base = family_base(model)
        if base not in families:
            families[base] = FamilyCodec(base, mistakes)
        return list(families).index(base)

    plans = [found for view in views if (found := _ViewCompiler(view, family_of, mistakes).compile()) is not None]
    shapes: dict[str, str] = {}
    names: dict[str, str] = {}
    for view in plans:
        shape = re.sub(r"\{[^}]*\}", "{}", view.template)
        if shape in shapes:
            mistakes.append(
                Mistake(
                    view.name,
                    "a row path of its own",
                    f"{view.template!r}, where {shapes[shape]} writes",
                    "give one of them another collection=",
                )
            )
        if view.name in names:
            mistakes.append(
                Mistake(
                    view.reference_name,
                    "a class name of its own, which names its table",
                    f"{view.name!r}, which {names[view.name]} has",
                    "rename one of them",
                )
            )
        shapes[shape], names[view.name] = view.name, view.reference_name
    if mistakes:
        raise DeclarationError(list(dict.fromkeys(mistakes)))
    return Plan(tuple(plans), tuple(families.values()))


@functools.lru_cache(maxsize=16)
def load_plan(references: tuple[str, ...]) -> Plan:
    """The plan of views known as `module:Class`: what a worker makes of the names that it is sent.

    Raises:
        UsageError: There is no such module or class.
        DeclarationError: The classes can't be compiled.
    """
    views = []
    for reference in references:
        module_name, _, class_name = reference.partition(":")
        found: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part, None)
        if not (isinstance(found, type) and issubclass(found, ViewModel)):
            raise UsageError(f"{reference}: expected a view model, got {found!r}; mend: define it at module level")
        views.append(found)
    return compile_plan(views)


class _ViewCompiler:
    """Compiles one view; what is wrong goes to `mistakes`."""

    def __init__(
        self, view: type[ViewModel], family_of: Callable[[type[DomainModel]], int], mistakes: list[Mistake]
    ) -> None:
        self.view = view
        self.family_of = family_of
        self.mistakes = mistakes
        store = view.declared_store()
        self.store = store
        self.declared = store.declared_edges() if store else {}
        self.edges: dict[str, Edge] = {}
        self.open: list[str] = []

    def mistake(self, where: str, expected: str, got: str, mend: str) -> None:
        self.mistakes.append(Mistake(f"{self.view.__name__}{where and '.'}{where}", expected, got, mend))

    def compile(self) -> ViewPlan | None:
        before = len(self.mistakes)
        self._check_root()
        for name in self.declared:
            self._edge(name)
        self._check_annotations()
        aggregates = self._aggregates()
        template = self._template()
        self._check_names()
        if len(self.mistakes) > before:
            return None
        edges = self._sorted()
        return self._finish(edges, aggregates, template)

    # Edges ------------------------------------------------------------------------------------------------------------

    def _check_root(self) -> None:
        if self.store is None:
            self.mistake("", "a class Store(bb.Store) in it", "none", "declare which documents a row is made of")
            return
        roots = [name for name, one in self.declared.items() if one.kind in ("root", "group")]
        if len(roots) != 1:
            got = ", ".join(roots) if roots else "none"
            self.mistake("Store", "one root(...) or group(...)", got, "say with one edge which documents make a row")

    def _edge(self, name: str) -> Edge | None:
        """The edge of this name, compiled with what it hangs on; None where something is wrong."""
        if name in self.edges:
            return self.edges[name]
        declared = self.declared[name]
        if name in self.open:
            way = " -> ".join([*self.open[self.open.index(name) :], name])
            self.mistake(
                f"Store.{name}",
                "edges that lead away from the root",
                f"a cycle: {way}",
                "let one of them hang on another edge",
            )
            return None
        self.open.append(name)
        try:
            edge = self._compile_edge(name, declared)
        finally:
            self.open.pop()
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
                    name=name, model=model, family=self.family_of(model), parent=None, is_many=False, where=where
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
            self.family_of(model)  # tells the mistake
            return False
        if model.__boiler__.collection.placeholders:
            self.mistake(
                f"Store.{name}",
                "a flat collection or a collection group",
                repr(model.__boiler__.collection.text),
                'read its documents as a collection group: collection="**/..."',
            )
            return False
        return True

    def _path(self, name: str, model: type[DomainModel], text: str) -> FieldPath | None:
        try:
            return field_path(model, text)
        except FieldError as error:
            self.mistake(f"Store.{name}", error.expected, error.got, error.mend)
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

    def _group(self, name: str, declared: EdgeDeclaration) -> Edge | None:
        model = declared.options["model"]
        by = self._path(name, model, declared.options["by"])
        if by is None:
            return None
        kind = by.annotation
        bad = next((unfit for unfit in _UNFIT_KEYS if kind is unfit or get_origin(kind) is unfit), None)
        is_fit = kind in (str, int, Any) or kind is Ref or get_origin(kind) in (Ref, typing.Literal)
        is_fit = is_fit or (isinstance(kind, type) and issubclass(kind, Enum))
        if bad is not None or not is_fit:
            got = getattr(kind, "__name__", str(kind))
            self.mistake(
                f"Store.{name}",
                "by= to name a text, an int, an Enum or a Ref",
                f"{by.text!r}, a {got}",
                "group by another field, or by a property that returns text",
            )
            return None
        return Group(
            name=name, model=model, family=self.family_of(model), parent=None, is_many=True,
            keyed_by=self._keyed_by(model), where=declared.options["where"], by=by,
        )  # fmt: skip

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
            name=name, model=target, family=self.family_of(target), parent=parent_name, is_many=is_many,
            keyed_by="map" if path.is_map and not parent.is_many else self._keyed_by(target),
            where=declared.options["where"], field=path, is_required=not is_many and not declared.options["optional"],
            may_repeat=parent.may_repeat,
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
            if to is not None and isinstance(named, ModelMeta) and family_base(to) is not family_base(named):  # type: ignore[arg-type]
                self.mistake(f"Store.{name}", f"to= to be {named.__name__} or a subclass", to.__name__, "leave to= out")
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
                f"{path.text!r}, a {getattr(kind, '__name__', kind)}",
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
                f"{path.text!r}, a {getattr(kind, '__name__', kind)}",
                f"name the field of {model.__name__} that refers to {parent.model.__name__}",
            )
            return None
        if family_base(named) is not family_base(parent.model):  # type: ignore[arg-type]
            self.mistake(
                f"Store.{name}",
                f"by= to refer to {parent.model.__name__}, the model of {of!r}",
                f"{path.text!r}, which refers to {named.__name__}",
                "name another field, or another edge with of=",
            )
            return None
        return Referrers(
            name=name, model=model, family=self.family_of(model), parent=of, is_many=True,
            keyed_by=self._keyed_by(model), where=declared.options["where"], by=path,
            may_repeat=parent.may_repeat or (path.is_many and parent.is_many),
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
            name=name, model=model, family=self.family_of(model), parent=roots[0] if roots else None, is_many=False,
            where=declared.options["where"], path=path, is_required=not declared.options["optional"],
        )  # fmt: skip

    def _sorted(self) -> list[Edge]:
        """Parents before children; the row's own edge first; otherwise as declared."""
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
                    f"the annotation {_shown(wanted[0])}",
                    _shown(hints[name]),
                    "annotate it so, or leave the annotation out",
                )
        for name in hints:
            if name not in self.declared and not name.startswith("_"):
                self.mistake(f"Store.{name}", "an edge", "an annotation alone", f"write {name}: ... = reference(...)")

    # Properties and aggregates ----------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        stored: dict[str, str] = {}
        for name in self.view.declared_properties():
            if name in RESERVED:
                self.mistake(name, "a name that is free", f"{name!r}, which every view has", "rename the property")
            written = stored_name(name, self._case)
            if written in stored:
                self.mistake(
                    name, "a stored name of its own", f"{written!r}, which {stored[written]} has", "rename one of them"
                )
            stored[written] = name
        for name in self.declared:
            if name in ("get", "new"):
                self.mistake(f"Store.{name}", "a name that is free", repr(name), "rename the edge")
        if not self.view.declared_properties():
            self.mistake("", "at least one @view_property or aggregate", "none", "declare what a row holds")
        if self.view.__boiler__.case not in (None, "camel", "snake"):
            self.mistake("", "case='camel' or 'snake'", repr(self.view.__boiler__.case), "write one of the two")

    @property
    def _case(self) -> str:
        return self.view.__boiler__.case or "camel"

    def _aggregates(self) -> list[Aggregate]:
        found = []
        for name, declared in self.view.declared_properties().items():
            if isinstance(declared, AggregateDeclaration) and (compiled := self._aggregate(name, declared)):
                found.append(compiled)
        return found

    def _aggregate(self, name: str, declared: AggregateDeclaration) -> Aggregate | None:
        if declared.edge not in self.declared:
            self.mistake(name, "an edge of the store", repr(declared.edge), f"name one of: {', '.join(self.declared)}")
            return None
        if declared.where is not None and not callable(declared.where):
            self.mistake(
                name,
                "where= to be a function of the document",
                repr(declared.where),
                "write where=lambda document: ...",
            )
            return None
        edge = self.edges.get(declared.edge)
        if edge is None:
            return None
        options = declared.options
        for word, number in (("n", options.get("n", 1)), ("limit", options.get("limit"))):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                self.mistake(name, f"{word}= to be an int from 1", repr(number), "write a positive int")
                return None
        of = self._of(name, edge, declared.of, "of")
        match declared.kind:
            case "count":
                return Aggregate(name, edge.name, Count(), declared.where, lambda document: 0)
            case "count_distinct":
                return of and Aggregate(
                    name,
                    edge.name,
                    CountDistinct(),
                    declared.where,
                    of if declared.of is not None else lambda document: document.path,
                )
            case "collect" | "top":
                return of and self._ordered(name, edge, declared, of)
        folds: dict[str, Fold] = {"sum": Sum(), "mean": Mean(), "min": Extreme(False), "max": Extreme(True)}
        return of and Aggregate(name, edge.name, folds[declared.kind], declared.where, of)

    def _ordered(
        self, name: str, edge: Edge, declared: AggregateDeclaration, of: Callable[[Any], Any]
    ) -> Aggregate | None:
        if declared.kind == "top":
            by = self._of(name, edge, declared.options["by"], "by")
            if by is None:
                return None

            def ranked(document: Any) -> Any:
                rank, value = by(document), of(document)
                return None if rank is None or value is None else [[rank], value]

            return Aggregate(name, edge.name, Collect((True,), declared.options["n"]), declared.where, ranked)
        order = declared.options["order_by"] or ()
        keys = (order,) if isinstance(order, str) else tuple(order)
        readers = [self._of(name, edge, key.removeprefix("-"), "order_by") for key in keys]
        if any(reader is None for reader in readers):
            return None

        def sorted_by(document: Any) -> Any:
            value = of(document)
            return None if value is None else [[reader(document) for reader in readers if reader], value]

        fold = Collect(tuple(key.startswith("-") for key in keys), declared.options["limit"])
        return Aggregate(name, edge.name, fold, declared.where, sorted_by)

    def _of(self, name: str, edge: Edge, of: Any, word: str) -> Callable[[Any], Any] | None:
        """What `of=`, `by=` or `order_by=` reads of a document, as a Firestore value."""
        if of is None:
            return lambda document: from_wire(wire_of(document))
        if isinstance(of, str):
            try:
                path = field_path(edge.model, of)
            except FieldError as error:
                self.mistake(name, error.expected, f"{word}={error.got}", error.mend)
                return None
            if path.is_many:
                self.mistake(
                    name,
                    "a field with one value",
                    f"{word}={of!r}, a list or map",
                    f"write {word}=lambda document: ...",
                )
                return None
            read = path.read

            def read_field(document: Any) -> Any:
                return next((_as_value(value) for _, value in read(document)), None)

            return read_field
        if not callable(of):
            self.mistake(
                name, f"{word}= to be a field's name or a function of the document", repr(of), f"write {word}='field'"
            )
            return None
        return lambda document: _as_value(of(document))

    # The rest ---------------------------------------------------------------------------------------------------------

    def _template(self) -> str:
        options = self.view.__boiler__
        if (options.collection is None) == (options.path is None):
            got = "neither" if options.collection is None else "both"
            self.mistake(
                "", "collection= or path= on the class", got, 'write class ...(bb.ViewModel, collection="rows")'
            )
            return ""
        template = options.path if options.path is not None else f"{options.collection}/{{id}}"
        segments = template.split("/")
        if len(segments) % 2 or not all(segments):
            self.mistake(
                "",
                "rows at document paths, which have an even number of segments",
                repr(template),
                "name a collection with an odd number of segments",
            )
        template = template.replace("{key}", "{id}")
        if segments[-1] not in ("{id}", "{key}") or template.count("{") != 1:
            self.mistake(
                "",
                "a row path that ends in {id} or {key} and holds no other placeholder",
                repr(options.path),
                'write path="rows/{id}"',
            )
        return template

    def _functions(self) -> list[Callable[..., object]]:
        """The functions in the class and its bases that a render may run."""
        functions = []
        for base in self.view.__mro__:
            if base in (ViewModel, object):
                continue
            for value in base.__dict__.values():
                function = (
                    getattr(value, "getter", None) or getattr(value, "fget", None) or getattr(value, "__func__", value)
                )
                if callable(function) and hasattr(function, "__code__"):
                    functions.append(function)
        return functions

    def _finish(self, edges: list[Edge], aggregates: list[Aggregate], template: str) -> ViewPlan:
        functions = self._functions()
        read = edges_read(functions, self.edges)
        edges = [replace(edge, is_read=edge.name in read) for edge in edges]
        properties = tuple((name, stored_name(name, self._case)) for name in self.view.declared_properties())
        wheres = [one.where for one in (*edges, *aggregates) if one.where is not None]
        declared = [one for one in self.view.declared_properties().values() if isinstance(one, AggregateDeclaration)]
        said = [value for one in declared for value in (one.kind, one.edge, one.of, *one.options.values())]
        described = [
            *map(repr, edges),
            *map(repr, aggregates),
            template,
            self._case,
            repr(properties),
            str(self.view.__boiler__.revision),
            *(repr(value) for value in said if not callable(value)),
        ]
        ofs = [value for value in said if callable(value)]
        return ViewPlan(
            self.view, self.view.__name__, template, tuple(edges), tuple(aggregates), properties, self._case,
            fingerprint(described, sorted([*functions, *wheres, *ofs], key=code_of)),
        )  # fmt: skip


def _as_value(value: Any) -> Any:
    """A user's value as a Firestore value: structs, models and Enums become what is stored of them."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    return from_wire(wire_of(value))


def _as_ids(path: FieldPath, target: type[DomainModel]) -> FieldPath:
    """The path of ids, read as references into a flat collection."""
    assert target.__boiler__.collection is not None
    prefix, read = target.__boiler__.collection.text, path.read
    return replace(path, read=lambda document: [(key, Ref(f"{prefix}/{value}")) for key, value in read(document)])


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    text = str(annotation)
    for module in {getattr(arg, "__module__", "") for arg in get_args(annotation)} | {"typing"}:
        text = text.replace(f"{module}.", "")
    return text


def refuse_main(plan: Plan) -> None:
    """Refuses classes that workers can't import.

    Raises:
        UsageError: A view or model is defined in `__main__`.
    """
    for view in plan.views:
        for one in (view.model, *(edge.model for edge in view.edges)):
            if one.__module__ == "__main__":
                file = getattr(sys.modules["__main__"], "__file__", None) or "views.py"
                raise UsageError(
                    f"{one.__qualname__}: expected a class in a module that workers can import, got one in __main__; "
                    f"mend: move it from {file} into a module of its own and import it from there"
                )

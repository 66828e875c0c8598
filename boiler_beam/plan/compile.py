"""Compiles classes to a plan, and reports all mistakes in them together."""

from __future__ import annotations

import functools
import importlib
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from boiler_beam.errors import DeclarationError, Mistake, UsageError
from boiler_beam.models import DocumentType, DomainModel, base_model, mistakes_in, stored_name
from boiler_beam.plan.aggregates import AggregateCompiler
from boiler_beam.plan.annotations import annotation_mistakes
from boiler_beam.plan.edges import EdgeCompiler
from boiler_beam.plan.fingerprint import code_of, fingerprint
from boiler_beam.plan.planned import Plan, PlanName
from boiler_beam.plan.reads import attributes_read, edges_read
from boiler_beam.plan.rowpath import RowPath, overlap
from boiler_beam.plan.tree import Aggregate, Edge, Root, ViewPlan
from boiler_beam.values import Database
from boiler_beam.views import ViewModel
from boiler_beam.views.aggregate import AggregateDeclaration, Custom
from boiler_beam.views.route import route_of

__all__ = ["compile_plan", "load_plan", "refuse_main"]

_PLACE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_ANY_PROJECT = Database()
RESERVED = frozenset({"store", "key", "at", "path", "paths", "doc_id", "version", "viewers", "editors", "get", "new"})


def compile_plan(views: Sequence[type[ViewModel]], database: Database = _ANY_PROJECT) -> Plan:
    """Compiles views to a plan.

    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> [edge.name for edge in compile_plan([MeetingSession]).views[0].edges]
    ['meeting', 'location', 'users', 'tickets']

    Args:
        views: The classes.
        database: The database whose documents are read; by default the `(default)` database of any project.

    Raises:
        DeclarationError: With every mistake in the classes.
    """
    mistakes: list[Mistake] = []
    document_types: dict[type[DomainModel], DocumentType] = {}

    def type_index_of(model: type[DomainModel]) -> int:
        base = base_model(model)
        if base not in document_types:
            document_types[base] = DocumentType(base, mistakes, database)
        return list(document_types).index(base)

    plans = [found for view in views if (found := _ViewCompiler(view, type_index_of, mistakes).compile()) is not None]
    _check_places(plans, list(document_types), mistakes)
    if mistakes:
        raise DeclarationError(list(dict.fromkeys(mistakes)))
    return Plan(tuple(plans), tuple(document_types.values()), database)


def _check_places(
    plans: Sequence[ViewPlan], document_types: Sequence[type[DomainModel]], mistakes: list[Mistake]
) -> None:
    """Yields the mistakes between views: equal names, equal row paths, and rows at paths of documents."""
    for index, view in enumerate(plans):
        for other in plans[:index]:
            if overlap(view.paths.template, other.paths.template):
                got = f"{view.paths.template!r}, where {other.name} writes"
                mistakes.append(
                    Mistake(view.name, "a row path of its own", got, "give one of them another collection=")
                )
            if view.name.casefold() == other.name.casefold():
                expected = "a unique class name, which names its table"
                got = f"{view.name!r}, which {other.reference_name} has"
                if view.name != other.name:  # SQLite and many file systems ignore the case of names
                    got = f"{view.name!r}, which differs from {other.reference_name} only by case"
                mistakes.append(Mistake(view.reference_name, expected, got, "rename one of them"))
        for model in document_types:
            collection = model.__boiler__.collection
            if collection is not None and collection.holds(tuple(view.paths.template.split("/")[::2])):
                got = f"{view.paths.template!r}, where the documents of {model.__name__} are"
                fix = "give the view a collection of its own"
                mistakes.append(Mistake(view.name, "row paths that are not document paths", got, fix))


@functools.lru_cache(maxsize=16)
def load_plan(name: PlanName) -> Plan:
    """Compiles views from their names, as workers do, which receive only the names.

    Raises:
        UsageError: A module or class does not exist.
        DeclarationError: The classes can't be compiled.
    """
    views = []
    for reference in name.views:
        module_name, _, class_name = reference.partition(":")
        found: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part, None)
        if not (isinstance(found, type) and issubclass(found, ViewModel)):
            raise UsageError(f"{reference}: expected a view model, got {found!r}; fix: define it at module level")
        views.append(found)
    return compile_plan(views, name.database)


class _ViewCompiler:
    """Compiles one view, and appends its mistakes to `mistakes`."""

    def __init__(
        self, view: type[ViewModel], type_index_of: Callable[[type[DomainModel]], int], mistakes: list[Mistake]
    ) -> None:
        self.view = view
        self.mistakes = mistakes
        self.edges = EdgeCompiler(view.declared_store(), type_index_of, self.mistake)

    def mistake(self, where: str, expected: str, got: str, fix: str) -> None:
        self.mistakes.append(Mistake(f"{self.view.__name__}{where and '.'}{where}", expected, got, fix))

    def compile(self) -> ViewPlan | None:
        before = len(self.mistakes)
        self.edges.compile()
        compiler = AggregateCompiler(self.edges.declared, self.edges.edges, self.mistake)
        declared = [one for one in self.view.declared_properties().values() if isinstance(one, AggregateDeclaration)]
        aggregates = [compiled for one in declared if (compiled := compiler.compile(one.name, one))]
        for found in annotation_mistakes(self.view, self.edges.edges, declared):
            self.mistake(*found)
        paths = self._paths()
        self._check_names()
        if len(self.mistakes) > before:
            return None
        return self._finish(self.edges.in_order(), aggregates, paths)

    def _check_names(self) -> None:
        stored: dict[str, str] = {}
        for name, declared in self.view.declared_properties().items():
            if name in RESERVED:
                self.mistake(name, "an unused name", f"{name!r}, which every view has", "rename the property")
            written = stored_name(name, self._case)
            if written in stored:
                self.mistake(
                    name, "a unique stored name", f"{written!r}, which {stored[written]} has", "rename one of them"
                )
            stored[written] = name
            self.mistakes.extend(mistakes_in(_returned(declared)))
        for name in self.edges.declared:
            if name in ("get", "new"):
                self.mistake(f"Store.{name}", "an unused name", repr(name), "rename the edge")
        for name in self.view.__boiler__.indexed:
            if name not in self.view.declared_properties() or name.startswith("_"):
                names = ", ".join(one for one in self.view.declared_properties() if not one.startswith("_"))
                self.mistake("", f"indexed= to name stored properties ({names})", repr(name), "name one of them")
        if not self.view.declared_properties():
            self.mistake("", "at least one @view_property or aggregate", "none", "declare what a row holds")
        self._check_cycles()
        if self.view.__boiler__.case not in (None, "camel", "snake"):
            self.mistake("", "case='camel' or 'snake'", repr(self.view.__boiler__.case), "write one of the two")

    def _check_cycles(self) -> None:
        """Reports properties that depend on themselves."""
        declared = self.view.declared_properties()
        reads = {
            name: [other for other in declared if other in attributes_read(getattr(one, "getter", len))]
            for name, one in declared.items()
        }
        reported: set[str] = set()
        for name in declared:
            way = _way_back(name, reads)
            if way and reported.isdisjoint(way):
                reported.update(way)
                got = f"a cycle: {' -> '.join(way)}"
                self.mistake(
                    name, "properties that do not depend on themselves", got, "compute one of them from the store"
                )

    @property
    def _case(self) -> str:
        return self.view.__boiler__.case or "camel"

    def _paths(self) -> RowPath:
        """Compiles the path of the rows."""
        options = self.view.__boiler__
        if (options.collection is None) == (options.path is None):
            got = "neither" if options.collection is None else "both"
            fix = 'write class ...(bb.ViewModel, collection="rows")'
            self.mistake("", "collection= or path= on the class", got, fix)
            return RowPath("", None)
        root = next((edge for edge in self.edges.edges.values() if isinstance(edge, Root)), None)
        pattern = root.model.__boiler__.collection if root is not None else None
        if pattern is None or pattern.is_flat:
            pattern = None
        template = options.path if options.path is not None else f"{options.collection}/{{id}}"
        paths = RowPath(template, pattern)
        segments = template.split("/")
        if len(segments) % 2 or not all(segments):
            self.mistake(
                "",
                "rows at document paths, which have an even number of segments",
                repr(template),
                "name a collection with an odd number of segments",
            )
        wrong = [
            one for index, one in enumerate(segments) if ("{" in one) and not (index % 2 and _PLACE.fullmatch(one))
        ]
        if wrong or len(paths.placeholders) != sum("{" in one for one in segments):
            got = repr(wrong[0]) if wrong else f"{template!r}, which has one twice"
            fix = 'write path="users/{user}/inbox/{id}"'
            self.mistake("", "placeholders that are whole document ids, each once", got, fix)
        elif pattern is not None and options.path is None:
            wanted = "/".join([options.collection or "", *pattern.segments[1:], "{id}"])
            fix = f'write path="{wanted}"'
            self.mistake(
                "", "path=, because its root lies in a subcollection", f"collection={options.collection!r}", fix
            )
        else:
            self._check_given(paths)
        return paths

    def _check_given(self, paths: RowPath) -> None:
        method = self.view.declared_method("paths")
        if method is None and paths.given:
            got, yields = f"no paths() for {', '.join(paths.given)}", ", ".join(f'"{one}": ...' for one in paths.given)
            expected = f"a value for each placeholder of {paths.template!r}"
            self.mistake("", expected, got, f"write def paths(self): yield {{{yields}}}")
        elif method is None and not paths.placeholders:
            self.mistake("", "a different path for each row", repr(paths.template), "put {id} into the path")
        most = self.view.__boiler__.max_paths
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            self.mistake("", "max_paths= to be an int from 1", repr(most), "write how many copies a row may have")

    def _functions(self) -> list[Callable[..., object]]:
        """Returns the functions in the class and its bases that rendering may call."""
        functions = []
        for base in self.view.__mro__:
            if base is object or "__boiler_base__" in vars(base):
                continue
            for name, value in base.__dict__.items():
                if name == "new" or route_of(value) is not None:  # they make no row
                    continue
                function = (
                    getattr(value, "getter", None) or getattr(value, "fget", None) or getattr(value, "__func__", value)
                )
                if callable(function) and hasattr(function, "__code__"):
                    functions.append(function)
        return functions

    def _finish(self, edges: list[Edge], aggregates: list[Aggregate], paths: RowPath) -> ViewPlan:
        functions = self._functions()
        read = edges_read(functions, self.edges.edges)
        edges = [replace(edge, is_read=edge.name in read) for edge in edges]
        properties = tuple((name, stored_name(name, self._case)) for name in self.view.declared_properties())
        wheres = [one.where for one in (*edges, *aggregates) if one.where is not None]
        declared = [one for one in self.view.declared_properties().values() if isinstance(one, AggregateDeclaration)]
        said = [value for one in declared for value in (one.kind, one.edge, one.of, *one.options.values())]
        described = [
            *(
                repr(replace(edge, type_index=0)) for edge in edges
            ),  # an index that depends on the other views of the plan
            *map(repr, aggregates),
            paths.template,
            self._case,
            repr(properties),
            str(self.view.__boiler__.revision),
            str(self.view.__boiler__.max_paths),
            *(repr(value) for value in said if not callable(value) and not isinstance(value, Custom)),
        ]
        customs = [value for value in said if isinstance(value, Custom)]
        described += [repr(sorted(vars(custom).items())) for custom in customs]
        classes = [base for custom in customs for base in type(custom).__mro__ if issubclass(base, Custom)]
        functions += [one for base in classes for one in vars(base).values() if hasattr(one, "__code__")]
        ofs = [value for value in said if callable(value)]
        visibility = tuple(name for name in ("viewers", "editors") if self.view.declared_method(name) is not None)
        has_paths = self.view.declared_method("paths") is not None
        return ViewPlan(
            self.view, self.view.__name__, paths, tuple(edges), tuple(aggregates), properties, self._case,
            visibility, has_paths, self.view.__boiler__.max_paths,
            fingerprint(described, sorted([*functions, *wheres, *ofs], key=code_of)),
        )  # fmt: skip


def _returned(declared: Any) -> Any:
    """Returns the return annotation of a property's getter; None if there is none, or it can't be resolved."""
    try:
        return typing.get_type_hints(declared.getter).get("return")
    except (AttributeError, NameError, SyntaxError, TypeError):  # an aggregate, or a name that only type checkers know
        return None


def _way_back(name: str, reads: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the cycle by which a property depends on itself, `[a, b, a]`; empty if it does not."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        for other in reads[way[-1]]:
            if other == name:
                return [*way, name]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def refuse_main(plan: Plan) -> None:
    """Checks that workers can import the classes of a plan.

    Raises:
        UsageError: A view or model is defined in `__main__`.
    """
    for view in plan.views:
        for one in (view.model, *(edge.model for edge in view.edges)):
            if one.__module__ == "__main__":
                file = getattr(sys.modules["__main__"], "__file__", None) or "views.py"
                raise UsageError(
                    f"{one.__qualname__}: expected a class in a module that workers can import, got one in __main__; "
                    f"fix: move it from {file} into a module of its own and import it from there"
                )

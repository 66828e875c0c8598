"""From classes to a plan: every mistake in them is found here, all at once."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from boiler_beam.errors import DeclarationError, Mistake, UsageError
from boiler_beam.models import DomainModel, FamilyCodec, family_base, stored_name
from boiler_beam.plan.aggregates import AggregateCompiler
from boiler_beam.plan.edges import EdgeCompiler
from boiler_beam.plan.fingerprint import code_of, fingerprint
from boiler_beam.plan.reads import attributes_read, edges_read
from boiler_beam.plan.tree import Aggregate, Edge, Plan, ViewPlan
from boiler_beam.views import ViewModel
from boiler_beam.views.aggregate import AggregateDeclaration

__all__ = ["compile_plan", "load_plan", "refuse_main"]

RESERVED = frozenset({"store", "key", "at", "path", "paths", "doc_id", "version", "viewers", "editors", "get", "new"})


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
        self.mistakes = mistakes
        self.edges = EdgeCompiler(view.declared_store(), family_of, self.mistake)

    def mistake(self, where: str, expected: str, got: str, mend: str) -> None:
        self.mistakes.append(Mistake(f"{self.view.__name__}{where and '.'}{where}", expected, got, mend))

    def compile(self) -> ViewPlan | None:
        before = len(self.mistakes)
        self.edges.compile()
        compiler = AggregateCompiler(self.edges.declared, self.edges.edges, self.mistake)
        aggregates = [
            compiled
            for name, declared in self.view.declared_properties().items()
            if isinstance(declared, AggregateDeclaration) and (compiled := compiler.compile(name, declared))
        ]
        template = self._template()
        self._check_names()
        if len(self.mistakes) > before:
            return None
        return self._finish(self.edges.in_order(), aggregates, template)

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
        for name in self.edges.declared:
            if name in ("get", "new"):
                self.mistake(f"Store.{name}", "a name that is free", repr(name), "rename the edge")
        if not self.view.declared_properties():
            self.mistake("", "at least one @view_property or aggregate", "none", "declare what a row holds")
        self._check_cycles()
        if self.view.__boiler__.case not in (None, "camel", "snake"):
            self.mistake("", "case='camel' or 'snake'", repr(self.view.__boiler__.case), "write one of the two")

    def _check_cycles(self) -> None:
        """A property that needs itself can't be computed."""
        declared = self.view.declared_properties()
        reads = {
            name: [other for other in declared if other in attributes_read(getattr(one, "getter", len))]
            for name, one in declared.items()
        }
        told: set[str] = set()
        for name in declared:
            way = _way_back(name, reads)
            if way and told.isdisjoint(way):
                told.update(way)
                got = f"a cycle: {' -> '.join(way)}"
                self.mistake(name, "properties that do not need themselves", got, "compute one of them from the store")

    @property
    def _case(self) -> str:
        return self.view.__boiler__.case or "camel"

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
        read = edges_read(functions, self.edges.edges)
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


def _way_back(name: str, reads: Mapping[str, Sequence[str]]) -> list[str]:
    """How a property comes back to itself, `[a, b, a]`; empty where it does not."""
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

"""Finds functions that read a clock, random numbers or the environment, so that their values change without a document.

A row is computed again only when its documents change. A time in it is soon outdated, differs between workers, and
makes each backfill write all rows. The bytecode of getters, `paths()`, `where=`, `of=` and `by=` is inspected, not run,
together with the functions and model properties that they call, as far as their names can be resolved.
"""

from __future__ import annotations

import builtins
import datetime
import dis
import os
import random
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from typing_extensions import assert_never

from boiler_beam.models import DomainModel, written_annotation
from boiler_beam.plan.planned import Plan
from boiler_beam.plan.reads import PASSED_OVER, nested
from boiler_beam.plan.tree import Edge, Fixed, Group, Reference, Referrers, Root, ViewPlan
from boiler_beam.raised import is_of_user, shown_place
from boiler_beam.views.aggregate import AggregateDeclaration

__all__ = ["Reachable", "functions_of", "warnings_of"]

CLOCK, CHANCE, ENVIRONMENT = "clock", "chance", "environment"
_OF_ROWS = {
    CLOCK: 'let the time come in as a document: today: Today = document(Today, "config/today")',
    CHANCE: "store it in a document when that is written",
    ENVIRONMENT: 'let it come in as a document: settings: Settings = document(Settings, "config/settings")',
}
_OF_DOCUMENTS = {
    CLOCK: 'store in the document what the clock decides (see "upcoming" in the cookbook)',
    CHANCE: "store it in the document when that is written",
    ENVIRONMENT: "store it in the document when that is written",
}
"""The fixes for functions of one document, which cannot read another document."""
_NOW = {"now", "utcnow", "today"}
_CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
_CLOCKS |= {f"{name}_ns" for name in _CLOCKS}
_CLOCKS_WITHOUT_ARGUMENT = {"localtime", "gmtime", "ctime"}
_OF_OS = {"getenv": ENVIRONMENT, "getenvb": ENVIRONMENT, "getpid": ENVIRONMENT, "urandom": CHANCE}
_OTHERS = {
    ("uuid", "uuid1"): CHANCE, ("uuid", "uuid4"): CHANCE, ("socket", "gethostname"): ENVIRONMENT,
    ("io", "open"): ENVIRONMENT, ("_io", "open"): ENVIRONMENT, ("builtins", "input"): ENVIRONMENT,
}  # fmt: skip
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_MOST_DEEP = 8
_UNKNOWN: Any = object()
_SELF: Any = object()


_Used = tuple[int, Any, dis.Instruction | None]
"""A line, an object that is used there, and the following bytecode instruction."""


class _Call(NamedTuple):
    """A read of something other than a document: its kind, its name, and where it is."""

    kind: str
    name: str
    file: str
    line: int


def warnings_of(plan: Plan) -> list[str]:
    """Returns a warning, with the fix, for each place where a row depends on something other than documents."""
    found: dict[tuple[str, int, str], str] = {}
    for view in plan.views:
        reachable = Reachable(view, plan)
        for label, function in functions_of(view):
            for call in reachable.calls(function):
                place = f" ({shown_place(call.file, call.line)})" if call.file else ""
                fixes = _OF_DOCUMENTS if "=" in label else _OF_ROWS
                message = f"{label}: expected a value that depends only on documents, got {call.name}{place}; fix: "
                found.setdefault((call.file or label, call.line, call.name), message + fixes[call.kind])
    return list(found.values())


def functions_of(view: ViewPlan) -> Iterator[tuple[str, Any]]:
    """Yields the user's functions that compute the rows of a view, each with a name for messages."""
    model, name = view.model, view.name
    for attribute, declared in model.declared_properties().items():
        if isinstance(declared, AggregateDeclaration):
            given = {"where": declared.where, "of": declared.of, **declared.options}
            for word, one in given.items():
                yield f"{name}.{attribute}: {word}=", one
                methods = ("empty", "add", "retract", "merge", "result") if word == "custom" else ()
                yield from ((f"{name}.{attribute}: {method}()", getattr(type(one), method)) for method in methods)
        else:
            yield f"{name}.{attribute}", declared.getter
    for method in ("paths", "viewers", "editors"):
        if (function := model.declared_method(method)) is not None:
            yield f"{name}.{method}()", function
    for edge in view.edges:
        yield f"{name}.Store.{edge.name}: where=", edge.where
        for word, text in _named_by(edge):
            yield f"{name}.Store.{edge.name}: {word}", text
        for field in msgspec.structs.fields(edge.model):
            yield f"{edge.model.__name__}.{field.name}: default_factory=", field.default_factory


def _named_by(edge: Edge) -> Iterator[tuple[str, str]]:
    """Yields the field paths of an edge that may contain properties."""
    match edge:
        case Group():
            yield from (("by=", path.text) for path in edge.by)
        case Reference():
            yield "its path", edge.field.text
        case Referrers():
            yield "by=", edge.by.text
        case Root() | Fixed():
            pass
        case _:
            assert_never(edge)
    if edge.order is not None:
        yield from (("order_by=", name.removeprefix("-")) for name in edge.order.names)


class Reachable:
    """The code that functions of a view may run, as far as their names can be resolved.

    Args:
        view: The view.
        plan: Its plan.
    """

    def __init__(self, view: ViewPlan, plan: Plan) -> None:
        models = [model for edge in view.edges for model in plan.document_types[edge.type_index].codecs]
        self.view, self.own = view.model, set(view.model.declared_properties())
        self.members: dict[str, list[Any]] = {}
        structs: dict[type, None] = {}
        for one in models:
            _add_structs(one, structs)
        self.packages = {one.__module__.partition(".")[0] for one in (view.model, *structs)}
        for one in structs:
            for base in one.__mro__:
                for name, value in vars(base).items():
                    function = _function(value)
                    if function is not None and not name.startswith("__") and self._is_users(function):
                        self.members.setdefault(name, []).append(function)

    def calls(self, function: Any) -> Iterator[_Call]:
        """Yields what a function reads besides documents; text is a field path, which may contain properties."""
        is_looked_into = isinstance(function, str) or self._followed(function) is not None
        if not is_looked_into and function is not None and (found := self._kind(function, None)) is not None:
            yield _Call(*found, "", 0)
        for code, used in self.codes(function):
            for line, one, follower in used:
                if (found := self._kind(one, follower)) is not None:
                    yield _Call(*found, code.co_filename, line)

    def codes(self, function: Any) -> Iterator[tuple[types.CodeType, list[_Used]]]:
        """Yields the code that a function may run, and the objects that it uses by name."""
        begin = self.members_of(function) if isinstance(function, str) else [self._followed(function)]
        waiting, seen = [(one, 0) for one in begin if one is not None], set[types.CodeType]()
        while waiting:
            one, depth = waiting.pop()
            if one.__code__ in seen or depth > _MOST_DEEP:
                continue
            seen.add(one.__code__)
            known, code = _closure(one), one.__code__
            self_name = code.co_varnames[0] if code.co_argcount else ""
            for inner in nested(code):
                used = list(self._used(inner, one.__globals__, known, self_name))
                yield inner, used
                waiting += [(found, depth + 1) for _, value, _ in used if (found := self._followed(value)) is not None]

    def members_of(self, text: str) -> list[types.FunctionType]:
        """Yields the properties and methods of models in a field path."""
        return [one for name in text.split(".") for one in self.members.get(name, ())]

    def _followed(self, value: Any) -> types.FunctionType | None:
        """Returns the function that runs when a user's function, method or class is called."""
        function = _function(vars(value).get("__init__")) if isinstance(value, type) else _function(value)
        return function if function is not None and self._is_users(function) else None

    def _is_users(self, function: types.FunctionType) -> bool:
        return is_of_user(function.__code__.co_filename, function.__module__ or "", self.packages)

    def _used(
        self, code: types.CodeType, names: dict[str, Any], known: dict[str, Any], self_name: str
    ) -> Iterator[_Used]:
        """Yields the objects that a code uses by name, each with its line and the following instruction.

        Args:
            code: The code.
            names: The global names of its module.
            known: The objects of some local variables; the variables that the code assigns are added.
            self_name: The variable that holds the view, or the document.
        """
        steps = [step for step in dis.get_instructions(code) if step.opname not in PASSED_OVER]
        line, top, module = code.co_firstlineno, _UNKNOWN, _UNKNOWN
        for index, step in enumerate(steps):
            line, name, previous = _line(step, line), step.opname, top
            follower = steps[index + 1] if index + 1 < len(steps) else None
            top = _UNKNOWN
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                top = names.get(step.argval, getattr(builtins, step.argval, _UNKNOWN))
            elif name.startswith(("LOAD_FAST", "LOAD_DEREF")):
                variable = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
                top = known.get(variable, _SELF if variable == self_name else _UNKNOWN)
            elif name in _ATTRIBUTES and (previous is _SELF or previous is _UNKNOWN):
                yield from ((line, one, None) for one in self._named(step.argval, is_own=previous is _SELF))
            elif name in _ATTRIBUTES:
                top = _attribute(previous, step.argval)
            elif name == "IMPORT_NAME":
                is_top = steps[index - 1].argval is None  # `import a.b` assigns a
                top = module = sys.modules.get(step.argval.partition(".")[0] if is_top else step.argval, _UNKNOWN)
            elif name == "IMPORT_FROM":
                top = _attribute(module, step.argval)
            elif name.startswith("STORE_FAST") and previous is not _UNKNOWN:
                known[step.argval[0] if isinstance(step.argval, tuple) else step.argval] = previous
            is_whole = follower is None or not follower.opname.startswith((*_ATTRIBUTES, "STORE_FAST"))
            if top is not _UNKNOWN and top is not _SELF and is_whole:
                yield line, top, follower

    def _kind(self, value: Any, follower: dis.Instruction | None) -> tuple[str, str] | None:
        """Returns whether an object returns other values at other times, and its name."""
        if value is os.environ or value is getattr(os, "environb", None):
            return ENVIRONMENT, "os.environ"
        if isinstance(value, type):
            return (CHANCE, "random.SystemRandom") if value is random.SystemRandom else None
        name, module = getattr(value, "__name__", ""), getattr(value, "__module__", None) or ""
        holder = getattr(value, "__self__", None)
        if isinstance(holder, type) and issubclass(holder, datetime.date) and name in _NOW:
            return CLOCK, f"{holder.__name__}.{name}"
        if isinstance(holder, random.Random):
            return CHANCE, f"random.{name}"
        is_bare = follower is not None and follower.opname.startswith("CALL") and follower.arg == 0
        if module == "time" and (name in _CLOCKS or (name in _CLOCKS_WITHOUT_ARGUMENT and is_bare)):
            return CLOCK, f"time.{name}"
        if module in ("os", "posix", "nt") and name in _OF_OS:
            return _OF_OS[name], f"os.{name}"
        if module == "secrets" or module.startswith("numpy.random"):
            return CHANCE, f"{module}.{name}"
        if (module, name) in _OTHERS:
            return _OTHERS[module, name], name if module.lstrip("_") in ("io", "builtins") else f"{module}.{name}"
        is_users = isinstance(value, types.FunctionType) and self._is_users(value)
        return (CLOCK, f"{module}.{name}") if name in _NOW and callable(value) and not is_users else None

    def _named(self, name: str, *, is_own: bool) -> Iterable[Any]:
        """Yields the functions that run when an attribute of the view, or of a possible document, is read."""
        if not is_own:
            return self.members.get(name, ())
        if name in self.own:  # a view property is inspected separately
            return ()
        found = next((vars(base)[name] for base in self.view.__mro__ if name in vars(base)), None)
        return [found] if found is not None else self.members.get(name, ())


def _closure(function: types.FunctionType) -> dict[str, Any]:
    cells = function.__closure__ or ()
    known = {}
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # a closure variable without value
            continue
    return known


def _line(step: dis.Instruction, last: int) -> int:
    """Returns the line of an instruction; Python 3.13 has it in another attribute."""
    line = getattr(step, "line_number", None) or getattr(step, "starts_line", None)
    return line if isinstance(line, int) and not isinstance(line, bool) else last


def _function(value: Any) -> types.FunctionType | None:
    """Returns the function of a method, a property or a similar descriptor."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", getattr(value, "func", getattr(value, "getter", value)))
    return value if isinstance(value, types.FunctionType) else None


def _attribute(holder: Any, name: str) -> Any:
    """Returns an attribute of a module, a class or a random generator; reading it from other objects might run code."""
    if isinstance(holder, types.ModuleType):
        return vars(holder).get(name, _UNKNOWN)
    if isinstance(holder, (type, random.Random)):
        return getattr(holder, name, _UNKNOWN)
    return _UNKNOWN


def _add_structs(annotation: Any, found: dict[type, None]) -> None:
    """Yields a model or struct, and the structs in its fields."""
    for one in typing.get_args(annotation):
        _add_structs(one, found)
    is_struct = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
    if not is_struct or annotation in found or annotation in (msgspec.Struct, DomainModel):
        return
    found[annotation] = None
    for hint in typing.get_type_hints(annotation, include_extras=True).values():
        _add_structs(written_annotation(hint), found)

"""Compiles aggregates: the value that is read from each document, and the fold that combines the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from boiler_beam.plan.edges import ReportMistake
from boiler_beam.plan.fieldpath import (
    FieldError,
    as_value,
    field_path,
    is_decimal,
    is_never_number,
    number_fields,
    value_of,
    value_reader,
)
from boiler_beam.plan.ordering import ordering
from boiler_beam.plan.tree import Aggregate, Edge
from boiler_beam.views import EdgeDeclaration
from boiler_beam.views.aggregate import AggregateDeclaration, Custom
from boiler_beam.views.fold import Collect, Count, CountDistinct, CustomFold, Extreme, Fold, Mean, Sum

__all__ = ["AggregateCompiler"]


class AggregateCompiler:
    """Compiles the aggregates of one view.

    Args:
        declared: The edges as they were declared.
        edges: The compiled edges.
        report: Called with each mistake.
    """

    def __init__(
        self, declared: Mapping[str, EdgeDeclaration], edges: Mapping[str, Edge], report: ReportMistake
    ) -> None:
        self.declared, self.edges, self.mistake = declared, edges, report

    def compile(self, name: str, declared: AggregateDeclaration) -> Aggregate | None:
        """Compiles an aggregate; returns None if there is a mistake in it."""
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
        if declared.kind in ("sum", "mean") and not self._adds(name, edge, declared.of):
            return None
        of = self._of(name, edge, declared.of, "of")
        read = (declared.of, options.get("by"), *_names(options.get("order_by")))
        may_raise = (
            declared.where is not None or declared.kind == "custom" or any(_may_raise(edge, one) for one in read)
        )
        if declared.kind in ("sum", "mean"):
            may_raise = may_raise or not _is_number(edge, declared.of)
        match declared.kind:
            case "count":
                return Aggregate(name, edge.name, Count(), declared.where, lambda document: 0, may_raise)
            case "count_distinct":
                return of and Aggregate(
                    name,
                    edge.name,
                    CountDistinct(),
                    declared.where,
                    of if declared.of is not None else lambda document: document.path,
                    may_raise,
                )
            case "collect" | "top":
                return of and self._ordered(name, edge, declared, of, may_raise)
            case "custom":
                custom = declared.options["custom"]
                if not isinstance(custom, Custom):
                    fix = "pass an object of a class that derives from aggregate.Custom"
                    self.mistake(name, "an aggregate of your own", repr(custom), fix)
                    return None
                return of and Aggregate(name, edge.name, CustomFold(custom), declared.where, of, may_raise)
        folds: dict[str, Fold] = {"sum": Sum(), "mean": Mean(), "min": Extreme(False), "max": Extreme(True)}
        return of and Aggregate(name, edge.name, folds[declared.kind], declared.where, of, may_raise)

    def _adds(self, name: str, edge: Edge, of: Any) -> bool:
        """Checks that `of=` may return numbers, and reports a field that never holds one."""
        if not isinstance(of, str):
            return True
        try:
            path = field_path(edge.model, of)
        except FieldError:
            return True  # reported where the field is compiled
        if path.is_many or not is_never_number(path.annotation):
            return True
        known = ", ".join(number_fields(edge.model))
        fix = f"name one of: {known}" if known else "write of=lambda document: ..."
        if is_decimal(path):
            fix = f"write of={value_of(path)}"
        got = f"of={of!r}, a field of {getattr(path.annotation, '__name__', path.annotation)}"
        self.mistake(name, "a field of numbers", got, fix)
        return False

    def _ordered(
        self, name: str, edge: Edge, declared: AggregateDeclaration, of: Callable[[Any], Any], may_raise: bool
    ) -> Aggregate | None:
        if declared.kind == "top":
            by = self._of(name, edge, declared.options["by"], "by")
            if by is None:
                return None

            def ranked(document: Any) -> Any:
                rank, value = by(document), of(document)
                return None if rank is None or value is None else [[rank], value]

            return Aggregate(
                name, edge.name, Collect((True,), declared.options["n"]), declared.where, ranked, may_raise
            )
        try:
            order = ordering(edge.model, declared.options["order_by"])
        except FieldError as error:
            self.mistake(name, error.expected, f"order_by={error.got}", error.fix)
            return None

        def sorted_by(document: Any) -> Any:
            value = of(document)
            return None if value is None else [order.ranks(document), value]

        fold = Collect(order.descending, declared.options["limit"])
        return Aggregate(name, edge.name, fold, declared.where, sorted_by, may_raise)

    def _of(self, name: str, edge: Edge, of: Any, word: str) -> Callable[[Any], Any] | None:
        """Compiles `of=`, `by=` or `order_by=` to a function from a document to a Firestore value."""
        if of is None:
            return as_value
        if isinstance(of, str):
            try:
                return value_reader(edge.model, of, word)
            except FieldError as error:
                self.mistake(name, error.expected, f"{word}={error.got}", error.fix)
                return None
        if not callable(of):
            self.mistake(
                name, f"{word}= to be a field's name or a function of the document", repr(of), f"write {word}='field'"
            )
            return None
        return lambda document: as_value(of(document))


def _names(order_by: str | tuple[str, ...] | None) -> tuple[str, ...]:
    names = () if order_by is None else (order_by,) if isinstance(order_by, str) else tuple(order_by)
    return tuple(name.removeprefix("-") for name in names)


def _may_raise(edge: Edge, of: Any) -> bool:
    """Returns whether `of=` (None: the document itself) calls a user's function, or may read a property."""
    if of is None:
        options = edge.model.__boiler__.fields.values()
        return any(option.encode is not None for option in options)
    if not isinstance(of, str):
        return True
    try:
        return "." in of or field_path(edge.model, of).may_raise
    except FieldError:
        return False  # reported where the field is compiled


def _is_number(edge: Edge, of: Any) -> bool:
    """Returns whether a field holds only numbers, so that no value can be refused."""
    try:
        return isinstance(of, str) and field_path(edge.model, of).annotation in (int, float)
    except FieldError:
        return False  # reported where the field is compiled

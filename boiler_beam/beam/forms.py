"""Applies forms in a pipeline: changes in, what became of each form out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam

from boiler_beam.connectors import open_store
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.writing import FormRunner

__all__ = ["AppliedForms", "ApplyForms"]

_OUTCOMES, _DEAD_LETTERS = "outcomes", "dead_letters"


class AppliedForms(NamedTuple):
    """The result of `ApplyForms`.

    Attributes:
        outcomes: `boiler_beam.writing.forms.Applied` of each form that was applied or rejected now.
        dead_letters: A `DeadLetter` for each form whose `apply` raised something else.
    """

    outcomes: Any
    dead_letters: Any


class ApplyForms(beam.PTransform):
    """Applies the forms among some changes: `PCollection[Change]` to `AppliedForms`.

    A bundle may run twice. A form has its effect once all the same, because its outcome is committed with its writes;
    then the second run has no outcome to tell.

    >>> ApplyForms("shop.forms:OrderForm", store="firestore:my-project")  # doctest: +SKIP

    Args:
        forms: The classes, or their names as `module:Class`; workers import them.
        store: The URI of the store of forms and documents.
    """

    def __init__(self, *forms: Any, store: str) -> None:
        super().__init__()
        self._names = [one if isinstance(one, str) else f"{one.__module__}:{one.__qualname__}" for one in forms]
        self._store = store
        for name in self._names:
            if name.startswith("__main__:"):
                raise UsageError(f"{name}: expected a class that workers can import, got one in __main__; fix: move it")

    def expand(self, changes: Any) -> AppliedForms:
        """Applies the transform."""
        found = changes | "Apply" >> beam.ParDo(_Apply(self._names, self._store)).with_outputs(
            _DEAD_LETTERS, main=_OUTCOMES
        )
        return AppliedForms(found[_OUTCOMES], found[_DEAD_LETTERS])


class _Apply(beam.DoFn):
    def __init__(self, names: Sequence[str], store: str) -> None:
        self._names, self._uri = names, store

    def setup(self) -> None:
        self._letters: list[DeadLetter] = []
        self._store = open_store(self._uri)
        self._runner = FormRunner([_imported(name) for name in self._names], self._store, self._letters.append)

    def process(self, change: Change) -> Iterator[Any]:
        applied = self._runner.take(change)
        if applied is not None and applied.state != "known":
            yield applied
        while self._letters:
            yield beam.pvalue.TaggedOutput(_DEAD_LETTERS, self._letters.pop())

    def teardown(self) -> None:
        self._store.close()


def _imported(name: str) -> Any:
    module, _, cls = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in cls.split("."):
        found = getattr(found, part)
    return found

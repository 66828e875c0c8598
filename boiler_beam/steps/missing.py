"""Why a row with a root, or members, is absent: a required document is missing, or no reference names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Reference, ViewPlan
from boiler_beam.steps.functions import known_references

__all__ = ["Absence", "Absences", "absence_of"]


class Absence(NamedTuple):
    """Why a row that has a root, or members, is absent although its getters did not fail.

    Attributes:
        edge: The edge over which a required document is missing; empty where `paths()` yielded nothing.
        path: The path of that document; None where no reference names one, so that no row is expected.
        parent: The path of the document that names it; None if it is a document that all rows share.
    """

    edge: str = ""
    path: str | None = None
    parent: str | None = None

    def __str__(self) -> str:
        if not self.edge:
            return "paths() gives nothing"
        if self.parent is None:
            return f"{self.path}, which every row reads as {self.edge}, is not there"
        if self.path is None:
            return f"{self.parent} names no {self.edge}"
        return f"{self.path}, which {self.parent} names as {self.edge}, is not there"


@dataclass
class Absences:
    """How many rows of a view are absent although they have a root, or members.

    Attributes:
        lacking: The rows whose reference names a required document that does not exist.
        absent: The rows that nobody expects: no reference names a required document, or `paths()` yielded nothing.
        failed: The rows whose getters or `paths()` raised, or returned what makes no row.
        example: Which document one of the `lacking` rows lacks.
    """

    lacking: int = 0
    absent: int = 0
    failed: int = 0
    example: str = ""

    def add(self, one: Absence) -> None:
        """Counts an absent row."""
        if one.path is None:
            self.absent += 1
        else:
            self.lacking += 1
            self.example = self.example or str(one)


def absence_of(view: ViewPlan, documents_of: Callable[[str], Mapping[str, DomainModel]]) -> Absence:
    """Why a row is absent: the first required document that it lacks, or that `paths()` yielded nothing."""
    for edge in view.required:
        if documents_of(edge.name):
            continue
        if isinstance(edge, Fixed):
            return Absence(edge.name, edge.path)
        assert isinstance(edge, Reference)
        for parent in documents_of(edge.parent or "").values():
            path = next((path for _, path in known_references(edge, parent)), None)
            return Absence(edge.name, path, parent.path)
    return Absence()

"""One row from the domain documents as they are now: for when rows are not stored, or not trusted.

Its documents are read level by level, from the root on: those that are referred to many at once, by path; those that
refer, and the members of a group, by a query for each parent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import unquote

from typing_extensions import assert_never

from boiler_beam.connectors.base import KeyedSource, Source
from boiler_beam.connectors.located import Located, read_located
from boiler_beam.connectors.registry import database_of, open_source
from boiler_beam.engine.computed import ComputedView
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DocumentType, path_fields
from boiler_beam.plan import Edge, Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan, compile_plan
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.steps.functions import known_references
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.values import Database, Ref, decode_fields
from boiler_beam.views import ViewModel

__all__ = ["fresh_row", "read_row"]


def fresh_row(view: type[ViewModel], row_id: str, source: str | Source, at: Mapping[str, str]) -> dict[str, Any] | None:
    """Computes one row; see `ViewModel.get`."""
    opened = open_source(source) if isinstance(source, str) else source
    plan = compile_plan([view], database_of([opened]))
    (planned,) = plan.views
    dead_letters, located = list[DeadLetter](), Located()
    versions = NewestVersions(plan, lambda dead_letter: dead_letters.append(located(dead_letter)))
    if isinstance(opened, KeyedSource):
        read_row(plan, row_id, opened, versions)
    else:
        opened.prepare(plan.collections)
        versions.add_all(read_located([opened], located))
    computed, read = ComputedView(plan.planned_views[0], versions, dead_letters.append), list(dead_letters)
    copies = computed.copies(row_id)
    wanted = [copy for copy in copies if at.items() <= planned.paths.at(copy.path).items()]
    if any(copy.fields is None or copy.tainted_by for copy in copies):
        tainted_by = {path for copy in copies for path in copy.tainted_by}
        its = [one for one in read if one.path in tainted_by]
        its += dead_letters[len(read) :]
        why = "; ".join(f"{dead_letter.about}: {dead_letter.message}" for dead_letter in its) or "a document is invalid"
        raise BoilerBeamError(
            f"{planned.name} {row_id}: expected documents that make a row, got: {why}; fix: correct it"
        )
    if len(wanted) > 1:
        names = ", ".join(f"{name!r}: ..." for name in planned.paths.given)
        raise UsageError(
            f"{planned.name} {row_id}: expected one row, got {len(wanted)} copies; fix: say which: at={{{names}}}"
        )
    return decode_fields(wanted[0].fields) if wanted and wanted[0].fields is not None else None


def read_row(plan: Plan, row_id: str, source: KeyedSource, versions: NewestVersions) -> None:
    """Reads the documents of one row of a plan's only view."""
    _Levels(plan.views[0], plan.document_types, source, versions).read(row_id)


class _Levels:
    """Reads what one row is made of."""

    def __init__(
        self, view: ViewPlan, document_types: Sequence[DocumentType], source: KeyedSource, versions: NewestVersions
    ) -> None:
        self.view, self.document_types, self.source, self.versions = view, document_types, source, versions
        self.paths: dict[str, set[str]] = {}
        """What each edge reached, by its name."""

    def read(self, row_id: str) -> None:
        for edge in self.view.edges:
            self.paths[edge.name] = {change.path for change in self._read(edge, row_id)}

    def _read(self, edge: Edge, row_id: str) -> list[Change]:
        match edge:
            case Root():
                pattern = self.document_types[edge.type_index].pattern.text
                found = self._get([f"{pattern}/{row_id}" if self.view.paths.root is None else row_id])
            case Fixed():
                found = self._get([edge.path])
            case Reference():
                found = self._get(path for parent in self._parents(edge) for _, path in known_references(edge, parent))
            case Group():
                found = self._members(edge, row_id)
            case Referrers():
                found = [one for parent in self.paths[edge.parent or ""] for one in self._referrers(edge, parent)]
            case _:
                assert_never(edge)
        self.versions.add_all(found)
        return found

    def _get(self, paths: Iterable[str]) -> list[Change]:
        return list(self.source.get(sorted({path for path in paths if Ref.at(path).is_local})))

    def _parents(self, edge: Edge) -> Iterator[Any]:
        parent = self.view.by_name[edge.parent or ""]
        documents = self.versions.types[parent.type_index].documents
        return (documents[path] for path in self.paths[parent.name] if path in documents)

    def _referrers(self, edge: Referrers, parent: str) -> Iterator[Change]:
        inner = path_fields(edge.model).get(edge.by.text)
        if inner is not None:
            segments = self.document_types[edge.type_index].pattern.segments
            begin = parent.split("/")
            return self.source.query("/".join([*begin, *segments[len(begin) :]]), [])
        return self._query(edge, [self._filters(edge, edge.by, Ref.at(parent))])

    def _members(self, edge: Group, row_id: str) -> list[Change]:
        parts = row_id.split(",") if edge.is_tuple else [row_id]
        if len(parts) != len(edge.by):
            raise UsageError(f"{self.view.name}: expected the id of a row, got {row_id!r}; fix: join its parts by ','")
        filters = [self._filters(edge, path, _key(path, part)) for path, part in zip(edge.by, parts, strict=True)]
        return list(self._query(edge, filters))

    def _query(self, edge: Edge, filters: list[list[tuple[str, str, Any]]]) -> Iterator[Change]:
        """All that fulfil one filter of each list."""
        for some in itertools.product(*filters):
            yield from self.source.query(self.document_types[edge.type_index].pattern.text, list(some))

    def _filters(self, edge: Edge, by: FieldPath, value: Any) -> list[tuple[str, str, Any]]:
        """A filter for each name under which the field is, or once was, stored."""
        names = (self.document_types[edge.type_index].stored_names([by.text]) or frozenset()) - {"obj_type"}
        if not names or by.is_map:
            raise UsageError(
                f"{self.view.name}.Store.{edge.name}: expected by= to name a stored field that Firestore finds, "
                f"got {by.text!r}; fix: read the row from where it is written, or render it from a file"
            )
        if isinstance(value, Ref):  # stored as any of what a Ref takes
            database = self.source.database or Database()
            value = [value, value.path, value.doc_id, *([f"{database.root}{value.path}"] if database.root else [])]
            word = "array-contains-any" if by.is_many else "in"
        else:
            word = "array-contains" if by.is_many else "=="
        return [(name, word, value) for name in sorted(names)]


def _key(by: FieldPath, part: str) -> Any:
    """What a part of a row's id was made of; see `boiler_beam.steps.functions.row_id`."""
    kind: Any = by.annotation
    text = "" if part == "%" else unquote(part)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {str(one.value): one.value for one in kind}.get(text, text)
    if kind is int:
        return int(text)
    return Ref.at(text) if getattr(kind, "__origin__", None) is Ref else text

"""Why a row is as it is: the documents and versions behind it, and what each contributed; or why it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from boiler_beam.engine.computed import ComputedView
from boiler_beam.errors import InvalidDocument, UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Group, Plan, PlannedView
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import FunctionRaised, group_ids, is_shown
from boiler_beam.steps.missing import Absence
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import Copy
from boiler_beam.values import encode_wire, format_version
from boiler_beam.views.fold import Count

__all__ = ["Why", "why"]

_MOST = 3
_UNKNOWN = "row: unknown, because a document or getter that it needs failed; the row in the sink stays"


@dataclass(frozen=True)
class Why:
    """The explanation of a row.

    Attributes:
        lines: For people.
        is_there: Whether there is such a row.
    """

    lines: tuple[str, ...]
    is_there: bool

    def __str__(self) -> str:
        return "\n".join(self.lines)


def why(plan: Plan, versions: NewestVersions, row_path: str, dead_letters: Sequence[DeadLetter] = ()) -> Why:
    """What each edge of a row reached, what was added to its aggregates, and the row itself; or why there is none.

    Args:
        plan: The views.
        versions: The documents.
        row_path: The row's path, `meeting_sessions/m1`.
        dead_letters: The inputs that were refused when the documents were read.

    Raises:
        UsageError: No view has rows at such a path.
    """
    planned = next((one for one in plan.planned_views if one.view.target.matches(row_path)), None)
    if planned is None:
        known = ", ".join(view.paths.template for view in plan.views)
        raise UsageError(f"{row_path}: expected the path of a row, got none of a view; fix: rows are at {known}")
    return _Question(plan, versions, planned, row_path, dead_letters).answer()


class _Question:
    """One row path, and what is known of the rows that may be there."""

    def __init__(
        self,
        plan: Plan,
        versions: NewestVersions,
        planned: PlannedView,
        row_path: str,
        dead_letters: Sequence[DeadLetter],
    ) -> None:
        self.plan, self.versions, self.row_path, self.dead_letters = plan, versions, row_path, dead_letters
        self.planned, self.view = planned, planned.view
        self.raised: list[DeadLetter] = []
        self.computed = ComputedView(planned, versions, self.raised.append)
        self.known: list[tuple[str, Copy]] = []
        self.unknown: list[list[str]] = []
        self.elsewhere: list[str] = []

    def answer(self) -> Why:
        wildcard, makers = self.view.paths.wildcard_of(self.row_path), 0
        for row_id in self.computed.row_ids():
            if self.view.paths.wildcard(row_id) == wildcard:
                makers += 1
                self._look_at(row_id)
        lines = [f"{self.row_path} of {self.view.name}"]
        for row_id, copy in sorted(self.known)[:1]:  # the smallest id has a contested path
            lines += [*self._edges(row_id), f"row: {(copy.fields or b'').decode()}", *self._rivals()]
            return Why(tuple(lines), True)
        lines += [line for some in self.unknown[:_MOST] for line in some]
        if len(self.unknown) > _MOST:
            lines.append(f"and {len(self.unknown) - _MOST:,} more unknown rows may have this path")
        if not makers:
            lines.append(f"no row: {self._nothing_makes_it()}")
        elif not self.unknown:
            where = _some(self.elsewhere, ", ") or "no path"
            lines.append(f"no row: paths() gives {where}, and not this one")
        return Why(tuple(lines), False)

    def _look_at(self, row_id: str) -> None:
        """Sorts a row that may have the path: known, unknown, or at other paths."""
        begin = len(self.raised)
        copies = self.computed.copies(row_id)
        dead_letters = self.raised[begin:]
        copy = next((one for one in copies if one.path == self.row_path), None)
        if copy is not None and copy.fields is not None:
            self.known.append((row_id, copy))
        elif copy is not None or any(one.is_wildcard for one in copies):
            self.unknown.append([*self._edges(row_id), _UNKNOWN, *self._refused(row_id), *map(_describe, dead_letters)])
        elif copies:
            self.elsewhere += [one.path for one in copies]
        elif not self.computed.exists(row_id):
            self.unknown.append([_UNKNOWN, *self._refused(row_id)])
        elif dead_letters or self.view.paths.is_unique:
            reason = (
                "what paths() gives makes no path" if dead_letters else self._reason(self.computed.absence_of(row_id))
            )
            self.unknown.append([*self._edges(row_id), f"no row: {reason}", *map(_describe, dead_letters)])

    def _rivals(self) -> Iterator[str]:
        _, *others = sorted(row_id for row_id, _ in self.known)
        for row_id in others:
            yield f"{row_id!r} wants this path, too: the smallest id has it, the other is a dead letter contested_path"

    def _reason(self, absence: Absence) -> str:
        """Why a row is absent, in full."""
        if absence.path is None or not absence.edge:
            return str(absence) if not absence.edge else f"{absence}, which is required"
        edge = self.view.by_name[absence.edge]
        named = f"which {absence.parent} names as" if absence.parent is not None else "which every row reads as"
        return f"{absence.path}, {named} {edge.name}, is required, and {self._absence(edge, absence.path)}"

    def _absence(self, edge: Edge, path: str) -> str:
        """Why an edge does not show a document."""
        known = self.versions.types[edge.type_index]
        document, invalid = known.documents.get(path), known.invalid.get(path)
        if document is None and invalid is not None:
            try:
                known.codec.decode(path, *invalid)
            except InvalidDocument as error:
                return f"is invalid: {error}"
        if document is None:
            if path in known.deleted:
                return f"was deleted at version {format_version(known.deleted[path])}"
            are_none = not (known.documents or known.deleted or known.invalid)
            nothing = f", which have no document of {known.codec.pattern.text}" if are_none else ""
            return "is in none of the sources" + nothing
        if not isinstance(document, edge.model):
            return f"is of class {type(document).__name__}, not {edge.model.__name__}"
        try:
            is_shown(edge, document)
        except FunctionRaised as error:
            return f"is not shown: {error}"
        return f"is refused by where= of {edge.name}"

    def _nothing_makes_it(self) -> str:
        """Why there is no root or group of this row."""
        view, root = self.view, self.view.root
        if not view.paths.is_unique:
            return f"no document is there that makes one, of {self.plan.collections[root.type_index]}"
        row_id = view.paths.row_id_of(self.row_path)
        if not isinstance(root, Group):
            pattern = self.plan.collections[root.type_index]
            path = row_id if view.paths.root is not None else f"{pattern}/{row_id}"
            return f"its root {path} {self._absence(root, path)}"
        hidden, keyless = [], []
        for path, document in self.versions.types[root.type_index].documents.items():
            try:
                is_one = row_id in group_ids(root, document)
            except FunctionRaised as error:
                keyless.append(f"{path}: {error}")
                continue
            if is_one:
                hidden.append(f"{path}: {self._absence(root, path)}")
        if hidden:
            return f"its group has no member that is shown: {_some(hidden, '; ')}"
        nobody = f"no document of {root.name} has the key {row_id!r} ({root.text})"
        return nobody + (f"; it is unknown of {_some(keyless, '; ')}" if keyless else "")

    def _refused(self, row_id: str) -> Iterator[str]:
        """The refused inputs that a row needs."""
        tainted_by = self.computed.tainted_by(row_id)
        for dead_letter in self.dead_letters:
            if dead_letter.stage != "render" and dead_letter.path in tainted_by:
                yield f"dead letter {dead_letter.code} of {dead_letter.about}: {dead_letter.message}"

    def _edges(self, row_id: str) -> Iterator[str]:
        documents = self.computed.documents(row_id)
        for planned in self.planned.edges:
            edge = planned.edge
            found = documents(edge.name)
            lack = ": required, so there is no row" if edge.is_required and not found else ""
            yield f"{edge.name}: {len(found):,} document{'' if len(found) == 1 else 's'}{lack}"
            for path, document in sorted(found.items()):
                yield f"  {path} at version {format_version(document.version)}"
                for aggregate, value in self.computed.added(planned, path):
                    is_count = isinstance(aggregate.fold, Count)
                    text = encode_wire(value).decode()
                    yield f"    counts in {aggregate.name}" if is_count else f"    adds {text} to {aggregate.name}"


def _some(texts: Sequence[str], between: str) -> str:
    more = f" and {len(texts) - _MOST:,} more" if len(texts) > _MOST else ""
    return between.join(texts[:_MOST]) + more


def _describe(dead_letter: DeadLetter) -> str:
    return f"dead letter {dead_letter.code}: {dead_letter.message}"

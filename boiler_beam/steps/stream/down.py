"""The step down the tree, at a document: its newest version says what it is at every edge, and what it is no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from typing_extensions import assert_never

from boiler_beam.compare import same_value
from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Fixed, Group, Reference, Referrers, Root
from boiler_beam.steps.functions import group_ids, is_shown, targets
from boiler_beam.steps.newest import dead_letter_of, digest_of, is_newest_invalid, replaces
from boiler_beam.steps.stream.asking import Asking
from boiler_beam.steps.stream.cells import DownCell, Said
from boiler_beam.steps.stream.messages import Out, State
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Showing

__all__ = ["NOTHING_NEW", "Down"]

_MOST_REFUSED = 63
"""Versions of one document whose dead letters are remembered, beside the last one."""
NOTHING_NEW: Any = object()
"""That the version which stands is the one that stood."""


class Down(Showing):
    """Key: a document. Keeps what it said at each edge; sends where it lies now, and where it no longer does.

    Args:
        plan: The views.
        out: Where it goes.
        refuse: Takes the dead letters.

    Attributes:
        horizon: The time before which deletions are forgotten (S3), in microseconds: an older change of a document
            that is not known is refused.
        tells_again: Whether a version that was refused is told again when it is refused once more: somebody asked for
            another try.

    users/u1 of organization A       lies at its own path; its row A has it
    users/u1 of organization B       row A no longer has it, row B has; at its own path it changed
    users/u1 deleted                 row B no longer has it; at its own path it is missing
    """

    def __init__(self, plan: StreamPlan, out: Out, refuse: Callable[[DeadLetter], None]) -> None:
        super().__init__(plan, out)
        self.refuse = refuse
        self.horizon, self.tells_again = 0, False
        self._asking = Asking(plan, refuse)
        self._is_bare, self._shows_all = plan.is_bare, plan.shows_all
        self._keys = [self._keys_of(view, edge) for view, edge in plan.edges]

    def observed(self, cell: DownCell, family: int, change: Change) -> Any:
        """A version was observed, maybe not for the first time.

        Returns:
            The document that stands now, None of a deletion, for `tell`; `NOTHING_NEW` where none does.
        """
        document: DomainModel | None = None
        if cell.version < 0 and change.version < self.horizon:
            message = f"expected a change since {self.horizon}, before which deletions are forgotten, got an older one"
            self.refuse(dead_letter_of("newest", "too_old", message, change))
            return NOTHING_NEW
        fields = bytes(change.fields)
        if fields != b"null":
            try:
                document = self.plan.plan.families[family].decode(change.path, change.version, fields)
            except InvalidDocument as error:
                self._refuse_once(cell, dead_letter_of("decode", error.code, str(error), change))
                standing = None if cell.version < 0 else cell.version
                if is_newest_invalid(change, standing, cell.invalid):
                    cell.invalid = change.version, fields
                return NOTHING_NEW
        if change.version <= cell.version:
            model, refuse = self.plan.plan.families[family].base.__name__, partial(self._refuse_once, cell)
            if not replaces(change, cell.version, cell.fields, model, refuse):
                return NOTHING_NEW
        cell.version, cell.fields = change.version, fields
        if cell.invalid is not None and cell.invalid[0] <= change.version:
            cell.invalid = None
        cell.sequence = max(cell.sequence + 1, change.version)
        return document

    def _refuse_once(self, cell: DownCell, letter: DeadLetter) -> None:
        """A version that comes again is no other dead letter."""
        which = digest_of(letter)
        is_known = which in cell.refused
        if not is_known:
            cell.refused = (*cell.refused[-_MOST_REFUSED:], which)
        if not is_known or self.tells_again:
            self.refuse(letter)

    def tell(self, cell: DownCell, numbers: Iterable[int], document: DomainModel | None, change: Change) -> None:
        """Says what the version that stands is at some edges of its family.

        All that a user wrote of one document runs before anything is said (S10a).
        """
        said, stamp_version = cell.said, max(change.version, change.event_time)
        told: list[tuple[int, Said | None, Said | None]] = []
        for number in numbers:
            if self._is_bare[number]:
                self.out.touched(number, change.path, stamp_version)
                continue
            old = said.get(number)
            new = None if document is None else self._said(cell.sequence, number, document, change)
            if new is old or (not self._travels[number] and old is not None and new is not None and _is_as(old, new)):
                continue
            told.append((number, old, new))
        for number, old, new in told:
            if new is not None:
                said[number] = new
            else:
                del said[number]
            self._tell(number, change, cell.sequence, old, new, stamp_version)

    def _said(self, sequence: int, number: int, document: DomainModel, change: Change) -> Said | None:
        view, edge = self.plan.edges[number]
        if isinstance(edge, Fixed) and change.path != edge.path:
            return None
        if not (self._shows_all[number] or self._asking.tried(is_shown, view, edge, document, change)):
            return None
        keys = self._keys[number](document, change)
        if not keys:
            return None
        role = self._asking.role(number, view, document, change)
        return Said(State(sequence, role, b"", change.version), keys)

    def _keys_of(self, view: int, edge: Edge) -> Callable[[DomainModel, Change], dict[str, Any]]:
        """Where the documents of an edge say that they are."""
        tried, row_id = self._asking.tried, self.plan.plan.views[view].row_id
        match edge:
            case Root():
                return lambda document, change: {row_id(change.path): None}
            case Group():
                return lambda document, change: dict(tried(group_ids, view, edge, document, change) or ())
            case Fixed() | Reference():
                return lambda document, change: {change.path: None}
            case Referrers():
                return lambda document, change: dict.fromkeys(tried(targets, view, edge, document, change) or ())
            case _:
                assert_never(edge)

    def _tell(
        self, number: int, change: Change, sequence: int, old: Said | None, new: Said | None, version: int
    ) -> None:
        _, edge = self.plan.edges[number]
        path, out = change.path, self.out
        before, after = old.keys if old is not None else {}, new.keys if new is not None else {}
        state = self._with_fields(number, new.state, change) if new is not None else None
        is_of_rows = isinstance(edge, (Root, Group))
        for key in before | after:
            was = old.state if old is not None and key in before else None
            now = state if key in after else None
            if not is_of_rows:
                out.lies(number, key, path, was, now or State(sequence, None, b"", change.version), version)
                continue
            weight = (now is not None) - (was is not None)
            member = None
            if isinstance(edge, Group) and weight:
                member = weight, (after if now is not None else before)[key]
            if edge.limit is None:
                self.show(number, key, path, was, now, 1, version, member)
                continue
            if member is not None:
                out.shown(number, key, path, 1, None, None, (), member, version)
            for one, times in ((was, -1), (now, 1)):
                if one is not None:
                    out.candidate(number, key, path, times, one, version)

    def _with_fields(self, number: int, state: State, change: Change) -> State:
        if self.plan.is_local or not self._travels[number]:
            return state
        return State(state.sequence, state.role, bytes(change.fields), state.version)


def _is_as(old: Said, new: Said) -> bool:
    """Whether a document that no row reads adds and refers to what it did."""
    return old.state.role is not None and old.state.role.is_as(new.state.role) and same_value(old.keys, new.keys)

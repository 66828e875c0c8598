"""Which rows an invalid document may belong to: those that a backfill must not replace or delete (S5).

A backfill does not know the last valid version of an invalid document, unless its sources hold it. The fields of the
invalid version that can be read are used, and the properties computed from them. Where the key of a group, or the
reference to a parent, can't be read, the document may belong to any row of the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from typing_extensions import assert_never

from boiler_beam.models import DomainModel, Partial
from boiler_beam.plan import Edge, Fixed, Group, PlannedEdge, Reference, Referrers, Root, ViewPlan
from boiler_beam.steps.functions import FunctionRaised, group_ids, key_parts, targets
from boiler_beam.steps.row import Copy

__all__ = ["PossibleMember", "possible_keys", "taint_copies"]

Parts = tuple[tuple[str, ...] | None, ...]
"""For each part of a row's id, the texts that it may be; None if it may be any text."""


class PossibleMember(NamedTuple):
    """A possible member: an invalid document that may belong to any row of a view, as far as its key is known.

    >>> north = PossibleMember("sales/s1", (("north",), None))
    >>> north.includes("north,2026-01"), north.includes("south,2026-01"), PossibleMember("sales/s1").includes("x")
    (True, False, True)

    Attributes:
        document: Its path.
        known: The texts that each part of the row's id may be; empty if nothing is known.
    """

    document: str
    known: Parts = ()

    def includes(self, row_id: str) -> bool:
        """Whether it may belong to a row."""
        texts = row_id.split(",")
        return not self.known or (
            len(texts) == len(self.known)
            and all(
                some is None or _plain(text) in map(_plain, some) for text, some in zip(texts, self.known, strict=True)
            )
        )

    def includes_path(self, view: ViewPlan, path: str) -> bool:
        """Whether it may belong to the row that has a copy at a path."""
        return not self.known or not view.paths.is_unique or self.includes(view.paths.row_id_of(path))


def _plain(text: str) -> str:
    return "" if text == "%" else unquote(text)


def taint_copies(view: ViewPlan, row_id: str, copies: Sequence[Copy], tainted_by: tuple[str, ...]) -> list[Copy]:
    """Marks the copies of a row as tainted, and adds the wildcard of copies that it may have with these documents."""
    found = [copy if copy.fields is None else copy._replace(tainted_by=tainted_by) for copy in copies]
    wildcard = view.paths.wildcard(row_id)
    return found if any(copy.path == wildcard for copy in found) else [*found, Copy(wildcard, None, tainted_by)]


def possible_keys(
    planned: PlannedEdge, path: str, valid: DomainModel | None, partial: Partial
) -> tuple[tuple[str, ...], Parts | None]:
    """The keys under which a document whose newest version is invalid may be found at an edge.

    Args:
        planned: The edge, which shows documents of this collection.
        path: The document's path.
        valid: Its newest valid version, if one is known.
        partial: What can be read of the invalid one.

    Returns:
        The keys that can be read, as in `Contribution.keys`; and None if there are no others. Otherwise the document is
        a possible member, and this is its `PossibleMember.known`.
    """
    edge = planned.edge
    readings: list[Any] = [one for one in (valid, partial) if one is not None and _may_be_shown(edge, one)]
    if not readings:
        return (), None
    match edge:
        case Root():
            return (planned.view.row_id(path),), None
        case Reference():
            return (path,), None
        case Fixed():
            return (), () if path == edge.path else None
        case Group() | Referrers():
            pass
        case _:
            assert_never(edge)
    found: dict[str, None] = {}
    unknown: Parts | None = None
    for reading in readings:
        try:
            keys = group_ids(edge, reading) if isinstance(edge, Group) else targets(edge, reading)
            found.update(dict.fromkeys(keys))
        except FunctionRaised:  # what is known of the keys counts if there is no other reading
            texts = key_parts(edge, reading) if isinstance(edge, Group) else ()
            is_known = bool(texts) and None not in texts  # a key that makes no id makes no row
            unknown = None if is_known or len(readings) > 1 else texts
    return tuple(found), unknown


def _may_be_shown(edge: Edge, reading: Any) -> bool:
    """Whether a reading may be of the edge's class; `where=` is not called."""
    if not isinstance(reading, Partial):
        return isinstance(reading, edge.model)
    model = reading.model__
    return issubclass(model, edge.model) or (not reading.is_class_known__ and issubclass(edge.model, model))

"""The first stage of a hash join: newest versions, and what each document contributes at every edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.hash_join.matches import Matches
from boiler_beam.steps.hash_join.messages import (
    ChildDocument,
    Document,
    Failure,
    GroupKeys,
    Observed,
    Statistics,
    Taint,
    ViewTaint,
)
from boiler_beam.steps.hash_join.plan import ROWS, WRITE, HashJoinPlan, JoinedEdge, Send, join_stage
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.taint import PossibleMember, possible_keys

__all__ = ["index_documents"]


def index_documents(plan: HashJoinPlan, observed: Iterable[Observed], send: Send) -> None:
    """Sends what the newest version of each document in one partition contributes at every edge."""

    def refuse(dead_letter: DeadLetter) -> None:
        send(WRITE, Failure(dead_letter))

    versions = newest_of(plan.plan, observed, refuse)
    index = _Index(plan, send, refuse)
    for type_index, known in enumerate(versions.types):
        edges = plan.edges_of_type[type_index]
        for path, document in known.documents.items():
            index.add(edges, document, known.change_of(path))
        for path in known.invalid:
            _send_invalid(edges, path, known.documents.get(path), known.partial(path), send)
    index.finish()
    send(WRITE, statistics_of(versions))


def newest_of(plan: Plan, observed: Iterable[Observed], refuse: Callable[[DeadLetter], None]) -> NewestVersions:
    """The newest versions of all that was observed."""
    versions = NewestVersions(plan, refuse)
    for one in observed:
        if one.fields is None:
            versions.add_unreadable(one.path)
        else:
            versions.add(Change(one.path, one.version, msgspec.Raw(one.fields)))
    return versions


def statistics_of(versions: NewestVersions) -> Statistics:
    """How many documents there are, and how many are invalid."""
    invalid = [type_index for type_index, known in enumerate(versions.types) if known.invalid]
    numbers = [(len(known.documents), len(known.invalid)) for known in versions.types]
    return Statistics(0, versions.number_of_documents, 0, invalid, numbers)


class _Index:
    """Sends what documents contribute; group keys and matches are merged, and sent by `finish`."""

    def __init__(self, plan: HashJoinPlan, send: Send, refuse: Callable[[DeadLetter], None]) -> None:
        self._send, self._refuse, self._matches = send, refuse, Matches(plan, 0, send)
        self._keys: dict[int, dict[str, Any]] = {}

    def finish(self) -> None:
        for view_index, keys in self._keys.items():
            self._send(ROWS, GroupKeys(view_index, keys))
        self._matches.finish()

    def add(self, edges: list[JoinedEdge], document: DomainModel, change: Change) -> None:
        path, version, fields = change.path, change.version, bytes(change.fields)
        at_own_path: dict[int, dict[int, WireContribution | None]] = {}
        for one in edges:
            found = one.contributed(document, change, self._refuse)
            if found is None:
                continue
            keys, contribution = found
            match one.edge:
                case Root():
                    self._matches.add(one, contribution, path, version, fields, keys)
                case Group():
                    self._keys.setdefault(one.planned.view_index, {}).update(keys)
                    self._matches.add(one, contribution, path, version, fields, keys)
                case Fixed():
                    self._matches.add(one, contribution, path, version, fields, None)
                case Reference():
                    at_own_path.setdefault(one.match_level, {})[one.index] = contribution
                case Referrers() if one.match_level == 0:
                    rows = list(map(one.planned.view.row_id, keys))
                    self._matches.add(one, contribution, path, version, fields, rows)
                case Referrers():
                    sent = fields if one.planned.carries_fields else None
                    for parent in keys:
                        child = ChildDocument(one.index, parent, path, version, sent, contribution)
                        self._send(join_stage(one.match_level), child)
                case _:
                    assert_never(one.edge)
        for level, contributions in at_own_path.items():
            self._send(join_stage(level), Document(path, version, fields, contributions))


def _send_invalid(edges: list[JoinedEdge], path: str, valid: DomainModel | None, partial: Any, send: Send) -> None:
    """Sends to the rows that an invalid document may belong to that they are tainted (S5)."""
    at_own_path: dict[int, dict[int, WireContribution | None]] = {}
    for one in edges:
        keys, unknown = possible_keys(one.edge, path, valid, partial)
        view_index, row_id = one.planned.view_index, one.planned.view.row_id
        if unknown is not None:
            send(WRITE, ViewTaint(view_index, PossibleMember(path, unknown)))
        match one.edge:
            case _ if not keys:
                continue
            case Root():
                send(ROWS, Taint(view_index, True, path, [row_id(path)]))
            case Group():
                send(ROWS, Taint(view_index, True, path, list(keys)))
            case Reference():
                at_own_path.setdefault(one.match_level, {})[one.index] = None
            case Referrers() if one.match_level == 0:
                send(ROWS, Taint(view_index, False, path, list(map(row_id, keys))))
            case Referrers():
                for parent in keys:
                    send(join_stage(one.match_level), ChildDocument(one.index, parent, path, 0, None, None))
            case Fixed():
                raise AssertionError("a fixed document has no keys")
            case _:
                assert_never(one.edge)
    for level, contributions in at_own_path.items():
        send(join_stage(level), Document(path, 0, b"", contributions))

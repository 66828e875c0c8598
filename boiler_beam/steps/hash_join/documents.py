"""The first stage of a hash join: newest versions, and what each document contributes at every edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Group, Plan
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.hash_join.matches import Matches
from boiler_beam.steps.hash_join.messages import Document, Failure, GroupKeys, Observed, Statistics, Taint, ViewTaint
from boiler_beam.steps.hash_join.plan import ROWS, WRITE, HashJoinPlan, JoinedEdge, Send, join_stage
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.taint import PossibleMember, possible_keys

__all__ = ["index_documents"]

_Joined = dict[tuple[int, str], dict[int, WireContribution | None]]
"""For each level and key of a join: what a document contributes there, by edge index; None: it is invalid."""


def index_documents(plan: HashJoinPlan, observed: Iterable[Observed], send: Send) -> None:
    """Sends what the newest version of each document in one partition contributes at every edge."""
    versions = newest_of(plan.plan, observed, send)
    index = _Index(plan, send, versions.refuse)
    for type_index, known in enumerate(versions.types):
        edges = plan.edges_of_type[type_index]
        for path, document in known.documents.items():
            index.add(edges, document, known.change_of(path))
        for path in known.invalid:
            index.add_invalid(edges, path, known.documents.get(path), known.partial(path))
    index.finish()


def newest_of(plan: Plan, observed: Iterable[Observed], send: Send) -> NewestVersions:
    """The newest versions of all that was observed; sends dead letters, and how many documents there are."""
    versions = NewestVersions(plan, lambda dead_letter: send(WRITE, Failure(dead_letter)))
    for one in observed:
        if one.fields is None:
            versions.add_unreadable(one.path)
        else:
            versions.add(Change(one.path, one.version, msgspec.Raw(one.fields)))
    send(WRITE, Statistics(known=[(len(one.documents), len(one.invalid)) for one in versions.types]))
    return versions


class _Index:
    """Sends what documents contribute; group keys and matches are merged, and sent by `finish`."""

    def __init__(self, plan: HashJoinPlan, send: Send, refuse: Callable[[DeadLetter], None]) -> None:
        self._plan, self._send, self._refuse = plan, send, refuse
        self._matches = Matches(plan, 0, send)
        self._keys: dict[int, dict[str, Any]] = {}

    def finish(self) -> None:
        for view_index, keys in self._keys.items():
            self._send(ROWS, GroupKeys(view_index, keys))
        self._matches.finish()

    def add(self, edges: list[JoinedEdge], document: DomainModel, change: Change) -> None:
        path, version, fields = change.path, change.version, bytes(change.fields)
        joined: _Joined = {}
        for one in edges:
            found = one.contributed(document, change, self._refuse)
            if found is None:
                continue
            keys, contribution = found
            if one.match_level > 0:
                for key in keys:
                    joined.setdefault((one.match_level, key), {})[one.index] = contribution
                continue
            if isinstance(one.edge, Group):
                self._keys.setdefault(one.planned.view_index, {}).update(keys)
            self._matches.add(one, contribution, path, version, fields, one.rows_of(keys))
        self._send_to_joins(joined, path, version, fields)

    def add_invalid(self, edges: list[JoinedEdge], path: str, valid: DomainModel | None, partial: Any) -> None:
        """Sends to the rows that an invalid document may belong to that they are tainted (S5)."""
        joined: _Joined = {}
        for one in edges:
            keys, unknown = possible_keys(one.planned, path, valid, partial)
            view_index = one.planned.view_index
            if unknown is not None:
                self._send(WRITE, ViewTaint(view_index, PossibleMember(path, unknown)))
            if one.match_level > 0:
                for key in keys:
                    joined.setdefault((one.match_level, key), {})[one.index] = None
            elif keys:
                self._send(ROWS, Taint(view_index, one.edge.makes_rows, path, one.rows_of(keys) or []))
        self._send_to_joins(joined, path, 0, b"")

    def _send_to_joins(self, joined: _Joined, path: str, version: int, fields: bytes) -> None:
        for (level, key), contributions in joined.items():
            is_carried = any(self._plan.edges[index].planned.carries_fields for index in contributions)
            sent = fields if is_carried else None
            self._send(join_stage(level), Document(key, path, version, sent, contributions))

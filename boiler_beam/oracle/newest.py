"""A naive choice of each document's newest version: valid or a deletion; invalid versions do not count (S1, S2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Plan
from boiler_beam.values import decode_fields, encode_fields

__all__ = ["newest_documents"]


def newest_documents(
    plan: Plan, changes: Iterable[Change | DeadLetter], refuse: Callable[[DeadLetter], None]
) -> list[dict[str, DomainModel]]:
    """Returns the newest documents of each document type of the plan, by path.

    The newest of a document's valid versions and deletions is chosen. At equal versions a deletion wins, and of two
    different documents the one with the greater canonical encoding.
    """
    newest: list[dict[str, Any]] = [{} for _ in plan.document_types]
    for change in changes:
        if isinstance(change, DeadLetter):
            refuse(change)
            continue
        for type_index in plan.types_of(change.path):
            try:
                document = None if change.is_deleted else _decoded(plan, type_index, change)
            except InvalidDocument as error:
                refuse(DeadLetter(stage="decode", code=error.code, message=str(error), path=change.path))
                continue
            candidate = (change.version, change.is_deleted, _canonical(change)), document
            known = newest[type_index].setdefault(change.path, candidate)
            if candidate[0][:2] == known[0][:2] and candidate[0] != known[0]:
                refuse(DeadLetter(stage="newest", code="version_conflict", message="two documents", path=change.path))
            if candidate[0] > known[0]:
                newest[type_index][change.path] = candidate
    return [{path: one for path, (_, one) in some.items() if one is not None} for some in newest]


def _decoded(plan: Plan, type_index: int, change: Change) -> DomainModel:
    return plan.document_types[type_index].decode(change.path, change.version, change.fields)


def _canonical(change: Change) -> bytes:
    try:
        return encode_fields(decode_fields(change.fields))
    except (ValueError, RecursionError):  # a malformed value in a field that no model reads
        return bytes(change.fields)

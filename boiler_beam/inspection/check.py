"""Models against real documents: what is invalid, and which references lead nowhere, counted and with examples.

The first thing that the owner of an old database needs, before the first backfill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root
from boiler_beam.steps.functions import FunctionRaised, is_shown, references, targets
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.values import Ref

__all__ = ["Checked", "Finding", "check"]


@dataclass
class Finding:
    """One kind of problem in a collection.

    Attributes:
        code: A dead letter's code, `dangling_reference` or `foreign_reference`.
        message: What is wrong.
        number: How many documents (or references) have it.
        example: The path of one, or where its line is.
    """

    code: str
    message: str
    number: int = 0
    example: str = ""


@dataclass
class Checked:
    """What was found in one collection.

    Attributes:
        collection: The collection's pattern.
        documents: How many valid documents were looked at.
        paths: How many documents were seen.
        findings: The problems, by code and message.
    """

    collection: str
    documents: int = 0
    paths: int = 0
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def add(self, code: str, message: str, example: str) -> None:
        """Counts a problem; the first one is its example."""
        finding = self.findings.setdefault((code, message), Finding(code, message, example=example))
        finding.number += 1


def check(
    plan: Plan,
    changes: Iterable[Change | DeadLetter],
    sample: int | None = None,
    located: Callable[[DeadLetter], DeadLetter] = lambda dead_letter: dead_letter,
    looked_at: Callable[[NewestVersions], None] = lambda versions: None,
) -> list[Checked]:
    """Looks at the documents of every collection that the plan reads.

    Args:
        plan: The views whose models and references are checked.
        changes: Every version of every document.
        sample: How many documents of each collection are looked at (the first ones); None for all.
        located: Adds to a dead letter where its line is.
        looked_at: Called at the end with the documents that were looked at.

    Returns:
        What was found in each collection; lines without a path are under `(unreadable)`.
    """
    checked = [Checked(collection) for collection in plan.collections]
    unreadable = Checked("(unreadable)")

    def refuse(dead_letter: DeadLetter) -> None:
        indexes = plan.types_of(dead_letter.path) if dead_letter.path is not None else ()
        for one in [checked[index] for index in indexes] or [unreadable]:
            one.add(dead_letter.code, dead_letter.message, located(dead_letter).about)

    versions = NewestVersions(plan, refuse)
    newest: list[dict[str, tuple[int, bool]]] = [{} for _ in plan.collections]  # of each path: version, is_deleted
    chosen: list[set[str]] = [set() for _ in plan.collections]
    for change in changes:
        if isinstance(change, DeadLetter):
            refuse(change)
            continue
        indexes = plan.types_of(change.path)
        for index in indexes:
            version = change.version, change.is_deleted
            newest[index][change.path] = max(version, newest[index].get(change.path, version))
            if sample is None or len(chosen[index]) < sample:
                chosen[index].add(change.path)
        if any(change.path in chosen[index] for index in indexes):
            versions.add(change)
    seen = [{path for path, (_, is_deleted) in one.items() if not is_deleted} for one in newest]
    for index, one in enumerate(checked):
        one.documents, one.paths = len(versions.types[index].documents), len(seen[index])
    _find_dangling(plan, versions, seen, checked)
    looked_at(versions)
    return [one for one in [*checked, unreadable] if one.paths or one.findings]


def _find_dangling(plan: Plan, versions: NewestVersions, seen: list[set[str]], checked: list[Checked]) -> None:
    """Counts the references that lead to no document; each field once, even if several edges read it."""
    looked_at_fields: set[tuple[int, str, int]] = set()
    for view, edge in plan.edges():
        match edge:
            case Reference():
                holder = plan.views[view].by_name[edge.parent or ""]
                text, target = edge.field.text, edge.type_index
            case Referrers():
                holder = edge
                text, target = edge.by.text, plan.views[view].by_name[edge.parent or ""].type_index
            case Root() | Group() | Fixed():
                continue  # no document refers to another one along these
            case _:
                assert_never(edge)
        if (holder.type_index, text, target) in looked_at_fields:
            continue
        looked_at_fields.add((holder.type_index, text, target))
        for path, document in versions.types[holder.type_index].documents.items():
            try:
                if not is_shown(holder, document):
                    continue
                found = (
                    targets(edge, document)
                    if isinstance(edge, Referrers)
                    else [p for _, p in references(edge, document)]
                )
            except FunctionRaised:
                continue  # a run reports it as a dead letter
            for wanted in found:
                if not Ref.at(wanted).is_local:
                    message = f"{text} leads into another database, whose documents are not read"
                    checked[holder.type_index].add("foreign_reference", message, f"{path} -> {wanted}")
                elif wanted not in seen[target]:
                    message = f"{text} leads to no document"
                    checked[holder.type_index].add("dangling_reference", message, f"{path} -> {wanted}")

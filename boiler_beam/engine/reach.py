"""What a row has over each edge, where all documents are at hand: looked up from the row's own documents on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from typing_extensions import assert_never

from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Fixed, Group, Reference, Referrers, Root

__all__ = ["Reached", "reach"]

Reached = Mapping[str, DomainModel]


def reach(
    edge: Edge,
    parents: Callable[[], Reached],
    shown: Callable[[str], DomainModel | None],
    lying: Callable[[str], Iterable[DomainModel]],
    references: Callable[[Reference, DomainModel], Iterable[tuple[str | None, str]]],
) -> dict[str, DomainModel]:
    """The documents that an edge without a limit reaches, by path; those of a list or map in its order.

    Args:
        edge: The edge; not a root or group.
        parents: The documents that its parent edge reached.
        shown: The document at a path, where the edge shows it.
        lying: The documents that refer to a path, where the edge shows them.
        references: What a document refers to over the edge; see `boiler_beam.steps.functions.references`.
    """
    found: dict[str, DomainModel] = {}
    match edge:
        case Reference():
            for parent in parents().values():
                for _, path in references(edge, parent):
                    if (document := shown(path)) is not None:
                        found[path] = document
        case Referrers():
            for key in parents():
                for document in lying(key):
                    found[document.path] = document
        case Fixed():
            if (document := shown(edge.path)) is not None:
                found[edge.path] = document
        case Root() | Group():
            raise AssertionError("the row's own edge is reached from the start")
        case _:
            assert_never(edge)
    return found

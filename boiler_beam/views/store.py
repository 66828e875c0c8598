"""The store of a view: the documents that a row is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from boiler_beam.models import DomainModel
from boiler_beam.values import Ref
from boiler_beam.views.edges import EdgeDeclaration

__all__ = ["Store"]

ModelT = TypeVar("ModelT", bound=DomainModel)


class Store:
    """Base of the class `Store` in a view. Its attributes are edges; in a getter, the documents of these edges.

    `self.store[ref]` is the document that a `Ref` points to if any edge reached it, else None.
    """

    def __init__(self, reach: Callable[[str], Any], find: Callable[[str], DomainModel | None]) -> None:
        """Creates the store of one row.

        Args:
            reach: Returns the document or the documents of an edge, by its name; called once for each edge.
            find: Returns the document at a path if any edge reached it.
        """
        self.__dict__["_reach"] = reach
        self.__dict__["_find"] = find

    def __getitem__(self, ref: Ref[ModelT]) -> ModelT | None:
        return self.__dict__["_find"](ref.path)  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a store is read-only: {name!r} can't be set")

    @classmethod
    def declared_edges(cls) -> dict[str, EdgeDeclaration]:
        """Returns the edges in the order of their declaration, those of base stores first."""
        edges = {}
        for base in reversed(cls.__mro__):
            for name, value in base.__dict__.items():
                if isinstance(value, EdgeDeclaration):
                    edges[name] = value
        return edges

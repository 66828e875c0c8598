"""The store of a view: which documents a row is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from boiler_beam.models import DomainModel
from boiler_beam.values import Ref
from boiler_beam.views.edges import EdgeDeclaration

__all__ = ["Store"]

ModelT = TypeVar("ModelT", bound=DomainModel)


class Store:
    """Base of the class `Store` in a view. Its attributes are edges; in a row, what they reached.

    `self.store[ref]` is the document that a `Ref` points to when any edge reached it, else None.
    """

    def __init__(self, reach: Callable[[str], Any], find: Callable[[str], DomainModel | None]) -> None:
        """Args: what an edge reached, by its name, asked once; the reached document at a path."""
        self.__dict__["_reach"] = reach
        self.__dict__["_find"] = find

    def __getitem__(self, ref: Ref[ModelT]) -> ModelT | None:
        return self.__dict__["_find"](ref.path)  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a store is read-only: {name!r} can't be set")

    @classmethod
    def declared_edges(cls) -> dict[str, EdgeDeclaration]:
        """The edges in the order of their declaration, those of base stores first."""
        edges = {}
        for base in reversed(cls.__mro__):
            for name, value in base.__dict__.items():
                if isinstance(value, EdgeDeclaration):
                    edges[name] = value
        return edges

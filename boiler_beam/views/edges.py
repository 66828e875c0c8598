"""The edges that a store declares: `root`, `reference`, `referrers`, `group` and `document`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from boiler_beam.models import DomainModel

__all__ = ["EdgeDeclaration", "document", "group", "reference", "referrers", "root"]

ModelT = TypeVar("ModelT", bound=DomainModel)
Where = Callable[[Any], bool]
OrderBy = str | tuple[str, ...] | None


class EdgeDeclaration:
    """One declared edge of a store; the plan compiles it.

    In a getter, the attribute of the store is the edge's document, or a dict of its documents.
    """

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        self.options = options
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, store: object | None, owner: type) -> Any:
        if store is None:
            return self
        # Stored on the instance, where later reads find it first, because this descriptor has no __set__.
        value = store.__dict__[self.name] = store.__dict__["_reach"](self.name)
        return value


def root(model: type[ModelT], *, where: Callable[[ModelT], bool] | None = None) -> ModelT:
    """Declares the root: one row for each document of the model for which `where` is true."""
    return EdgeDeclaration("root", model=model, where=where)  # type: ignore[return-value]


def reference(
    path: str,
    *,
    optional: bool = False,
    to: type[DomainModel] | None = None,
    where: Where | None = None,
    order_by: OrderBy = None,
    limit: int | None = None,
    only: tuple[str, ...] | None = None,
) -> Any:
    """Declares an edge to the documents that a field refers to.

    Args:
        path: An edge of the store and a field path in its documents: `"meeting.location"`, `"tickets.user"`,
            `"order.items.product"` (through lists, maps and structs), `"products.doc_id"` (with `to=`).
        optional: Whether a missing single document is None; otherwise there is no row without it.
        to: The model of the documents, if the field holds ids instead of a `Ref`.
        where: A pure function of the document; documents for which it is false count as missing.
        order_by: The fields by which documents are sorted, `"-sent_at"` for descending order; nulls last, ties by path.
        limit: The maximal number of documents in a row: the first ones in that order.
        only: The fields that getters read; other fields are not sent to the row.
    """
    return EdgeDeclaration(
        "reference", path=path, optional=optional, to=to, where=where, order_by=order_by, limit=limit, only=only
    )


def referrers(
    model: type[ModelT],
    *,
    by: str,
    of: str | None = None,
    where: Callable[[ModelT], bool] | None = None,
    order_by: OrderBy = None,
    limit: int | None = None,
    only: tuple[str, ...] | None = None,
) -> dict[str, ModelT]:
    """Declares an edge to the documents of a model that refer to the documents of another edge.

    Args:
        model: The model of the referring documents.
        by: Its field that holds the reference, or a list or map of references.
        of: The edge whose documents they refer to; by default the root.
        where: A pure function of the document; documents for which it is false count as missing.
        order_by: The fields by which documents are sorted, `"-sent_at"` for descending order; nulls last, ties by path.
        limit: The maximal number of documents in a row: the first ones in that order.
        only: The fields that getters read; other fields are not sent to the row.
    """
    return EdgeDeclaration(  # type: ignore[return-value]
        "referrers", model=model, by=by, of=of, where=where, order_by=order_by, limit=limit, only=only
    )


def group(
    model: type[ModelT],
    *,
    by: str | tuple[str, ...],
    where: Callable[[ModelT], bool] | None = None,
    order_by: OrderBy = None,
    limit: int | None = None,
    only: tuple[str, ...] | None = None,
) -> dict[str, ModelT]:
    """Declares a group: one row for each distinct key, whose members are the documents with that key.

    Args:
        model: The members' model.
        by: The key: a field, a path into structs, a property, a list (the document is then in several groups), or a
            tuple of these. A document with a null in its key is in no group.
        where: A pure function of the document; documents for which it is false are in no group.
        order_by: The fields by which members are sorted, `"-sent_at"` for descending order; nulls last, ties by path.
        limit: The maximal number of members in a row: the first ones in that order.
        only: The fields that getters read; other fields are not sent to the row.
    """
    return EdgeDeclaration(  # type: ignore[return-value]
        "group", model=model, by=by, where=where, order_by=order_by, limit=limit, only=only
    )


def document(
    model: type[ModelT], path: str, *, optional: bool = False, where: Callable[[ModelT], bool] | None = None
) -> ModelT:
    """Declares one fixed document for all rows: `document(Rates, "config/rates")`. Its changes affect every row."""
    return EdgeDeclaration("document", model=model, path=path, optional=optional, where=where)  # type: ignore[return-value]

"""The edges of a store, as they are declared: `root`, `reference`, `referrers`, `group`, `document`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from boiler_beam.models import DomainModel

__all__ = ["EdgeDeclaration", "document", "group", "reference", "referrers", "root"]

ModelT = TypeVar("ModelT", bound=DomainModel)
Where = Callable[[Any], bool]
OrderBy = str | tuple[str, ...] | None


class EdgeDeclaration:
    """One edge of a store, as written; the plan makes of it what executors read.

    In a store of a row it is read as what the edge reached.
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
        # A plain attribute of the instance from now on: it is found before this descriptor, which has no __set__.
        value = store.__dict__[self.name] = store.__dict__["_reach"](self.name)
        return value


def root(model: type[ModelT], *, where: Callable[[ModelT], bool] | None = None) -> ModelT:
    """One row for each document of the model (that `where` shows)."""
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
    """The documents that a field refers to.

    Args:
        path: An edge of the store and a field path in its documents: `"meeting.location"`, `"tickets.user"`,
            `"order.items.product"` (through lists, maps and structs), `"products.doc_id"` (with `to=`).
        optional: None instead of no row, where a single document is missing.
        to: The model whose ids the field holds, where it is no `Ref`.
        where: Refuses documents, which then count as missing: a pure function of the document.
        order_by: The fields that sort them, `"-sent_at"` descending; nulls last, ties by path.
        limit: How many a row has at the most: the first ones in that order.
        only: The fields that getters read; others do not travel to the row.
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
    """The documents of a model that refer to what another edge reached.

    Args:
        model: Their model.
        by: Their field that holds the reference, or a list or map of references.
        of: The edge that they refer to; by default the root.
        where: Refuses documents, which then count as missing: a pure function of the document.
        order_by: The fields that sort them, `"-sent_at"` descending; nulls last, ties by path.
        limit: How many a row has at the most: the first ones in that order.
        only: The fields that getters read; others do not travel to the row.
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
    """One row for each distinct key: its members are the documents that share it.

    Args:
        model: The members' model.
        by: What the key is: a field, a path into structs, a property, a list (the document is then in several groups),
            or a tuple of these; a document with a null in its key is in no group.
        where: Refuses documents, which are then in no group: a pure function of the document.
        order_by: The fields that sort them, `"-sent_at"` descending; nulls last, ties by path.
        limit: How many members a row shows at the most: the first ones in that order.
        only: The fields that getters read; others do not travel to the row.
    """
    return EdgeDeclaration(  # type: ignore[return-value]
        "group", model=model, by=by, where=where, order_by=order_by, limit=limit, only=only
    )


def document(
    model: type[ModelT], path: str, *, optional: bool = False, where: Callable[[ModelT], bool] | None = None
) -> ModelT:
    """One fixed document for every row, `document(Rates, "config/rates")`. Each change of it touches all rows."""
    return EdgeDeclaration("document", model=model, path=path, optional=optional, where=where)  # type: ignore[return-value]

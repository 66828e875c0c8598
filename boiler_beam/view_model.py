"""`ViewModel` as users see it: the declaration of `boiler_beam.views`, and `get`, which runs the engine.

It is a module of its own because `views` is below the engine, which may not be imported there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from boiler_beam.views import ViewModel as DeclaredView

__all__ = ["ViewModel"]


class ViewModel(DeclaredView):
    """Base of the classes for the rows of one view.

    Class keywords: `collection` (rows are written at `collection/{root id or key}`) or `path`
    (`"users/{user}/inbox/{id}"`), `case` (`"camel"` or `"snake"`: how names are stored), `revision` (another value
    forces a rebuild), `max_paths` (the maximal number of copies of a row, 10,000 by default), `indexed` (names of
    properties by which servers find and order rows).

    A view may define `paths(self)`, which yields a dict of the path's placeholders for each copy of a row, and
    `viewers(self)` and `editors(self)`, which yield who may see and change the row.

    Attributes:
        store: The documents that the row is made of.
        key: The key of a group's row: text, int, or a tuple of these. For views with a root, the root's id.
        path: The row's path, `meeting_sessions/m1`.
        doc_id: Its last segment.
        at: The placeholders of its path: `{"user": "u1", "id": "c1"}`.
    """

    __boiler_base__: ClassVar[bool] = True

    @classmethod
    def get(cls, row_id: str, *, source: Any, at: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """Computes one row from the current domain documents, independently of any sink.

        A source that can read documents by key (`firestore:`) reads only the documents of this row: one call for each
        level of references, one query for each parent of `referrers`, and one for a group's members. Other sources are
        read completely.

        Args:
            row_id: The root's id (its path if its collection is not flat), or the group's id.
            source: A URI (`firestore:my-project`), or an opened source.
            at: Placeholders of the path that select a copy of the row, if `paths()` yields several.

        Returns:
            The fields of the row, as Firestore values; None if there is no row.

        Raises:
            DeclarationError: The class can't be compiled.
            UsageError: The source can't be read, or there are several copies.
            BoilerBeamError: A document is invalid, or a getter raised.
        """
        from boiler_beam.engine.fresh import fresh_row  # slow to import, and rarely needed

        return fresh_row(cls, row_id, source, at or {})

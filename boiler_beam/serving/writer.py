"""What a server needs to take writes; `boiler_beam.writing.Writer` is it, over `firestore:` and `documents:`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from boiler_beam.events import Stamp
from boiler_beam.writing import Written
from boiler_beam.writing.writer import User

__all__ = ["Writer", "Written"]


class Writer(Protocol):
    """Writes documents by the setters and the `new` of views. It is called in several threads at the same time."""

    def update(self, view: str, id: str, fields: Mapping[str, Any], if_match: Stamp | None, user: User) -> Written:
        """Sets properties of a row in one transaction.

        Args:
            view: The view's name.
            id: The row's id; its path if the view has several placeholders.
            fields: Values as JSON has them, by the stored names of properties.
            if_match: The row is changed only if this is its stamp; None: in any case.
            user: Who writes; None: everything is allowed.

        Raises:
            WriteRefused: Nothing was written.
            Conflict: The documents were changed by others all the time.
        """

    def create(self, view: str, fields: Mapping[str, Any], user: User) -> Written:
        """Calls `new` of a view in one transaction.

        Args:
            view: The view's name.
            fields: Values as JSON has them, by the names of the arguments.
            user: Who writes; None: everything is allowed.

        Raises:
            WriteRefused: Nothing was written.
            Conflict: The documents were changed by others all the time.
        """

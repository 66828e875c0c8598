"""How writes reach the domain documents: what a package that writes has to implement for a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from boiler_beam.events import Stamp
from boiler_beam.serving.access import User

__all__ = ["Created", "Refused", "Writer", "Written"]


class Written(msgspec.Struct, frozen=True):
    """What a write did.

    Attributes:
        versions: The version of each document that it wrote, in microseconds, by path.
    """

    versions: Mapping[str, int]


class Created(msgspec.Struct, frozen=True):
    """A row that was created.

    Attributes:
        id: Its id.
        versions: The version of each document that was written, in microseconds, by path.
    """

    id: str
    versions: Mapping[str, int]


@dataclass(frozen=True)
class Refused(Exception):
    """A write that a writer refuses; nothing was written.

    Attributes:
        status: 403 (not allowed), 404 (the row's documents are not there), 405 (it can't be written at all), 409 (it
            lost against other writes), 412 (the row is newer than `if_match`) or 422 (a value is invalid).
        detail: Why, for the client.
        field: The name of the field in the class, where one is invalid.
    """

    status: int
    detail: str
    field: str | None = None


class Writer(Protocol):
    """Writes domain documents by the setters and the `new` of views. It is called in threads, at the same time.

    The server has checked that the view exists, that its properties have setters, and that the user may edit the row.
    """

    def update(self, view: str, id: str, fields: Mapping[str, Any], if_match: Stamp | None, user: User) -> Written:
        """Sets properties of a row in one transaction.

        Args:
            view: The view's name.
            id: The row's id.
            fields: Values as JSON has them, by the property's name in the class.
            if_match: The row is changed only if this is its stamp; None: in any case.
            user: Who writes.

        Raises:
            Refused: Nothing was written.
        """

    def create(self, view: str, fields: Mapping[str, Any], user: User) -> Created:
        """Calls `new` of a view in one transaction.

        Args:
            view: The view's name.
            fields: Values as JSON has them, by the name of the argument.
            user: Who writes.

        Raises:
            Refused: Nothing was written.
        """

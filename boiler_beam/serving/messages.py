"""What a client is sent about a row: change messages of the State Protocol of Durable Streams, encoded once for all.

    {"type": "MeetingSession", "key": "m1", "value": {...the row...}, "headers": {"operation": "update", "txid": "7"}}

`txid` is the number of the commit. A row that is gone, or that a client may no longer see, is a `delete`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from boiler_beam.serving.access import Access, User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.reader import Changed, StoredRow

__all__ = ["Message", "control", "messages_of", "newest"]

EVERYONE = ""
"""What is logged of a row that was there and named no viewers."""


def control(kind: str, offset: str = "") -> bytes:
    """Returns a control message: `snapshot-start`, `snapshot-end` or `reset`."""
    headers = {"control": kind, "offset": offset} if offset else {"control": kind}
    return msgspec.json.encode({"headers": headers})


class Message:
    """One row at one commit.

    Attributes:
        path: The row's path.
        number: The commit; 0 in a snapshot.
        row: The row as it is now; None if it is gone.
        is_deleted: Whether the row is gone.
        viewers: Who may see it now.
        were: Who might see it before, one for each earlier state that this message replaces; None: it was not there.
    """

    def __init__(
        self, view: ServedView, path: str, number: int, row: StoredRow | None, were: Sequence[str | None]
    ) -> None:
        self._view, self.row = view, row
        self.path, self.number, self.were = path, number, tuple(were)
        self.is_deleted = row is None
        self._encoded: dict[tuple[str, frozenset[str]], bytes] = {}
        self._values: dict[frozenset[str], msgspec.Raw] = {}
        self.viewers: frozenset[str] = (
            view.principals(row, "_viewers") if row is not None and view.has_viewers else frozenset()
        )

    @cached_property
    def delete(self) -> bytes:
        """The message for a client that may not have it any longer."""
        return msgspec.json.encode({"type": self._view.name, "key": self._key, "headers": self._headers("delete")})

    @property
    def id(self) -> str:
        """The row's id."""
        return self._key

    def after(self, older: Message) -> Message:
        """Returns this message for a client that has not seen an older one of the same row either."""
        return Message(self._view, self.path, self.number, self.row, (*older.were, *self.were))

    def to(self, user: User, access: Access, hidden: frozenset[str] = frozenset()) -> bytes | None:
        """Returns what a user is sent; None: nothing.

        Args:
            user: The user.
            access: Says who may see what.
            hidden: The properties that the user may not see.
        """
        was_there = self.was_seen(user, access)
        if self.row is not None and access.sees(user, self.viewers):
            return self._upsert("update" if was_there else "insert", self.row, hidden)
        return self.delete if was_there else None

    def was_seen(self, user: User, access: Access) -> bool:
        """Returns whether a user might see the row before."""
        return any(was is not None and access.sees(user, _principals(was)) for was in self.were)

    def is_seen(self, user: User, access: Access) -> bool:
        """Returns whether a user may see the row now."""
        return not self.is_deleted and access.sees(user, self.viewers)

    @property
    def _key(self) -> str:
        return self._view.id_of(self.path)

    def _headers(self, operation: str) -> dict[str, str]:
        headers = {"operation": operation}
        if self.number:
            headers["txid"] = str(self.number)
        return headers

    def _upsert(self, operation: str, row: StoredRow, hidden: frozenset[str]) -> bytes:
        """Returns the message with the row: encoded once for all clients that see the same of it."""
        found = self._encoded.get((operation, hidden))
        if found is None:
            value = self._values.get(hidden)
            if value is None:
                value = self._values[hidden] = msgspec.Raw(self._view.row(row, hidden))
            message = {"type": self._view.name, "key": self._key, "value": value, "headers": self._headers(operation)}
            found = self._encoded[operation, hidden] = msgspec.json.encode(message)
        return found


def _principals(was: str) -> frozenset[str]:
    return frozenset(msgspec.json.decode(was, type=list[str])) if was else frozenset()


def messages_of(view: ServedView, changed: Iterable[Changed]) -> list[Message]:
    """Returns a message for each row that changed, with its newest state, in the order of commits."""
    return newest(Message(view, one.path, one.number, one.row, (one.was,)) for one in changed)


def newest(messages: Iterable[Message]) -> list[Message]:
    """Returns the newest message of each row, in the order of commits."""
    found: dict[str, Message] = {}
    for one in messages:
        older = found.pop(one.path, None)
        found[one.path] = one if older is None else one.after(older)
    return list(found.values())

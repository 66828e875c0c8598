"""Roles from a collection of memberships: documents that say who has which role, everywhere or in another document.

    memberships/1  {"user": "ann", "role": "host", "of": <meetings/m1>}    ->  ann has role:host@meetings/m1
    memberships/2  {"user": "ann", "role": "admin"}                        ->  ann has role:admin

    --roles memberships
    --roles 'members?user=person&role=kind&of=meeting'

A user's roles are read by one query and kept for some seconds, so a role that was given or taken away holds after that
time, also for clients that follow rows: they get all rows again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

import anyio.to_thread
import msgspec

from boiler_beam.connectors import KeyedSource, Source
from boiler_beam.errors import UsageError
from boiler_beam.values import Ref, decode_fields
from boiler_beam.views.visibility import role

__all__ = ["Memberships", "Roles", "StoredRoles", "memberships_of"]

_REMEMBERED = 10_000


class Roles(Protocol):
    """Says which roles a user has, beside those in their token."""

    async def __call__(self, user_id: str) -> Iterable[str]:
        """Returns roles as `boiler_beam.role` writes them. It is called often: keep what is slow to find out."""


@dataclass(frozen=True)
class Memberships:
    """Where memberships are.

    Attributes:
        collection: The collection, as models declare it.
        user: The field with the user's id, or with a reference to the document with that id in `users`.
        role: The field with the role's name.
        of: The field with the document in which it holds: a reference or a path. Missing or null: everywhere.
        users: The collection of the users, where `user` is a reference; None: it is text.
        seconds: How long the roles of a user are kept.
    """

    collection: str
    user: str = "user"
    role: str = "role"
    of: str = "of"
    users: str | None = None
    seconds: float = 30.0


def memberships_of(text: str) -> Memberships:
    """Returns what `--roles` says.

    >>> memberships_of("members?user=person&users=people").users
    'people'

    Raises:
        UsageError: It is not `COLLECTION` or `COLLECTION?user=FIELD&role=FIELD&of=FIELD&users=COLLECTION`.
    """
    collection, _, query = text.partition("?")
    named: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if not collection or not set(named) <= {"user", "role", "of", "users"} or not all(named.values()):
        raise UsageError(
            f"--roles {text}: expected COLLECTION?user=FIELD&role=FIELD&of=FIELD&users=COLLECTION, got another text; "
            "fix: write it so; all behind the collection may be left out"
        )
    return Memberships(collection, **named)


class StoredRoles:
    """Reads roles from memberships in a source.

    Args:
        where: Where memberships are.
        source: The documents.
        clock: Seconds.

    Raises:
        UsageError: The source can't be queried.
    """

    def __init__(self, where: Memberships, source: Source | None, clock: Callable[[], float] = time.monotonic) -> None:
        if not isinstance(source, KeyedSource):
            raise UsageError(
                f"--roles {where.collection}: expected documents that can be queried, got none; "
                "fix: name documents:PATH or firestore:PROJECT as a source"
            )
        self.where, self.source, self.clock = where, source, clock
        self._known: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, user_id: str) -> frozenset[str]:
        """Returns the roles of a user; see `Roles`."""
        known = self._known.get(user_id)
        if known is not None and self.clock() < known[0]:
            return known[1]
        found = await anyio.to_thread.run_sync(self._read, user_id)
        self._known[user_id] = self.clock() + self.where.seconds, found
        self._known.move_to_end(user_id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _read(self, user_id: str) -> frozenset[str]:
        where = self.where
        if where.users is not None and "/" in user_id:
            return frozenset()
        wanted: Any = user_id if where.users is None else Ref(f"{where.users}/{user_id}")
        with self._lock:  # a source is not for several threads
            changes = list(self.source.query(where.collection, [(where.user, "==", wanted)]))
        found = (_role(where, decode_fields(msgspec.Raw(one.fields))) for one in changes if not one.is_deleted)
        return frozenset(one for one in found if one is not None)


def _role(where: Memberships, fields: dict[str, Any]) -> str | None:
    """Returns the role of a membership; None where the document does not say it."""
    name, of = fields.get(where.role), fields.get(where.of)
    if not isinstance(name, str) or not name or "@" in name:
        return None
    if of is None:
        return role(name)
    if isinstance(of, str):
        return f"role:{name}@{of}"
    return role(name, of=of) if isinstance(of, Ref) else None

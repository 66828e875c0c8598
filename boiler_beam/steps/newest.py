"""Newest versions: of all that was observed of each document, the version that stands (S1, S2).

>>> from boiler_beam.samples import meeting
>>> from boiler_beam.plan import compile_plan
>>> versions = NewestVersions(compile_plan([meeting.OrganizationSummary]), print)
>>> fields = b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'
>>> versions.add(Change("users/u1", 7, msgspec.Raw(fields)))
>>> versions.add(Change("users/u1", 6, msgspec.Raw(b"null")))
>>> versions.documents[0]["users/u1"].display_name
'Ann Gray'
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Plan
from boiler_beam.values import INT64_MAX, decode_fields, encode_fields

__all__ = ["NewestVersions", "dead_letter_of", "digest_of", "families_lost", "is_newest_invalid", "replaces"]

_encode = msgspec.msgpack.Encoder().encode


def dead_letter_of(stage: str, code: str, message: str, change: Change) -> DeadLetter:
    """The dead letter of a change that was read but can't be used."""
    return DeadLetter(
        stage=stage,
        code=code,
        message=message,
        path=change.path,
        version=change.version,
        input=bytes(change.fields).decode("utf-8", "backslashreplace"),
    )


def digest_of(letter: DeadLetter) -> bytes:
    """What tells dead letters apart: of two with the same one, one is enough."""
    parts = (letter.code, letter.path, letter.version, letter.message, letter.input)
    return hashlib.blake2b(_encode(parts), digest_size=8).digest()


def families_lost(plan: Plan, letter: DeadLetter) -> Iterable[int]:
    """The families (places in the plan) of which an input that could not be read may have been a document."""
    return range(len(plan.families)) if letter.path is None else plan.families_of(letter.path)


def _canonical(fields: bytes) -> bytes:
    """What two versions are compared by: equal fields, equal bytes."""
    try:
        return encode_fields(decode_fields(fields))
    except (ValueError, RecursionError):  # in a field that the model does not read
        return fields


def replaces(change: Change, version: int, fields: bytes, model: str, refuse: Callable[[DeadLetter], None]) -> bool:
    """Whether a valid or deleted version takes the place of the one that stands (S1).

    Of two that differ at the same version, the greater canonical encoding stands; the other one is a dead letter.

    Args:
        change: The version that came.
        version: The one that stands.
        fields: Its fields.
        model: What the documents are: two models may read one collection, and judge for themselves.
        refuse: Takes the dead letter.
    """
    mine, other = (version, fields == b"null"), (change.version, change.is_deleted)
    if mine != other:
        return mine < other
    came = bytes(change.fields)
    if came == fields:
        return False
    standing, new = _canonical(fields), _canonical(came)
    if standing == new:
        return False
    loser = change if new < standing else Change(change.path, version, msgspec.Raw(fields))
    message = f"{model}: expected one document at version {version}, got two that differ; the other one stands"
    refuse(dead_letter_of("newest", "version_conflict", message, loser))
    return loser is not change


def is_newest_invalid(change: Change, standing: int | None, invalid: tuple[int, bytes] | None) -> bool:
    """Whether an invalid version is kept: it is newer than what stands, and than the invalid one that is known (S2)."""
    is_newer = invalid is None or invalid < (change.version, bytes(change.fields))
    return is_newer and (standing is None or standing < change.version)


class NewestVersions:
    """The newest valid-or-deleted version of every document, family by family.

    Args:
        plan: Says which documents are read, and how.
        refuse: Takes the dead letters.

    Attributes:
        documents: Of each family of the plan, the documents that stand, by path.
        changes: Of each family, the changes that they came from, deletions among them.
        invalid: Of each family, the newest invalid version of the documents that have none newer that stands.
        lost: The families of which a document may have been lost, because an input could not be read.
        number_of_changes: How many changes were observed.
        newest_version: The newest version of all, in microseconds since the epoch; 0 where there is none.
    """

    def __init__(self, plan: Plan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan = plan
        self.refuse = refuse
        self._told: set[bytes] = set()
        self.documents: list[dict[str, DomainModel]] = [{} for _ in plan.families]
        self.changes: list[dict[str, Change]] = [{} for _ in plan.families]
        self.invalid: list[dict[str, Change]] = [{} for _ in plan.families]
        self.lost: set[int] = set()
        self.number_of_changes = 0
        self.newest_version = 0

    def add(self, change: Change) -> None:
        """Takes one observed version."""
        self.add_all([change])

    def add_all(self, changes: Iterable[Change | DeadLetter]) -> None:
        """Takes what a source gives: changes, and dead letters of what is none."""
        number, newest = 0, self.newest_version
        families, families_of = self.plan.families, self.plan.families_of
        for change in changes:
            if isinstance(change, DeadLetter):
                self.refuse(change)
                self.lost.update(families_lost(self.plan, change))
                if change.path is not None:
                    self.add_unreadable(change.path)
                continue
            number += 1
            path, version = change.path, change.version
            if version > newest:
                newest = version
            for place in families_of(path):
                standing = self.changes[place]
                if path in standing or path in self.invalid[place]:
                    self._replace(place, change)
                    continue
                try:
                    self.documents[place][path] = families[place].decode(path, version, change.fields)
                except InvalidDocument as error:
                    if not change.is_deleted:
                        self._refuse(place, change, error)
                        continue
                standing[path] = change
        self.number_of_changes += number
        self.newest_version = newest

    def add_unreadable(self, path: str) -> None:
        """Takes that some version of a document could not be read: nothing is known of it, not even which it was."""
        for place in self.plan.families_of(path):
            self.invalid[place][path] = Change(path, INT64_MAX, msgspec.Raw(b"null"))

    def _once(self, letter: DeadLetter) -> None:
        """A version that comes twice is one dead letter."""
        which = digest_of(letter)
        if which not in self._told:
            self._told.add(which)
            self.refuse(letter)

    def _refuse(self, place: int, change: Change, error: InvalidDocument) -> None:
        self._once(dead_letter_of("decode", error.code, str(error), change))
        older, standing = self.invalid[place].get(change.path), self.changes[place].get(change.path)
        known = None if older is None else (older.version, bytes(older.fields))
        if is_newest_invalid(change, None if standing is None else standing.version, known):
            self.invalid[place][change.path] = change

    def _replace(self, place: int, change: Change) -> None:
        """Takes another version of a document that is known."""
        path, standing = change.path, self.changes[place].get(change.path)
        document = None
        if not change.is_deleted:
            try:
                document = self.plan.families[place].decode(path, change.version, change.fields)
            except InvalidDocument as error:
                self._refuse(place, change, error)
                return
        if standing is not None:
            model = self.plan.families[place].base.__name__
            if not replaces(change, standing.version, bytes(standing.fields), model, self._once):
                return
        self.changes[place][path] = change
        if document is None:
            self.documents[place].pop(path, None)
        else:
            self.documents[place][path] = document
        older = self.invalid[place].get(path)
        if older is not None and older.version <= change.version:
            del self.invalid[place][path]

    def partial(self, place: int, path: str) -> Any:
        """What can be read of the invalid version of a document: a namespace of its valid fields (S5)."""
        change = self.invalid[place][path]
        return self.plan.families[place].partial(path, change.version, msgspec.Raw(change.fields))

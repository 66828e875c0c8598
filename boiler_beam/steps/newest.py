"""Newest versions: of all that was observed of each document, the version that is current (S1, S2).

>>> from boiler_beam.samples import meeting
>>> from boiler_beam.plan import compile_plan
>>> versions = NewestVersions(compile_plan([meeting.OrganizationSummary]), print)
>>> fields = b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'
>>> versions.add(Change("users/u1", 7, msgspec.Raw(fields)))
>>> versions.add(Change("users/u1", 6, msgspec.Raw(b"null")))
>>> versions.types[0].documents["users/u1"].display_name
'Ann Gray'
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, NamedTuple

import msgspec

from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DocumentType, DomainModel
from boiler_beam.plan import Plan
from boiler_beam.values import INT64_MAX, decode_fields, encode_fields

__all__ = ["Delta", "DocumentRecord", "DocumentVersions", "Judgement", "NewestVersions", "dead_letter_of", "digest_of"]
__all__ += ["judge", "types_lost"]

NULL = b"null"
"""The fields of a deletion."""
_MOST_REFUSED = 63
"""How many dead letters of one document are remembered beside the last one."""
_set = msgspec.structs.force_setattr
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


def digest_of(dead_letter: DeadLetter) -> bytes:
    """A hash of a dead letter, by which it is reported once when it comes again."""
    parts = (dead_letter.code, dead_letter.path, dead_letter.version, dead_letter.message, dead_letter.input)
    return hashlib.blake2b(_encode(parts), digest_size=8).digest()


def types_lost(plan: Plan, dead_letter: DeadLetter) -> Iterable[int]:
    """The indexes of the document types that an unreadable input may have belonged to."""
    return range(len(plan.document_types)) if dead_letter.path is None else plan.types_of(dead_letter.path)


def _canonical(fields: bytes) -> bytes:
    """The bytes by which two versions are compared: equal for equal fields."""
    try:
        return encode_fields(decode_fields(fields))
    except (ValueError, RecursionError):  # a malformed value, in a field that the model does not read
        return fields


class Delta(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One document before and after a batch of changes; joins work with these.

    Attributes:
        path: Its path.
        old: The document before; None where there was none.
        new: The document now.
        version: The newest version or event time of its changes; rows get at least this version (S7).
    """

    path: str
    old: DomainModel | None
    new: DomainModel | None
    version: int


class DocumentRecord(NamedTuple):
    """What is kept of one document.

    Attributes:
        version: The current version, valid or a deletion; -1 if there is none.
        fields: The fields of that version as JSON; `null` for a deletion.
        invalid: Version and fields of the newest invalid version, if it is newer than the current one (S2).
        refused: The digests of the dead letters of its last refused versions: each is reported once.
    """

    version: int = -1
    fields: bytes = NULL
    invalid: tuple[int, bytes] | None = None
    refused: tuple[bytes, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is a document: its current version is not a deletion."""
        return self.fields != NULL

    @property
    def is_deletion(self) -> bool:
        """Whether the current version is a deletion."""
        return self.version >= 0 and self.fields == NULL


class Judgement(NamedTuple):
    """What an observed version changes of a document.

    Attributes:
        known: The document's new record; the same object as before if nothing changed.
        is_current: Whether the observed version is the current one now.
        document: The decoded document of that version; None for a deletion.
    """

    known: DocumentRecord
    is_current: bool = False
    document: DomainModel | None = None


def judge(
    codec: DocumentType,
    known: DocumentRecord,
    change: Change,
    refuse: Callable[[DeadLetter], None],
    *,
    current: DomainModel | None = None,
    horizon: int = 0,
    reports_again: bool = False,
) -> Judgement:
    """Decides whether an observed version becomes the current one of its document (S1, S2, S3).

    Args:
        codec: Decodes the document.
        known: The document's record so far.
        change: The observed version; it may have been observed before.
        refuse: Takes the dead letters.
        current: The decoded document of the current version, if the caller has it.
        horizon: The time before which deletions are forgotten, in microseconds: an older change of a document that is
            not known is refused.
        reports_again: Whether a version that was refused is reported again when it is refused once more.
    """
    version, fields = change.version, bytes(change.fields)
    is_equal = fields == known.fields
    if is_equal and version == known.version:
        return Judgement(known)
    if known.version < 0 and version < horizon:
        message = f"expected a change since {horizon}, before which deletions are forgotten, got an older one"
        refuse(dead_letter_of("newest", "too_old", message, change))
        return Judgement(known)
    refused = known.refused

    def refuse_once(dead_letter: DeadLetter) -> None:
        """Reports a dead letter, unless it was reported before."""
        nonlocal refused
        digest = digest_of(dead_letter)
        is_known = digest in refused
        if not is_known:
            refused = (*refused[-_MOST_REFUSED:], digest)
        if not is_known or reports_again:
            refuse(dead_letter)

    document: DomainModel | None = None
    if is_equal and current is not None:
        document = copy(current)
        _set(document, "version", version)
    elif fields != NULL:
        try:
            document = codec.decode(change.path, version, fields)
        except InvalidDocument as error:
            refuse_once(dead_letter_of("decode", error.code, str(error), change))
            is_newer = known.version < version and (known.invalid is None or known.invalid < (version, fields))
            invalid = (version, fields) if is_newer else known.invalid
            return Judgement(known._replace(invalid=invalid, refused=refused))
    if version <= known.version and not _replaces(change, known, codec.base.__name__, refuse_once):
        return Judgement(known if refused is known.refused else known._replace(refused=refused))
    invalid = None if known.invalid is None or known.invalid[0] <= version else known.invalid
    return Judgement(DocumentRecord(version, fields, invalid, refused), True, document)


def _replaces(change: Change, known: DocumentRecord, model: str, refuse: Callable[[DeadLetter], None]) -> bool:
    """Whether a valid or deleted version that is not newer replaces the current one (S1).

    Of two that differ at the same version, the greater canonical encoding is current; the other one is a dead letter.
    """
    is_deletion = known.fields == NULL
    if change.version < known.version or change.is_deleted != is_deletion:
        return change.version == known.version and change.is_deleted
    current, came = _canonical(known.fields), _canonical(bytes(change.fields))
    if current == came:
        return False
    loser = change if came < current else Change(change.path, known.version, msgspec.Raw(known.fields))
    message = f"{model}: expected one document at version {known.version}, got two that differ; the other one is kept"
    refuse(dead_letter_of("newest", "version_conflict", message, loser))
    return loser is not change


class DocumentVersions:
    """The current version of every document of one type: the newest that is valid or a deletion.

    Args:
        codec: Decodes the documents.
        refuse: Takes the dead letters.
        gives_deltas: Whether `deltas` and `undo_batch` are used; if not, old versions are not kept.

    Attributes:
        documents: The documents that exist, by path.
        fields: Their fields as JSON; if `gives_deltas` is False, slices of the bytes that the source read.
        deleted: The versions of the deletions of other documents, by path.
        invalid: `DocumentRecord.invalid` of the documents that have one.
        refused: `DocumentRecord.refused` of the documents that have one.
        horizon: The time before which deletions are forgotten (S3), in microseconds: an older change of a document
            that is not known is refused.
        reports_again: Whether a version that was refused is reported again when it is refused once more, because
            another try was asked for.
    """

    def __init__(
        self, codec: DocumentType, refuse: Callable[[DeadLetter], None], *, gives_deltas: bool = False
    ) -> None:
        self.codec, self.refuse, self.gives_deltas = codec, refuse, gives_deltas
        self.documents: dict[str, DomainModel] = {}
        self.fields: dict[str, bytes | msgspec.Raw] = {}
        self.deleted: dict[str, int] = {}
        self.invalid: dict[str, tuple[int, bytes]] = {}
        self.refused: dict[str, tuple[bytes, ...]] = {}
        self.horizon, self.reports_again = 0, False
        self._before: dict[str, tuple[DocumentRecord, DomainModel | None]] = {}
        """Record and document, from before the batch, of each document of which something changed."""
        self._delta_versions: dict[str, int] = {}
        """`Delta.version` of each document whose current version changed in the batch."""

    def record(self, path: str) -> DocumentRecord:
        """What is kept of a document."""
        document = self.documents.get(path)
        version = document.version if document is not None else self.deleted.get(path, -1)
        return DocumentRecord(
            version, bytes(self.fields.get(path, NULL)), self.invalid.get(path), self.refused.get(path, ())
        )

    def observe(self, change: Change) -> None:
        """Takes one observed version; it may have been observed before."""
        path, version = change.path, change.version
        old = self.documents.get(path)
        current = old.version if old is not None else self.deleted.get(path, -1)
        # Most versions are newer and valid. For them this decides what `judge` would (S1), in half the time.
        is_newer = version > current and path not in self.invalid and (current >= 0 or version >= self.horizon)
        if is_newer and (old is None or bytes(change.fields) not in (NULL, bytes(self.fields[path]))):
            try:
                document = self.codec.decode(path, version, change.fields)
            except InvalidDocument:
                pass  # or the deletion of a document that does not exist: `judge` decides
            else:
                self._make_current(change, old, document)
                return
        self._judge(change, old)

    def _judge(self, change: Change, old: DomainModel | None) -> None:
        """Lets `judge` decide about a version, and applies its judgement."""
        before = self.record(change.path)
        known, is_current, document = judge(
            self.codec, before, change, self.refuse, current=old, horizon=self.horizon, reports_again=self.reports_again
        )
        if known is before:
            return
        if is_current:
            self._make_current(change, old, document)
        else:
            self._keep_old(change.path, old)
        if known[2:] != before[2:]:
            self._store_refusals(change.path, known)

    def _make_current(self, change: Change, old: DomainModel | None, document: DomainModel | None) -> None:
        """Makes an observed version the current one; `document` is None for a deletion."""
        path = change.path
        if self.gives_deltas:
            self._keep_old(path, old)
            path = sys.intern(path)
            stamp = change.version if change.version > change.event_time else change.event_time
            if stamp > self._delta_versions.get(path, -1):
                self._delta_versions[path] = stamp
        if document is None:
            self.documents.pop(path, None)
            self.fields.pop(path, None)
            self.deleted[path] = change.version
            return
        if old is None:
            self.deleted.pop(path, None)
        self.documents[path] = document
        self.fields[path] = bytes(change.fields) if self.gives_deltas else change.fields

    def _keep_old(self, path: str, old: DomainModel | None) -> None:
        """Remembers a document as it was before the batch, for `deltas` and `undo_batch`."""
        if self.gives_deltas and path not in self._before:
            self._before[path] = self.record(path), old

    def _store_refusals(self, path: str, known: DocumentRecord) -> None:
        """Stores the parts of a record beside the current version: `invalid` and `refused`."""
        if known.invalid is not None:
            self.invalid[path] = known.invalid
        else:
            self.invalid.pop(path, None)
        if known.refused:
            self.refused[path] = known.refused

    def add_unreadable(self, path: str) -> None:
        """Notes that an unknown version of a document could not be read."""
        self._keep_old(path, self.documents.get(path))
        self.invalid[path] = INT64_MAX, NULL

    # Batches ----------------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> Iterable[str]:
        """The paths of the documents of which something changed since the last `end_batch`."""
        return self._before.keys()

    def deltas(self) -> list[Delta]:
        """The documents whose current version changed since the last `end_batch`."""
        documents, versions = self.documents, self._delta_versions
        return [
            Delta(path, old, documents.get(path), versions[path])
            for path, (_, old) in self._before.items()
            if path in versions
        ]

    def end_batch(self) -> None:
        """Ends the batch: it can't be undone any more."""
        self._before, self._delta_versions = {}, {}

    def undo_batch(self) -> None:
        """Restores the documents as they were before the batch (S21)."""
        for path, (known, document) in self._before.items():
            self.restore(path, known, document)
        self.end_batch()

    def restore(self, path: str, known: DocumentRecord, document: DomainModel | None) -> None:
        """Replaces all that is kept of a document."""
        for kept in (self.documents, self.fields, self.deleted, self.invalid, self.refused):
            kept.pop(path, None)
        if document is not None:
            path = sys.intern(path)
            self.documents[path], self.fields[path] = document, known.fields
        elif known.version >= 0:
            self.deleted[path] = known.version
        if known.invalid is not None:
            self.invalid[path] = known.invalid
        if known.refused:
            self.refused[path] = known.refused

    # Reading ----------------------------------------------------------------------------------------------------------

    def change_of(self, path: str) -> Change:
        """The current version of a document as a change."""
        known = self.record(path)
        return Change(path, known.version, msgspec.Raw(known.fields))

    def partial(self, path: str) -> Any:
        """What can be read of the invalid version of a document: a namespace of its valid fields (S5)."""
        version, fields = self.invalid[path]
        return self.codec.partial(path, version, msgspec.Raw(fields))


class NewestVersions:
    """The newest versions of the documents of all types that a plan reads.

    Args:
        plan: Says which documents are read, and how.
        refuse: Takes the dead letters.
        gives_deltas: See `DocumentVersions`.

    Attributes:
        types: The documents of each type, by the index of the type in the plan.
        lost: The indexes of the types of which a document may be missing, because an input could not be read.
        number_of_changes: How many changes were observed.
        newest_version: The newest version of all, in microseconds since the epoch; 0 where there is none.
    """

    def __init__(self, plan: Plan, refuse: Callable[[DeadLetter], None], *, gives_deltas: bool = False) -> None:
        self.plan, self.refuse = plan, refuse
        self.types = [DocumentVersions(codec, refuse, gives_deltas=gives_deltas) for codec in plan.document_types]
        self.lost: set[int] = set()
        self.number_of_changes = 0
        self.newest_version = 0

    def add(self, change: Change) -> None:
        """Takes one observed version."""
        self.add_all([change])

    def add_all(self, changes: Iterable[Change | DeadLetter]) -> None:
        """Takes changes, and dead letters of inputs that are none."""
        number, newest = 0, self.newest_version
        types, types_of = self.types, self.plan.types_of
        for change in changes:
            if isinstance(change, DeadLetter):
                self.refuse(change)
                self.lost.update(types_lost(self.plan, change))
                if change.path is not None:
                    self.add_unreadable(change.path)
                continue
            number += 1
            if change.version > newest:
                newest = change.version
            for index in types_of(change.path):
                types[index].observe(change)
        self.number_of_changes += number
        self.newest_version = newest

    def add_unreadable(self, path: str) -> None:
        """Notes that an unknown version of a document could not be read."""
        for index in self.plan.types_of(path):
            self.types[index].add_unreadable(path)

    @property
    def number_of_documents(self) -> int:
        """How many documents exist."""
        return sum(len(one.documents) for one in self.types)

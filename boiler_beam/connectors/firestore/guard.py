"""Writes rows to Firestore so that an older row never replaces a newer one, or restores a deleted one (S13, S17).

At each path there is a row, or a tombstone, or neither; row and tombstone have a stamp. The precondition of each write
is the known update time of its document, or that there is no document:

| state of the path | to write a row | to delete it |
| --- | --- | --- |
| a row | a write | a Commit: write the tombstone, delete the row |
| a tombstone or nothing | a Commit: write the row, delete the tombstone | a Commit: write the tombstone only |

So a path changes from one state to the next atomically, and a writer needs to know only the state that it read or wrote
last: no read is needed while it remembers the path. If a precondition fails, another writer changed the path. Then it
is read, stamps are compared, and the write is repeated or dropped. A broken call, which may have been applied, is also
repeated: if it had been applied, its precondition fails, and the stored row has the same stamp and fields.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import grpc
import msgspec

from boiler_beam.connectors.firestore.client import PASSING, Client, explained
from boiler_beam.connectors.firestore.options import RETENTION_SECONDS
from boiler_beam.connectors.firestore.protos import BatchGetDocumentsRequest, Write
from boiler_beam.connectors.firestore.rules import broken_rules
from boiler_beam.connectors.firestore.throttle import back_off
from boiler_beam.connectors.firestore.values import micros_of_proto, put_fields, put_micros, wire_of_fields
from boiler_beam.connectors.firestore.write import BatchWriter, Item, Outcome
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter, EncodedRow, Stamp

__all__ = ["Guard", "Permit", "put_stamp", "row_in", "row_of", "standing_of", "tombstone_of"]

STAMP = "_boiler"
TOMBSTONES = "_boiler_tombstones"
_LONGEST_ID = 1500
_FORBIDDEN_ID = re.compile(r"__.*__")
_READ = 250
"""The most paths in one read, which reads a row and a tombstone for each."""
_TOGETHER = 100
"""The most paths in a Commit of independent writes; if one fails, all are read again."""
_AT_ONCE = 250
"""The most paths in a Commit of writes that must become visible together."""
_ROUNDS = 50
_encode = msgspec.json.Encoder(order="deterministic").encode


def tombstone_of(path: str) -> str:
    """Returns the path of a row's tombstone.

    >>> tombstone_of("users/u1/inbox/c1")
    '_boiler_tombstones/users%2Fu1%2Finbox%2Fc1'
    """
    name = quote(path, safe="")
    if len(name) > _LONGEST_ID or _FORBIDDEN_ID.fullmatch(name):
        from hashlib import blake2b

        name = f"~{name[:1000]}~{blake2b(path.encode(), digest_size=16).hexdigest()}"
    return f"{TOMBSTONES}/{name}"


def put_stamp(fields: Any, stamp: Stamp) -> None:
    """Sets a stamp in the fields of a protobuf map."""
    for name, number in zip(Stamp._fields, stamp, strict=True):
        fields[name].integer_value = number


def _stamp_in(fields: Any) -> Stamp:
    return Stamp(*(fields[name].integer_value if name in fields else 0 for name in Stamp._fields))


def row_of(client: Client, document: Any, references: str = "") -> EncodedRow:
    """Returns the row in a protobuf document; a document without stamp is older than any row.

    Args:
        client: The database of the document.
        document: The document.
        references: The prefix of the names of local documents, as in `WriteOptions`.
    """
    return row_in(client.path_of(document.name), wire_of_fields(document.fields, references or client.root))


def row_in(path: str, fields: dict[str, Any]) -> EncodedRow:
    """Returns the row in a document with these fields (parsed JSON), of which the stamp is taken out."""
    stamp = fields.pop(STAMP, None)
    numbers = [stamp.get(name, 0) if isinstance(stamp, dict) else 0 for name in Stamp._fields]
    return EncodedRow(path, Stamp(*numbers), _encode(fields))


def standing_of(client: Client, document: Any, references: str = "") -> EncodedRow:
    """Returns the row in a protobuf document, or the deleted row for a tombstone."""
    if not client.path_of(document.name).startswith(f"{TOMBSTONES}/"):
        return row_of(client, document, references)
    return EncodedRow(document.fields["path"].string_value, _stamp_in(document.fields), None)


class Permit(Protocol):
    """The permission of this program to write, such as a lease: one program feeds a sink in one generation (S18)."""

    def covers(self, micros: int) -> bool:
        """Returns whether the permission was certainly valid at a time of the server."""

    def renew(self) -> None:
        """Extends the permission.

        Raises:
            BoilerBeamError: Another program has it.
        """


class _Known(NamedTuple):
    """The known state of a path.

    Attributes:
        row: The update time of the row in microseconds; 0: there is no row.
        tombstone: The update time of the tombstone; 0: there is none.
        stamp: The stamp of the row or tombstone.
        paced: When this program wrote the path.
    """

    row: int = 0
    tombstone: int = 0
    stamp: Stamp = Stamp(0, 0, 0)
    paced: float = float("-inf")


class Guard:
    """Writes rows, and caches the state of the paths that it wrote or read last.

    Args:
        writer: Sends the writes.
        cached: The size of the cache, in paths.
        pace_seconds: The minimal time between two writes of one path; 0: none. The first write is sent at once; of the
            waiting writes only the newest is sent.
        retention_seconds: How long tombstones are kept, if the database has a TTL policy on `expireAt`.
        now: Returns the seconds since the epoch, for `expireAt`.
        references: The prefix for the paths of references in rows, as in `WriteOptions`.
        permit: The permission of this program to write; None: it may always write.

    Attributes:
        held: The rows that the last `write` skipped, because their paths were written a moment ago, by path.
    """

    def __init__(
        self,
        writer: BatchWriter,
        *,
        cached: int = 100_000,
        pace_seconds: float = 1.0,
        retention_seconds: float = RETENTION_SECONDS,
        now: Callable[[], float] = time.time,
        references: str = "",
        permit: Permit | None = None,
    ) -> None:
        self.writer, self.client, self.counts = writer, writer.client, writer.counts
        self.cached, self.pace_seconds, self.retention_seconds = cached, pace_seconds, retention_seconds
        self.now, self.references, self.permit = now, references or writer.client.root, permit
        self.held: dict[str, EncodedRow] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._late: list[tuple[EncodedRow, int]] = []  # rows created after the permission may have expired

    def write(
        self, rows: Iterable[EncodedRow], *, is_together: bool = False, may_hold: bool = False
    ) -> list[DeadLetter]:
        """Writes rows, and deletes rows whose fields are None, unless the stored row or tombstone is newer.

        Args:
            rows: The rows; of several rows of one path the newest is written.
            is_together: Whether to use as few Commits as possible, so that the rows become visible together.
            may_hold: Whether to skip paths that were written a moment ago, instead of waiting; their rows are `held`.

        Returns:
            Dead letters of the rows that the server will never accept.

        Raises:
            UsageError: The program has no permission, or the database does not exist.
            BoilerBeamError: They can't be written; some of them may have been.
        """
        dead_letters: list[DeadLetter] = []
        waiting: dict[str, EncodedRow] = {}
        for row in rows:
            if row.path not in waiting or row.stamp >= waiting[row.path].stamp:
                waiting[row.path] = row
        rounds = 0
        while waiting:
            now = self.writer.clock()
            times = {path: self._due(path) for path in waiting} if self.pace_seconds else {}
            due = [waiting.pop(path) for path in list(waiting) if times.get(path, now) <= now]
            if not due and may_hold:
                break
            if not due:
                self.writer.wait(min(times.values()) - now)
                continue
            again = []
            for outcome in self._attempt(due, is_together=is_together, most=max(1, _TOGETHER >> rounds)):
                if outcome.kind == "refused" and len(outcome.item.mark) == 1:
                    dead_letters.append(_dead_letter(outcome.item.mark[0][0], outcome.reason))
                    continue
                is_together &= outcome.kind != "refused"  # one of them is bad: send each separately
                again += [row for row, _ in outcome.item.mark]
            waiting.update((row.path, row) for row in again)
            rounds += bool(again)
            if rounds > _ROUNDS:
                raise self._never_stands(again)
        self.held = waiting
        while len(self._known) > self.cached:
            self._known.popitem(last=False)
        return dead_letters

    def _due(self, path: str) -> float:
        known = self._known.get(path)
        return float("-inf") if known is None else known.paced + self.pace_seconds

    def _never_stands(self, rows: Sequence[EncodedRow]) -> BoilerBeamError:
        return BoilerBeamError(
            f"{self.client.uri}: expected {rows[0].path} not to change while it is written, got a new version of it "
            f"each of {_ROUNDS} times; fix: find out who else writes it"
        )

    # One attempt ------------------------------------------------------------------------------------------------------

    def _attempt(self, rows: Sequence[EncodedRow], *, is_together: bool, most: int) -> list[Outcome]:
        """Writes the rows that are newer than the known state; returns those whose precondition failed."""
        same = self._look(rows)
        single, double = [], []
        for row in rows:
            known = self._known[row.path]
            if row.path in same:
                self.counts.unchanged += 1
            elif row.stamp < known.stamp:
                self.counts.older += 1
            elif row.fields is not None and known.row and not known.tombstone and not is_together:
                single.append(row)
            else:
                double.append(row)
        failed: list[Outcome] = []
        size = _AT_ONCE if is_together else 1
        for some, is_atomic in ((single, False), (double, True)):
            items = self._items(some, size if is_atomic else 1, failed)
            for outcome in self.writer.write(items, is_atomic=is_atomic, most=1 if is_together else most):
                self._settle(outcome, failed)
        self._confirm()
        return failed

    def _items(self, rows: Sequence[EncodedRow], size: int, failed: list[Outcome]) -> Iterator[Item]:
        for start in range(0, len(rows), size):
            writes: list[Any] = []
            mark = []
            for row in rows[start : start + size]:
                try:
                    some = self._writes(row, self._known[row.path])
                except ValueError as error:  # a number beyond 64 bits, an unpaired surrogate
                    failed.append(Outcome(Item(row.path, [], [(row, 0)]), "refused", (), str(error)))
                    continue
                mark.append((row, len(some)))
                writes += some
            if mark:
                yield Item(mark[0][0].path, writes, mark)

    def _writes(self, row: EncodedRow, known: _Known) -> list[Any]:
        """Returns the writes that change a path from its known state to this row; the written document comes first."""
        written, tombstone = Write(), tombstone_of(row.path)
        if row.fields is None:
            written.update.name = self.client.root + tombstone
            fields = written.update.fields
            fields["path"].string_value = row.path
            put_stamp(fields, row.stamp)
            put_micros(fields["expireAt"].timestamp_value, round((self.now() + self.retention_seconds) * 1e6))
            return [_following(written, known.tombstone), self._deletion(row.path, known.row)]
        written.update.name = self.client.root + row.path
        put_fields(written.update.fields, row.fields, self.references)
        put_stamp(written.update.fields[STAMP].map_value.fields, row.stamp)
        if known.row and not known.tombstone:
            return [_following(written, known.row)]
        return [_following(written, known.row), self._deletion(tombstone, known.tombstone)]

    def _deletion(self, path: str, micros: int) -> Any:
        return _following(Write(delete=self.client.root + path), micros)

    def _settle(self, outcome: Outcome, failed: list[Outcome]) -> None:
        """Stores the new state of the paths in the cache."""
        begin = 0
        for row, number in outcome.item.mark:
            if outcome.kind != "done":
                self._known.pop(row.path, None)
                continue
            micros = micros_of_proto(outcome.times[begin])
            begin += number
            paced = self.writer.clock()
            if row.fields is None:
                self._known[row.path] = _Known(0, micros, row.stamp, paced)
                continue
            self._known[row.path] = _Known(micros, 0, row.stamp, paced)
            if number > 1 and self.permit is not None and not self.permit.covers(micros):
                self._late.append((row, micros))
        if outcome.kind != "done":
            failed.append(outcome)

    def _confirm(self) -> None:
        """Deletes rows that it created after the lease may have expired, if another program has taken over (S18).

        The other program read the paths before these rows were created, and would not look at them again.
        """
        late, self._late = self._late, []
        if not late or self.permit is None:
            return
        try:
            self.permit.renew()
        except BoilerBeamError:
            items = [Item(row.path, [self._deletion(row.path, micros)]) for row, micros in late]
            list(BatchWriter(self.client).write(items))
            raise

    # Reading ----------------------------------------------------------------------------------------------------------

    def _look(self, rows: Sequence[EncodedRow]) -> set[str]:
        """Reads unknown paths, and returns the rows that are already stored."""
        asked = {}
        for row in rows:
            known = self._known.get(row.path)
            if known is None or known.stamp == row.stamp:
                asked[row.path] = row
                self._known[row.path] = _Known(paced=known.paced) if known is not None else _Known()
            else:
                self._known.move_to_end(row.path)
        same = set()
        for answer in self.documents(list(asked)):
            if not answer.HasField("found"):
                continue
            document, micros = answer.found, micros_of_proto(answer.found.update_time)
            path = self.client.path_of(document.name)
            if path in asked:
                stamp = (
                    _stamp_in(document.fields[STAMP].map_value.fields) if STAMP in document.fields else Stamp(0, 0, 0)
                )
                if (
                    stamp == asked[path].stamp
                    and row_of(self.client, document, self.references).fields == asked[path].fields
                ):
                    same.add(path)
                known = self._known[path]
                self._known[path] = known._replace(row=micros, stamp=max(known.stamp, stamp))
            else:
                path, stamp = document.fields["path"].string_value, _stamp_in(document.fields)
                if stamp == asked[path].stamp and asked[path].fields is None:
                    same.add(path)
                known = self._known[path]
                self._known[path] = known._replace(tombstone=micros, stamp=max(known.stamp, stamp))
        return {path for path in same if self._known[path].stamp == asked[path].stamp}

    def documents(self, paths: Sequence[str]) -> Iterator[Any]:
        """Reads the rows and tombstones of paths; yields responses of `BatchGetDocuments`."""
        requests = []
        for start in range(0, len(paths), _READ):
            request = BatchGetDocumentsRequest(database=self.client.database)
            for path in paths[start : start + _READ]:
                request.documents.extend([self.client.root + path, self.client.root + tombstone_of(path)])
            requests.append(request)
        number = self.writer.limits.calls
        for start in range(0, len(requests), number):
            some = requests[start : start + number]
            for request, call in [(one, self.client.call("BatchGetDocuments", one)) for one in some]:
                for answer in self._answers(request, call):
                    self.counts.reads += 1
                    yield answer

    def _answers(self, request: Any, call: Iterator[Any]) -> Iterator[Any]:
        """Returns all responses to a request; a broken call is sent again."""
        since, attempts = self.writer.clock(), 0
        while True:
            try:
                yield from call
                return
            except grpc.RpcError as error:
                code: Any = error.code()
                has_time = self.writer.clock() - since < self.writer.limits.retry_seconds
                if code not in PASSING or not has_time:
                    with explained(self.client.uri, "to read rows"):
                        raise
            attempts += 1
            self.writer.wait(back_off(attempts, self.writer.chance()))
            call = self.client.call("BatchGetDocuments", request)


def _following(write: Any, micros: int) -> Any:
    """Returns a write with the precondition that its document has this update time; 0: that it does not exist."""
    if micros:
        put_micros(write.current_document.update_time, micros)
    else:
        write.current_document.exists = False
    return write


def _dead_letter(row: EncodedRow, reason: str) -> DeadLetter:
    reason = "; ".join(broken_rules(row.path, row.fields or b"{}")) or reason
    return DeadLetter(
        stage="write",
        code="row_refused",
        message=f"expected a row that Firestore accepts, got {reason}; fix: change the view",
        path=row.path,
        version=row.stamp.version,
    )

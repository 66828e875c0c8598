"""Transactions on a Firestore database.

    BeginTransaction -> BatchGetDocuments, RunQuery (as of one time) -> Commit, with the update times that were read

The server locks, or watches, what a transaction reads, so transactions are serializable. In addition each write of a
document that was read has its update time as precondition.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import grpc
import msgspec

from boiler_beam.connectors.firestore.client import PASSING, Client, failure
from boiler_beam.connectors.firestore.protos import (
    BatchGetDocumentsRequest,
    BeginTransactionRequest,
    CommitRequest,
    RollbackRequest,
    RunQueryRequest,
)
from boiler_beam.connectors.firestore.query import field_path, put_order, query_of
from boiler_beam.connectors.firestore.retry import Retry
from boiler_beam.connectors.firestore.values import fields_of, micros_of_proto, put_micros, put_value
from boiler_beam.connectors.stores import Attempt, DocumentStore, Filter, Write, masked
from boiler_beam.errors import Conflict, UnknownOutcome, WriteRefused
from boiler_beam.events import Change

__all__ = ["FirestoreStore"]

_CONFLICTS = {grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
_REQUEST_TIME = 1
_AGAIN = 4
_AGAIN_SECONDS = 0.2
_NULL = msgspec.Raw(b"null")


class FirestoreStore(DocumentStore):
    """The documents of a Firestore database."""

    scheme: ClassVar[str] = "firestore"

    def __init__(self, rest: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = Client(rest)
        self.uri, self.database = self.client.uri, self.client.location
        self._sleep = sleep
        self._aborted = threading.local()

    def begin(self) -> Attempt:
        """Begins an attempt. One that follows a conflict names the earlier one, so that it is preferred."""
        request = BeginTransactionRequest(database=self.client.database)
        request.options.read_write.SetInParent()
        if last := vars(self._aborted).pop("transaction", b""):
            request.options.read_write.retry_transaction = last
        answer = self._patiently("BeginTransaction", request, "to begin a transaction")
        return _Attempt(self, answer.transaction)

    def aborted(self, transaction: bytes) -> None:
        """Remembers a transaction that met a conflict, for the next attempt in the same thread."""
        self._aborted.transaction = transaction

    def _patiently(self, method: str, request: Any, expected: str) -> Any:
        retry = Retry(self.uri, expected, sleep=self._sleep)
        while True:
            try:
                return self.client.call(method, request)
            except grpc.RpcError as error:
                retry.wait(error)

    def close(self) -> None:
        """Closes the connection."""
        self.client.close()


def _code(error: grpc.RpcError) -> Any:
    return error.code() if isinstance(error, grpc.Call) else None


class _Attempt(Attempt):
    def __init__(self, store: FirestoreStore, transaction: bytes) -> None:
        self.store, self.client, self.transaction = store, store.client, transaction
        self.is_open = True

    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        if not paths:
            return iter(())
        names = [self.client.root + path for path in paths]
        request = BatchGetDocumentsRequest(database=self.client.database, documents=names, transaction=self.transaction)
        return iter([_change(self.client, answer) for answer in self._answers("BatchGetDocuments", request)])

    def query(self, collection: str, filters: Sequence[Filter]) -> Iterator[Change]:
        query = query_of(collection, filters)
        request = RunQueryRequest(parent=(self.client.root + query.parent).rstrip("/"), transaction=self.transaction)
        query.put(request.structured_query)
        query.put_where(request.structured_query, self.client.root)
        put_order(request.structured_query)
        found = [
            _change(self.client, answer) for answer in self._answers("RunQuery", request) if answer.HasField("document")
        ]
        return iter([one for one in found if not query.is_group or query.holds(one.path)])

    def _answers(self, method: str, request: Any) -> list[Any]:
        try:
            return list(self.client.call(method, request))
        except grpc.RpcError as error:
            raise self._failed(error, "to read in a transaction") from error

    def commit(self, writes: Sequence[Write]) -> dict[str, int]:
        request = CommitRequest(database=self.client.database, transaction=self.transaction)
        for write in writes:
            _put_write(request.writes.add(), write, self.client.root)
        answer = self._committed(request)
        self.is_open = False
        committed = micros_of_proto(answer.commit_time)
        return {
            write.path: micros_of_proto(result.update_time) or committed
            for write, result in zip(writes, answer.write_results, strict=True)
        }

    def _committed(self, request: Any) -> Any:
        """Commits. A broken call may have been applied: then a refusal of the next one says nothing.

        Raises:
            Conflict: Nothing was written.
            UnknownOutcome: It is unknown whether it was applied.
            BoilerBeamError: The server refused it.
        """
        lost: grpc.RpcError | None = None
        for number in range(_AGAIN):
            try:
                return self.client.call("Commit", request)
            except grpc.RpcError as error:
                code = _code(error)
                if lost is None and (code is grpc.StatusCode.ABORTED or code not in PASSING):
                    raise self._failed(error, "to commit") from error
                lost = lost or error
                if code not in PASSING:
                    break
            self.store._sleep(_AGAIN_SECONDS * 2**number)
        assert lost is not None
        self.is_open = False
        raise UnknownOutcome(
            f"{self.client.uri}: expected an answer to a commit, got {_code(lost).name}; it is unknown whether it was "
            "applied; fix: read the documents, and run it again if it was not"
        ) from lost

    def _failed(self, error: grpc.RpcError, expected: str) -> Exception:
        code = _code(error)
        details = error.details() if isinstance(error, grpc.Call) else ""
        if code is grpc.StatusCode.ALREADY_EXISTS:
            return WriteRefused(
                "exists", f"{self.client.uri}: expected no such document, got {details}; fix: another id"
            )
        if code in _CONFLICTS and not (code is grpc.StatusCode.NOT_FOUND and "database" in str(details)):
            self.store.aborted(self.transaction)
            return Conflict(
                f"{self.client.uri}: expected documents to be as they were read, got {details}; fix: run it again"
            )
        return failure(self.client.uri, error, expected)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            with suppress(grpc.RpcError):  # the server ends it after a minute
                request = RollbackRequest(database=self.client.database, transaction=self.transaction)
                self.client.call("Rollback", request)


def _change(client: Client, answer: Any) -> Change:
    """Returns the document of an answer to BatchGetDocuments or RunQuery."""
    if answer.DESCRIPTOR.name == "RunQueryResponse":
        document = answer.document
    elif answer.HasField("found"):
        document = answer.found
    else:
        return Change(client.path_of(answer.missing), micros_of_proto(answer.read_time), _NULL)
    return Change(client.path_of(document.name), micros_of_proto(document.update_time), fields_of(document))


def _put_write(proto: Any, write: Write, root: str) -> None:
    exists, version = write.precondition
    if version is not None:
        put_micros(proto.current_document.update_time, version)
    elif exists is not None:
        proto.current_document.exists = exists
    if write.fields is None:
        proto.delete = root + write.path
        return
    proto.update.name = root + write.path
    if write.mask is not None:
        proto.update_mask.SetInParent()
        proto.update_mask.field_paths.extend(map(field_path, write.mask))
    kept = write.fields if write.mask is None else masked(write.fields, write.mask)
    for name, item in kept.items():
        put_value(proto.update.fields[name], item, root)
    for names, transform in write.transforms.items():
        one = proto.update_transforms.add()
        one.field_path = field_path(names)
        if transform.kind == "server_time":
            one.set_to_server_value = _REQUEST_TIME
        elif transform.kind == "increment":
            put_value(one.increment, transform.operand, root)
        else:
            is_union = transform.kind == "array_union"
            array = one.append_missing_elements if is_union else one.remove_all_from_array
            for item in transform.operand:
                put_value(array.values.add(), item, root)

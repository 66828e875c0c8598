"""Reads documents as of one time, by ranges of their names, and resumes broken calls.

    PartitionQuery -> names -> [a, b) [b, c) ... -> a RunQuery call for each range, resumed after its last document

Reads are counted as Firestore bills them: a returned document, a requested document that is missing, and a query
without result are one read each. Source: https://firebase.google.com/docs/firestore/pricing
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import Any

import grpc
import msgspec

from boiler_beam.compare import path_key
from boiler_beam.connectors.billed import Billed
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import (
    METHODS,
    BatchGetDocumentsRequest,
    ListCollectionIdsRequest,
    PartitionQueryRequest,
    RunQueryRequest,
)
from boiler_beam.connectors.firestore.query import Query, put_cursor, put_order
from boiler_beam.connectors.firestore.retry import Retry
from boiler_beam.connectors.firestore.values import fields_of, micros_of_proto, put_micros
from boiler_beam.errors import UsageError
from boiler_beam.events import Change

__all__ = ["Reader", "check_read_time"]

FIRST_RANGE = 10_000
"""The documents in the first range if the server has no partitions; each further range has twice as many."""
_GETS = 300
_MINUTE, _HOUR, _WEEK = 60_000_000, 3600_000_000, 7 * 24 * 3600_000_000
_CODES = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
_OF_TIME = re.compile("read.?time|too old|snapshot", re.IGNORECASE)
_TIMES = "a time within the last hour, or a whole minute of the last 7 days if point-in-time recovery is enabled"
_GONE = msgspec.Raw(b"null")


def check_read_time(uri: str, read_time: int, now: int) -> None:
    """Checks that documents can be read as of a time.

    Args:
        uri: The URI of the database, for messages.
        read_time: The time, in microseconds since the epoch.
        now: The current time, in microseconds since the epoch.

    Raises:
        UsageError: The time is in the future, more than 7 days ago, or more than an hour ago and not a whole minute.
    """
    age = now - read_time
    if age < -_MINUTE:  # clocks may differ by some seconds
        _refuse(uri, f"one that is {-age / 1e6:,.0f} s in the future", "write a past time")
    if age > _WEEK + _MINUTE:
        _refuse(uri, f"one of {age / _WEEK * 7:,.1f} days ago", "write a later one, or read an export of that time")
    if age > _HOUR + _MINUTE and read_time % _MINUTE:
        whole = read_time - read_time % _MINUTE
        _refuse(uri, f"{read_time}, {age / _HOUR:,.1f} hours ago", f"write a whole minute, such as {whole}")


def _refuse(uri: str, got: str, fix: str) -> None:
    raise UsageError(f"{uri}: expected --read_time to be {_TIMES}, got {got}; fix: {fix}")


class Reader:
    """Reads documents of one database. It may be used from any thread.

    Attributes:
        billed: Counts the billed reads.
    """

    def __init__(self, client: Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client, self._sleep = client, sleep
        self.billed = Billed()
        self._counting = threading.Lock()

    def count(self, reads: int) -> None:
        """Adds to the billed reads."""
        with self._counting:
            self.billed.reads += reads

    def now(self) -> int:
        """Returns the server's time, in microseconds since the epoch.

        All earlier writes are visible at it. Costs a read.
        """
        names = [f"{self.client.root}_boiler/now"]  # the document need not exist
        request = BatchGetDocumentsRequest(database=self.client.database, documents=names)
        answers = self._all("BatchGetDocuments", request, "to read the time")
        self.count(1)
        return micros_of_proto(answers[0].read_time)

    def collections(self) -> list[str]:
        """Returns the names of the top-level collections. Costs a read."""
        request = ListCollectionIdsRequest(parent=self.client.root[:-1], page_size=1000)
        found: list[str] = []
        while True:
            (answer,) = self._all("ListCollectionIds", request, "to list its collections")
            self.count(1)
            found += answer.collection_ids
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                return found

    # Ranges -----------------------------------------------------------------------------------------------------------

    def ranges(self, query: Query, most: int, read_time: int) -> list[tuple[str, str]]:
        """Returns ranges of paths that together contain all documents of a query, to be read in parallel.

        The ranges are the server's partitions, which cost a read. The emulator has no partitions. There the limits are
        found by queries: the 10,000th document from the beginning, the 20,000th from there, then the 40,000th, each for
        one query and read; seven for a million documents. (Each query skips the documents in between. A server that
        bills would bill them, but such servers have partitions.)

        Args:
            query: The query; one that is not ordered by names is one range.
            most: The maximal number of ranges.
            read_time: In microseconds since the epoch.

        Returns:
            For each range its first path, and the path before which it ends; empty text for the beginning and the end.
        """
        names = self._partitions(query, most, read_time)
        if names is None:
            names = self._doubled(query, most, read_time)
        bounds = ["", *sorted(names, key=path_key), ""]
        return list(pairwise(bounds))

    def _partitions(self, query: Query, most: int, read_time: int) -> list[str] | None:
        """Returns the limits of the query's partitions that are in its collections.

        None if the server has no partitions.
        """
        if most < 2 or not query.is_by_name:
            return []
        request = PartitionQueryRequest(parent=self.client.root[:-1], partition_count=most - 1, page_size=1000)
        Query(query.collection_id, (f"**/{query.collection_id}",)).put(request.structured_query)
        put_order(request.structured_query)
        put_micros(request.read_time, read_time)
        names = []
        while True:
            answers = self._all("PartitionQuery", request, f"to partition {query.name}")
            if not answers:
                return None
            (answer,) = answers
            self.count(1)
            names += [self.client.path_of(cursor.values[0].reference_value) for cursor in answer.partitions]
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                return [name for name in names if query.is_group or query.holds(name)]

    def _doubled(self, query: Query, most: int, read_time: int) -> list[str]:
        names: list[str] = []
        skipped = FIRST_RANGE
        while len(names) < most - 1:
            request = self._request(query, read_time, names[-1] if names else "")
            structured = request.structured_query
            structured.offset, structured.limit.value = skipped, 1
            _only_name(structured)
            found = [one for one in self._all("RunQuery", request, f"to read {query.name}") if one.HasField("document")]
            self.count(1)
            if not found:
                break
            names.append(self.client.path_of(found[0].document.name))
            skipped *= 2
        return names

    # Documents --------------------------------------------------------------------------------------------------------

    def read(
        self, query: Query, read_time: int | None, begin: str = "", end: str = "", *, has_others: bool = False
    ) -> Iterator[Change]:
        """Yields the documents of a range, ordered by name, or in the order that a filter with comparisons needs.

        A broken call is resumed after the last received document, as of the same time.

        Args:
            query: The query.
            read_time: In microseconds since the epoch; None: now.
            begin: The first path of the range; empty for the beginning.
            end: The path before which the range ends; empty for the end.
            has_others: Whether documents of other collections of the group are yielded too; they are billed anyway.

        Raises:
            UsageError: The documents can't be read, or not as of that time.
            BoilerBeamError: The connection was not restored.
        """
        retry = Retry(self.client.uri, f"to read {query.name}", sleep=self._sleep)
        path_of, holds, has_all = self.client.path_of, query.holds, has_others or not query.is_group
        last, given = "", 0
        while True:
            request = self._request(query, read_time, last or begin, end, is_after=bool(last))
            if given and not query.is_by_name:
                request.structured_query.offset = given
            number, answers = 0, self.client.call("RunQuery", request)
            try:
                for answer in answers:
                    if answer.HasField("document"):
                        document, number = answer.document, number + 1
                        retry.progressed()
                        path = path_of(document.name)
                        if query.is_by_name:
                            last = path
                        if has_all or holds(path):
                            yield Change(path, micros_of_proto(document.update_time), fields_of(document))
                    if read_time is None:
                        read_time = micros_of_proto(answer.read_time)
                return
            except grpc.RpcError as error:
                self._explain_time(error, read_time)
                retry.wait(error)
            finally:
                self.count(number or 1)
                given += number
                answers.cancel()

    def get(self, paths: Iterable[str], read_time: int | None = None) -> Iterator[Change]:
        """Yields some documents by their paths, in any order; a missing one as a deletion at the time of reading.

        Args:
            paths: The paths.
            read_time: In microseconds since the epoch; by default the current time of each request for 300 documents.

        Raises:
            UsageError: The documents can't be read, or not as of that time.
            BoilerBeamError: The connection was not restored.
        """
        left = iter(dict.fromkeys(paths))
        while some := list(islice(left, _GETS)):
            yield from self._get(dict.fromkeys(some), read_time)

    def _get(self, missing: dict[str, None], read_time: int | None) -> Iterator[Change]:
        retry = Retry(self.client.uri, "to read documents", sleep=self._sleep)
        client = self.client
        while missing:
            names = [client.root + path for path in missing]
            request = BatchGetDocumentsRequest(database=client.database, documents=names)
            if read_time is not None:
                put_micros(request.read_time, read_time)
            try:
                for answer in client.call("BatchGetDocuments", request):
                    if answer.HasField("found"):
                        document = answer.found
                        change = Change(
                            client.path_of(document.name), micros_of_proto(document.update_time), fields_of(document)
                        )
                    elif answer.missing:
                        change = Change(client.path_of(answer.missing), micros_of_proto(answer.read_time), _GONE)
                    else:
                        continue
                    del missing[change.path]
                    retry.progressed()
                    self.count(1)
                    yield change
            except grpc.RpcError as error:
                self._explain_time(error, read_time)
                retry.wait(error)

    # Calls ------------------------------------------------------------------------------------------------------------

    def _request(
        self, query: Query, read_time: int | None = None, begin: str = "", end: str = "", *, is_after: bool = False
    ) -> Any:
        request = RunQueryRequest(parent=(self.client.root + query.parent).rstrip("/"))
        structured = request.structured_query
        query.put(structured)
        query.put_where(structured, self.client.root)
        if query.is_by_name:
            put_order(structured)
        if begin:
            put_cursor(structured.start_at, self.client.root + begin, is_before=not is_after)
        if end:
            put_cursor(structured.end_at, self.client.root + end, is_before=True)
        if read_time is not None:
            put_micros(request.read_time, read_time)
        return request

    def _all(self, method: str, request: Any, expected: str) -> list[Any]:
        """Returns all responses to a short call; an empty list if the server has no partitions."""
        retry = Retry(self.client.uri, expected, sleep=self._sleep)
        while True:
            try:
                answer = self.client.call(method, request)
                return [answer] if METHODS[method][0] == "unary_unary" else list(answer)
            except grpc.RpcError as error:
                if method == "PartitionQuery" and _code(error) is grpc.StatusCode.UNIMPLEMENTED:
                    return []
                self._explain_time(error, micros_of_proto(request.read_time) or None)
                retry.wait(error)

    def _explain_time(self, error: grpc.RpcError, read_time: int | None) -> None:
        """Raises an error if the server refused the read because of its time."""
        details = str(error.details() if isinstance(error, grpc.Call) else error)
        if read_time is not None and _code(error) in _CODES and _OF_TIME.search(details):
            fix = "write such a time; a read of more than an hour needs a whole minute, and point-in-time recovery"
            _refuse(self.client.uri, f"{read_time}, which the server refuses: {details}", fix)


def _code(error: grpc.RpcError) -> Any:
    return error.code() if isinstance(error, grpc.Call) else None


def _only_name(structured: Any) -> None:
    structured.ClearField("select")
    structured.select.fields.add().field_path = "__name__"

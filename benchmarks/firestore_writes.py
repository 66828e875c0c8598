"""Measures writes to Firestore, compared with a bare loop of prebuilt BatchWrite calls in the same run.

    FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 python -m benchmarks.firestore_writes [--rows 20000] [--runs 5]

| contender | |
| --- | --- |
| `bare` | prebuilt requests of 500 writes, 8 calls in flight, responses ignored |
| `writer` | `BatchWriter`: prebuilt writes, with an outcome for each |
| `update` | `Guard`, rows in its cache: from row bytes to stored rows, 0 reads |
| `create` | `Guard`, rows that are not in its cache: 2 reads and a Commit each |

They run in turns. Prints the medians in documents a second, and exits with 1 if `writer` or `update` is below 0.7 of
`bare`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.guard import Guard, put_stamp
from boiler_beam.connectors.firestore.protos import BatchWriteRequest, Write
from boiler_beam.connectors.firestore.values import put_fields
from boiler_beam.connectors.firestore.write import BatchWriter, Item
from boiler_beam.events import EncodedRow, Stamp

LEAST = 0.7
IN_FLIGHT, WRITES = 8, 500


def fields(number: int) -> bytes:
    """A row of about 400 bytes, as `MeetingSession` has them."""
    users = [{"firstName": "Ann", "lastName": "Gray", "attending": place % 2 == 0} for place in range(4)]
    row = {"address": f"{number} Long Street, Springfield", "inSession": True, "latitude": 1.5, "longitude": -0.25}
    return msgspec.json.encode({**row, "users": users, "number": number}, order="deterministic")


class Contenders:
    """One database with the rows of all of them."""

    def __init__(self, number: int) -> None:
        self.client = Client(f"bench-{uuid.uuid4().hex[:12]}")
        self.number, self.version = number, 0
        self.fields = [fields(place) for place in range(number)]
        self.guard = Guard(BatchWriter(self.client), pace_seconds=0.0)
        self.guard.write(self.rows("update"))

    def rows(self, name: str) -> list[EncodedRow]:
        self.version += 1
        stamp = Stamp(1, self.version, 0)
        return [EncodedRow(f"{name}/{place}", stamp, data) for place, data in enumerate(self.fields)]

    def writes(self, name: str) -> list[Any]:
        built = []
        for row in self.rows(name):
            write = Write()
            write.update.name = self.client.root + row.path
            put_fields(write.update.fields, row.fields or b"", self.client.root)
            put_stamp(write.update.fields["_boiler"].map_value.fields, row.stamp)
            built.append(write)
        return built

    def bare(self) -> Callable[[], None]:
        writes = self.writes("bare")
        requests = [
            BatchWriteRequest(database=self.client.database, writes=writes[start : start + WRITES])
            for start in range(0, len(writes), WRITES)
        ]

        def run() -> None:
            flying: list[Any] = []
            for request in requests:
                flying.append(self.client.future("BatchWrite", request))
                if len(flying) == IN_FLIGHT:
                    flying.pop(0).result()
            for future in flying:
                future.result()

        return run

    def writer(self) -> Callable[[], None]:
        items = [Item(write.update.name, [write]) for write in self.writes("writer")]
        return lambda: self.check(sum(one.kind == "done" for one in BatchWriter(self.client).write(items)))

    def update(self) -> Callable[[], None]:
        rows, counts = self.rows("update"), self.guard.counts

        def run() -> None:
            reads, writes = counts.reads, counts.writes
            self.guard.write(rows)
            self.check(counts.writes - writes)
            assert counts.reads == reads

        return run

    def create(self) -> Callable[[], None]:
        rows = self.rows(f"create{self.version}")
        guard = Guard(BatchWriter(self.client), pace_seconds=0.0)

        def run() -> None:
            guard.write(rows)
            self.check(guard.counts.writes)

        return run

    def check(self, done: int) -> None:
        assert done == self.number, f"{done} of {self.number} were written"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if not os.environ.get("FIRESTORE_EMULATOR_HOST"):
        print(
            "error: FIRESTORE_EMULATOR_HOST: expected HOST:PORT of an emulator, got nothing; fix: start one with "
            "gcloud emulators firestore start --host-port=127.0.0.1:8080",
            file=sys.stderr,
        )
        return 2
    contenders = Contenders(arguments.rows)
    names = ["bare", "writer", "update", "create"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for run in range(arguments.runs + 1):
        for name in names:
            timed = getattr(contenders, name)()
            begun = time.perf_counter()
            timed()
            if run:  # the first one warms the server up
                rates[name].append(arguments.rows / (time.perf_counter() - begun))
    medians = {name: statistics.median(some) for name, some in rates.items()}
    print(f"{'':8}{'documents/s':>12}{'of bare':>9}   {min(rates['bare']):,.0f} to {max(rates['bare']):,.0f} bare")
    for name, rate in medians.items():
        print(f"{name:8}{rate:12,.0f}{rate / medians['bare']:9.2f}")
    return int(min(medians["writer"], medians["update"]) < LEAST * medians["bare"])


if __name__ == "__main__":
    sys.exit(main())

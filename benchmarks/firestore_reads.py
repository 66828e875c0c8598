"""Measures how fast documents are read from Firestore's emulator, compared with a hand-written loop over bare calls.

    FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 python -m benchmarks.firestore_reads [--documents 50000] [--runs 3]

| contender | |
| --- | --- |
| `bare` | counts the documents of a RunQuery call, over a default gRPC channel |
| `bare_fast` | the same over boiler_beam's channel, with single-threaded streams |
| `read` | `FirestoreSource.read_all`: changes with their fields as JSON |
| `parts` | the same in parts, two of them in parallel |
| `listen` | `ListenSource.follow` until all documents were yielded |

Each runs in its own process, in turns. `memory` is the difference between the end of the process and before its read.
Exits with 1 where `read` reaches less than 0.8 of `bare`, or a contender read another number of documents.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.listen import ListenSource
from boiler_beam.connectors.firestore.protos import METHODS, BatchWriteRequest, RunQueryRequest
from boiler_beam.connectors.firestore.query import put_order
from boiler_beam.connectors.firestore.source import FirestoreSource
from boiler_beam.connectors.firestore.values import put_fields
from boiler_beam.events import Complete

LEAST = 0.8
FIELDS = (
    b'{"firstName":"Ann","lastName":"Gray","organization":"org1","age":7,"score":1.5,"tags":["a","b"],'
    b'"boss":{"referenceValue":"users/u1"},"at":{"timestampValue":"2026-01-01T00:00:00Z"}}'
)
BATCH, IN_FLIGHT = 500, 4


def write(client: Client, number: int) -> None:
    """Documents of eight fields, about 450 bytes each."""
    calls: list[Any] = []
    for begin in range(0, number, BATCH):
        request = BatchWriteRequest(database=client.database)
        for place in range(begin, min(begin + BATCH, number)):
            update = request.writes.add().update
            update.name = f"{client.root}users/u{place:07}"
            put_fields(update.fields, FIELDS, client.root)
        calls.append(client.future("BatchWrite", request))
        if len(calls) > IN_FLIGHT:
            calls.pop(0).result()
    for call in calls:
        call.result()


def _request(client: Client) -> Any:
    request = RunQueryRequest(parent=client.root[:-1])
    request.structured_query.from_.add().collection_id = "users"
    put_order(request.structured_query)
    return request


def bare(project: str) -> int:
    client = Client(project)
    _, request, response = METHODS["RunQuery"]
    with grpc.insecure_channel(client.emulator, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = channel.unary_stream(
            "/google.firestore.v1.Firestore/RunQuery", request.SerializeToString, response.FromString
        )
        metadata = [("authorization", "Bearer owner"), ("google-cloud-resource-prefix", client.database)]
        return sum(answer.HasField("document") for answer in stub(_request(client), metadata=metadata))


def bare_fast(project: str) -> int:
    client = Client(project)
    return sum(answer.HasField("document") for answer in client.call("RunQuery", _request(client)))


def _counted(source: FirestoreSource, changes: Callable[[], Iterable[Any]]) -> int:
    source.prepare(["users"])
    return sum(1 for _ in changes())


def read(project: str) -> int:
    source = FirestoreSource(project)
    return _counted(source, source.read_all)


def parts(project: str) -> int:
    source = FirestoreSource(project)
    source.threads = 2
    return _counted(source, source.read_all)


def listen(project: str) -> int:
    source = ListenSource(project)
    source.prepare(["users"])
    number = 0
    is_complete, position = False, ""
    for events, at in source.follow(None):
        number += sum(not isinstance(event, Complete) for event in events)
        if is_complete and at != position:
            return number
        if any(isinstance(event, Complete) for event in events):
            is_complete, position = True, at
    return number


CONTENDERS = (bare, bare_fast, read, parts, listen)


def _peak() -> int:
    """KiB that this process took at most so far, on Linux: what `getrusage` says may be its parent's."""
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))


def _measured(contender: Callable[[str], int], project: str) -> dict[str, float]:
    before = _peak()
    started, used = time.perf_counter(), time.process_time()
    number = contender(project)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    memory = _peak() - before
    return {"documents": number, "seconds": seconds, "cpu": used, "memory": memory / 1024}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--project", default=f"bench-{os.getpid()}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        (contender,) = [one for one in CONTENDERS if one.__name__ == given.contender]
        print(json.dumps(_measured(contender, given.project)))
        return 0
    client = Client(given.project)
    if not client.emulator:
        parser.error("expected FIRESTORE_EMULATOR_HOST=HOST:PORT; fix: gcloud emulators firestore start, and set it")
    started = time.perf_counter()
    write(client, given.documents)
    print(f"{given.documents:,} documents written in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    found: dict[str, list[dict[str, float]]] = {one.__name__: [] for one in CONTENDERS}
    for _ in range(given.runs):
        for name, some in found.items():
            command = [sys.executable, "-m", "benchmarks.firestore_reads", "--contender", name]
            done = subprocess.run([*command, "--project", given.project], stdout=subprocess.PIPE, check=True)
            some.append(json.loads(done.stdout))
    return _shown(found, given.documents)


def _shown(found: dict[str, list[dict[str, float]]], documents: int) -> int:
    rates = {name: statistics.median(one["documents"] / one["seconds"] for one in some) for name, some in found.items()}
    print("| contender | documents/s | of bare | CPU us/document | memory MiB |\n| --- | --- | --- | --- | --- |")
    for name, some in found.items():
        cpu = statistics.median(one["cpu"] / one["documents"] * 1e6 for one in some)
        memory = max(one["memory"] for one in some)
        print(f"| {name} | {rates[name]:,.0f} | {rates[name] / rates['bare']:.2f} | {cpu:.1f} | {memory:.0f} |")
    is_whole = all(one["documents"] == documents for some in found.values() for one in some)
    return 0 if is_whole and rates["read"] >= LEAST * rates["bare"] else 1


if __name__ == "__main__":
    sys.exit(main())

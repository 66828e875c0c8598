"""Measures boiler_beam on Firestore, on emulators that it starts and ends.

    python -m benchmarks.firestore [--runs 3] [--only writes,reads,meetings,latency]

| part | |
| --- | --- |
| `writes`, `reads` | `firestore_writes.py` and `firestore_reads.py` beside it: compared with bare loops, in one run |
| `meetings` | a stream of 200 meetings and 1,000 changes, one after the other, as fast as the server takes them |
| `latency` | a stream of 50 changes a second: from a write's call until a listener has the row that follows it |

`meetings` reads a snapshot, then follows a subscription to which each change is published when it is written. What the
changes are billed is what a run with them is billed less what one without them is. An affected row is one that a change
made another one, by `benchmarks/reference.py`; the same checks all rows at the end.

`latency` renames 100 users in turn, each in a row of their own: none is due again within the second that paces it. The
emulator answers a change by sending a listener the whole result again, so collections are small (100 documents each),
and the meetings, with 1,600 tickets, are not listened to.
`server` is the same without a stream: until a listener has the document itself.

Needs gcloud with both emulators, and Java. Exits with 1 where a row was wrong, or a target was missed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import msgspec

from benchmarks.measure import machine, table
from benchmarks.reference import expected_rows
from benchmarks.views import MeetingSession, OrganizationSummary
from benchmarks.workload import Workload
from boiler_beam.connectors import open_sink
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import BatchWriteRequest, CommitRequest, ListenRequest
from boiler_beam.connectors.firestore.values import micros_of_proto, put_fields
from boiler_beam.connectors.pubsub.client import Client as PubsubClient
from boiler_beam.connectors.pubsub.envelope import document_message
from boiler_beam.connectors.pubsub.protos import Subscription, Topic
from boiler_beam.connectors.pubsub.publisher import Publisher
from boiler_beam.events import Change
from boiler_beam.plan import compile_plan

EMULATORS = {
    "FIRESTORE_EMULATOR_HOST": ("emulators", "firestore"),
    "PUBSUB_EMULATOR_HOST": ("beta", "emulators", "pubsub"),
}
MEETINGS, CHANGES = 200, 1_000
RATE, USERS, LATENCY_CHANGES, WARM_UP = 50, 100, 600, 100
READY_SECONDS = 120.0
VIEWS = compile_plan([MeetingSession, OrganizationSummary]).views

Documents = dict[str, dict[str, Any]]


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Polls a condition; raises an error if it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {READY_SECONDS:.0f} s")
        time.sleep(0.05)


@contextmanager
def emulators() -> Iterator[None]:
    """Starts both emulators, and names them in the environment of this process and its children."""
    if shutil.which("gcloud") is None:
        sys.exit("error: gcloud: expected it with the Firestore and Pub/Sub emulators, got none; fix: install it")
    with ExitStack() as stack:
        for variable, command in EMULATORS.items():
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                port = one.getsockname()[1]
            log = stack.enter_context(tempfile.TemporaryFile())
            arguments = ["gcloud", *command, "start", "--quiet", f"--host-port=127.0.0.1:{port}"]
            if "pubsub" in command:
                arguments.append("--project=boiler-beam-bench")
            started = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end_group, started)
            wait_until(lambda started=started, port=port: _answers(started, port), " ".join(arguments))
            os.environ[variable] = f"127.0.0.1:{port}"
        yield


def _answers(started: subprocess.Popen[bytes], port: int) -> bool:
    if started.poll() is not None:
        raise OSError(f"{started.args} ended with {started.returncode}")
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _end_group(started: subprocess.Popen[bytes]) -> None:
    os.killpg(started.pid, signal.SIGTERM)
    started.wait()


# The application ------------------------------------------------------------------------------------------------------


class Application:
    """A database to which an application writes.

    Args:
        publishes: Whether each change is also published to a topic, as by a relay.

    Attributes:
        documents: The current documents.
        sources: The sources of the stream.
    """

    def __init__(self, *, publishes: bool = False) -> None:
        self.project = f"bench-{uuid.uuid4().hex[:12]}"
        self.client = Client(self.project)
        self.documents: Documents = {}
        self.sources = [f"firestore:{self.project}"]
        self.publisher: Publisher | None = None
        self.versions: dict[str, int] = {}
        if publishes:
            topic, subscription = (f"projects/{self.project}/{kind}/changes" for kind in ("topics", "subscriptions"))
            uri = f"pubsub:{subscription}"
            client = PubsubClient(uri, subscription)
            client.call("CreateTopic", Topic(name=topic))
            client.call("CreateSubscription", Subscription(name=subscription, topic=topic))
            client.close()
            self.publisher = Publisher(topic)
            self.sources.append(uri)

    def load(self, documents: Documents) -> None:
        """Writes all documents, before the stream begins."""
        self.documents = dict(documents)
        paths = list(documents)
        for begin in range(0, len(paths), 500):
            some = paths[begin : begin + 500]
            writes = [self._write(path, documents[path]) for path in some]
            answer = self.client.call("BatchWrite", BatchWriteRequest(database=self.client.database, writes=writes))
            times = (micros_of_proto(one.update_time) for one in answer.write_results)
            self.versions.update(zip(some, times, strict=True))

    def change(self, path: str, fields: dict[str, Any] | None) -> None:
        """Writes one document, and returns when it is durable."""
        answer = self.client.call("Commit", self.request(path, fields))
        if fields is None:
            self.documents.pop(path, None)
            version = micros_of_proto(answer.commit_time)
        else:
            self.documents[path] = fields
            version = micros_of_proto(answer.write_results[0].update_time)
        if self.publisher is not None:
            self.publisher.publish([document_message(Change(path, version, msgspec.Raw(msgspec.json.encode(fields))))])

    def request(self, path: str, fields: dict[str, Any] | None) -> Any:
        return CommitRequest(database=self.client.database, writes=[self._write(path, fields)])

    def _write(self, path: str, fields: dict[str, Any] | None) -> Any:
        request = CommitRequest()
        write = request.writes.add()
        if fields is None:
            write.delete = self.client.root + path
        else:
            write.update.name = self.client.root + path
            put_fields(write.update.fields, msgspec.json.encode(fields), self.client.root)
        return write

    def wrong(self) -> int:
        """Returns the number of wrong rows."""
        sink = open_sink(f"firestore:{self.project}")
        standing = {
            row.path: msgspec.json.decode(row.fields or b"") for view in VIEWS for row in sink.current_rows(view.target)
        }
        expected = expected_rows(self.documents)
        return sum(standing.get(path) != expected.get(path) for path in {*standing, *expected})

    @contextmanager
    def stream(self, folder: Path, *options: str) -> Iterator[Callable[[], dict[str, int]]]:
        """Starts the stream and waits for all rows.

        Returns a function that ends it and returns the billed operations.
        """
        arguments = [*(part for uri in self.sources for part in ("--source", uri)), *options]
        arguments += ["--sink", f"firestore:{self.project}", "--state", f"sqlite:{folder / self.project}.db"]
        arguments += ["--dead_letter", f"jsonl:{folder / self.project}.dead.jsonl"]
        command = [sys.executable, "-m", "pipelines.main", "--views", "benchmarks.views", "--mode", "stream"]
        log = folder / f"{self.project}.txt"
        with log.open("wb") as output:
            program = subprocess.Popen([*command, *arguments], stdout=output, stderr=output)

        def end() -> dict[str, int]:
            program.send_signal(signal.SIGTERM)
            program.wait()
            said = log.read_text()
            found = re.search(r"Firestore: ([\d,]+) reads, ([\d,]+) writes, ([\d,]+) deletes", said)
            if program.returncode or found is None:
                raise OSError(f"the stream ended with {program.returncode}:\n{said}")
            numbers = (int(number.replace(",", "")) for number in found.groups())
            return dict(zip(("reads", "writes", "deletes"), numbers, strict=True))

        def is_ready() -> bool:
            if program.poll() is not None:
                raise OSError(f"the stream ended with {program.returncode}:\n{log.read_text()}")
            return not self.wrong()

        try:
            wait_until(is_ready, "the rows of the snapshot")
            yield end
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()


# Meetings -------------------------------------------------------------------------------------------------------------


def workload(folder: Path) -> tuple[Documents, list[tuple[str, dict[str, Any] | None]]]:
    """The documents, and the changes."""
    made = Workload(MEETINGS, seed=7)
    made.snapshot(folder / "snapshot")
    lines = [line for file in sorted((folder / "snapshot").iterdir()) for line in file.open()]
    found = {one["path"]: one["fields"] for one in map(msgspec.json.decode, lines)}
    changes = [(one["path"], one["fields"]) for one in map(msgspec.json.decode, islice(made.changes(), CHANGES))]
    return found, changes


def affected_rows(documents: Documents, changes: list[tuple[str, dict[str, Any] | None]]) -> int:
    """How many rows the changes make other ones, each change looked at alone."""
    documents, number = dict(documents), 0
    before = expected_rows(documents)
    for path, fields in changes:
        if fields is None:
            documents.pop(path, None)
        else:
            documents[path] = fields
        after = expected_rows(documents)
        number += sum(before.get(path) != after.get(path) for path in {*before, *after})
        before = after
    return number


def meetings(runs: int, folder: Path) -> int:
    """Prints what changes cost and how many there are in a second; gives how many rows were wrong, or cost too much."""
    documents, changes = workload(folder)
    affected = affected_rows(documents, changes)
    found: list[dict[str, float]] = []
    for run in range(runs):
        found.append(_meetings_once(documents, changes, folder))
        say(f"{run + 1}/{runs} meetings: {found[-1]}")
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    wrong = int(max(one["wrong"] for one in found))
    heads = ["runs", "changes/s", "until all rows stand", "reads / change", "writes / change", "deletes / change"]
    cells = [str(runs), f"{CHANGES / medians['written']:,.0f}", f"{medians['seconds']:.1f} s"]
    cells += [f"{medians[name] / CHANGES:.3f}" for name in ("reads", "writes", "deletes")]
    cells += [f"{medians[name] / affected:.3f}" for name in ("reads", "writes")]
    lines = [[*cells, str(wrong)]]
    heads += ["reads / affected row", "writes / affected row", "wrong rows"]
    print(
        f"{len(documents):,} documents, {CHANGES:,} changes, which affect {affected:,} rows\n\n{table(heads, lines)}\n"
    )
    return wrong + int(medians["writes"] > affected)


def _meetings_once(
    documents: Documents, changes: list[tuple[str, dict[str, Any] | None]], folder: Path
) -> dict[str, float]:
    """A run without the changes, and one with them."""
    billed = []
    figures: dict[str, float] = {}
    for some in ([], changes):
        application = Application(publishes=True)
        application.load(documents)
        with application.stream(folder) as end:
            begun = time.perf_counter()
            for path, fields in some:
                application.change(path, fields)
            figures["written"] = time.perf_counter() - begun
            wait_until(lambda application=application: not application.wrong(), "the rows of the changes")
            figures["seconds"] = time.perf_counter() - begun
            billed.append(end())
        figures["wrong"] = application.wrong()
    return figures | {name: billed[1][name] - billed[0][name] for name in billed[0]}


# Latency --------------------------------------------------------------------------------------------------------------


class Listener:
    """Listens to a collection, and notes when each document first had each version."""

    def __init__(self, client: Client, collection: str, version_of: Callable[[Any], int]) -> None:
        self.seen: list[tuple[str, int, float]] = []
        self.is_current = threading.Event()
        self._version_of, self._client = version_of, client
        self._is_over = threading.Event()
        request = ListenRequest(database=client.database)
        request.add_target.target_id, request.add_target.query.parent = 1, client.root[:-1]
        request.add_target.query.structured_query.from_.add().collection_id = collection
        self._call = client.call("Listen", self._requests(request))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _requests(self, request: Any) -> Iterator[Any]:
        yield request
        self._is_over.wait()

    def _listen(self) -> None:
        known: dict[str, int] = {}
        try:
            for answer in self._call:
                if answer.WhichOneof("response_type") == "target_change":
                    if answer.target_change.target_change_type == 3:  # CURRENT
                        self.is_current.set()
                    continue
                document = answer.document_change.document
                updated = micros_of_proto(document.update_time)
                if known.get(document.name) != updated:
                    known[document.name] = updated
                    path = self._client.path_of(document.name)
                    self.seen.append((path, self._version_of(document), time.perf_counter()))
        except grpc.RpcError:
            if not self._is_over.is_set():
                raise

    def close(self) -> None:
        self._is_over.set()
        self._call.cancel()
        self._thread.join()


def _stamped(row: Any) -> int:
    return int(row.fields["_boiler"].map_value.fields["version"].integer_value)


def _updated(document: Any) -> int:
    return micros_of_proto(document.update_time)


def small_room() -> Documents:
    """Meetings with one user and one ticket, each user in a separate organization."""
    documents: Documents = {"locations/l0": {"latitude": 1.5, "longitude": -0.25, "address": "1 High Street"}}
    for number in range(USERS):
        user = {"firstName": "Ann", "lastName": f"Gray{number}", "hearingAidRequested": False}
        documents[f"users/u{number}"] = {**user, "organization": f"org{number}"}
        documents[f"tickets/t{number}"] = {"user": f"users/u{number}", "attendance": True, "role": "Speaker"}
        documents[f"meetings/m{number}"] = {
            "location": "locations/l0",
            "users": [f"users/u{number}"],
            "tickets": {f"u{number}": f"tickets/t{number}"},
            "status": "in-session",
        }
    return documents


def latencies(
    application: Application, listener: Listener, path_of: Callable[[int], str]
) -> tuple[list[float], float, int]:
    """Returns the milliseconds from each write until the listener had the result; the rate; the refused writes."""
    pause, calls, begun = 1 / RATE, [], time.perf_counter()
    for number in range(LATENCY_CHANGES):
        user = f"users/u{number % USERS}"
        application.documents[user] = fields = {**application.documents[user], "firstName": f"Ann{number}"}
        request = application.request(user, fields)
        time.sleep(max(0.0, begun + number * pause - time.perf_counter()))
        calls.append((path_of(number % USERS), time.perf_counter(), application.client.future("Commit", request)))
    rate = LATENCY_CHANGES / (time.perf_counter() - begun)
    done = [one for one in calls if one[2].exception() is None]  # a busy emulator times out on its own locks
    written = [(path, called, micros_of_proto(future.result().commit_time)) for path, called, future in done]
    newest = {path: version for path, _, version in written}
    wait_until(lambda: newest.items() <= {path: version for path, version, _ in listener.seen}.items(), "the last rows")
    arrivals: dict[str, list[tuple[int, float]]] = {}
    for path, version, at in listener.seen:
        arrivals.setdefault(path, []).append((version, at))
    found = [
        (next(at for seen, at in arrivals[path] if seen >= version) - called) * 1e3 for path, called, version in written
    ]
    return found[WARM_UP:], rate, len(calls) - len(done)


def _latency_once(folder: Path, *options: str) -> tuple[list[float], float, int]:
    """Measures with a stream with these options, or without a stream."""
    application = Application()
    application.load(small_room())
    with ExitStack() as stack:
        if options:
            stack.enter_context(application.stream(folder, *options))
        collection, version_of = ("meeting_sessions", _stamped) if options else ("users", _updated)
        listener = Listener(application.client, collection, version_of)
        stack.callback(listener.close)
        listener.is_current.wait(READY_SECONDS)
        path_of = "meeting_sessions/m{}" if options else "users/u{}"
        return latencies(application, listener, path_of.format)


def latency(runs: int, folder: Path) -> int:
    """Prints the latencies."""
    contenders: Mapping[str, tuple[str, ...]] = {
        "server": (),
        "--coalesce_seconds 0.1": ("--coalesce_seconds", "0.1"),
        "--coalesce_seconds 0": ("--coalesce_seconds", "0"),
    }
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for run in range(runs + 1):
        for name, options in contenders.items():
            some, rate, lost = _latency_once(folder, *options)
            percentiles = statistics.quantiles(some, n=100)
            figures = (rate, percentiles[49], percentiles[98], max(some), lost)
            say(f"{run}/{runs} latency {name}: {', '.join(f'{one:.0f}' for one in figures)}")
            if run:  # the first run warms the server up
                found[name].append(figures)
    lines = []
    for name, measured in found.items():
        medians = [statistics.median(column) for column in zip(*measured, strict=True)]
        lines.append([name, str(runs), *(f"{one:,.0f}" for one in medians)])
    print(f"{table(['', 'runs', 'changes/s', 'p50 ms', 'p99 ms', 'most ms', 'refused'], lines)}\n")
    return 0


def _other(module: str) -> Callable[[int, Path], int]:
    def run(runs: int, folder: Path) -> int:
        sys.stdout.flush()
        code = subprocess.run([sys.executable, "-m", module, "--runs", str(runs)], check=False).returncode
        print(flush=True)
        return code

    return run


PARTS: Mapping[str, Callable[[int, Path], int]] = {
    "writes": _other("benchmarks.firestore_writes"),
    "reads": _other("benchmarks.firestore_reads"),
    "meetings": meetings,
    "latency": latency,
}


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each contender (3)")
    parser.add_argument("--only", default=",".join(PARTS), help="a comma-separated choice of the parts")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only: expected names of {', '.join(PARTS)}, got {unknown[0]!r}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the emulators are stopped too
    failures = 0
    with emulators(), tempfile.TemporaryDirectory() as folder:
        print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
        for name in chosen:
            print(f"## {name}\n", flush=True)
            failures += PARTS[name](arguments.runs, Path(folder))
    print("load at the end:", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())

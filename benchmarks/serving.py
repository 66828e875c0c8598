"""Measures the server: subscribers, reconnections, reads and writes.

    python -m benchmarks.serving [--runs 3] [--only fanout,write] [--subscribers 1000] [--connections 5000]

The server runs on one core, and the clients on another. The view is `Participation` of the live page, with 10,000
tickets.

`fanout`: subscribers follow the view over WebSockets; then tickets are changed by PATCH, one after the other. Measured
are the time from the request until each subscriber has the row, the memory of the server, and the reads of its store.
`connections`: the same with so many that the memory and the limits of open files matter.
`reconnect`: subscribers connect at once, from an offset 10,000 changes back; the time until each has all of them.
`read`: GET by id, and a 304, beside an endpoint written by hand on the same table; all in turns, 16 connections. On a
machine with other work the ratio of the servers' processor times says more than that of the rates.
`write`: from a PATCH until one other subscriber has the row; engine in the server, `--coalesce_seconds 0`.
`form`: from the begin of a client's write of a form until one subscriber has the row; the same server, and
`boiler-beam forms` beside it on the same core, over the same documents.

Tables are printed with what was asked for. Exits with 1 where a client lost a connection or a change, or got another
row than the endpoint written by hand answers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.forms import AttendanceForm
from benchmarks.measure import HERE, ROOT, machine, table
from benchmarks.serving_clients import Http, Subscriber
from boiler_beam import Ref, transaction
from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.events import Change, EncodedRow, Stamp
from boiler_beam.plan import compile_plan
from boiler_beam.samples.live_views import Participation

VIEW, TICKETS, CHANGES = "Participation", 10_000, 10_000
CHANGED_FANOUT, CHANGED_WRITE, WARM_UP = 30, 300, 20
READ_SECONDS, READ_CONNECTIONS, READ_TURNS = 2.0, 16, 3
READY_SECONDS = 120.0
Figures = dict[str, float]


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# The server -----------------------------------------------------------------------------------------------------------


class Server:
    """A running server.

    Args:
        process: It.
        port: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def resident_megabytes(self) -> float:
        return self._status("VmRSS")

    def peak_megabytes(self) -> float:
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cores() -> tuple[set[int], set[int]]:
    """Returns the core of the server, and those of the clients; the same where there is only one."""
    first, *others = sorted(os.sched_getaffinity(os.getppid()))
    return {first}, set(others) or {first}


@contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    """Processes that are started within the context run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(command: Sequence[str | Path], port: int | None = None) -> Iterator[Server]:
    """Runs a server on its core; without a port it says where it listens."""
    with _pinned(_cores()[0]):
        process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            if port is None:
                port = int(process.stdout.readline().split("://")[1].split("/")[0].rpartition(":")[2])
            yield Server(process, port)
        finally:
            process.terminate()


def _serve(*options: str | Path) -> list[str | Path]:
    views = f"boiler_beam.samples.live_views:{VIEW}"
    return ["-m", "boiler_beam", "serve", "--views", views, "--port", "0", *options]


def with_engine(folder: Path) -> list[str | Path]:
    """Creates documents; returns the command of a server whose engine follows them."""
    DocumentsStore(f"{folder}/documents.db").load(list(_documents()))
    rows, source = f"sqlite:{folder}/rows.db", f"documents:{folder}/documents.db"
    return _serve("--source", source, "--rows", rows, "--coalesce_seconds", "0")


def _documents() -> Iterator[Change]:
    for number in range(TICKETS // 10):
        fields = {"firstName": f"Ann{number}", "lastName": "Gray", "organization": f"org{number % 50}"}
        yield Change(f"users/u{number}", 1, msgspec.Raw(msgspec.json.encode(fields)))
    for number in range(TICKETS):
        fields = {"user": f"users/u{number % (TICKETS // 10)}", "role": "guest", "attendance": True}
        yield Change(f"tickets/t{number}", 1, msgspec.Raw(msgspec.json.encode(fields)))


class Rows:
    """Rows that this program writes.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.view = compile_plan([Participation]).views[0].target
        self.path, self.version = folder / "rows.db", 0

    def write(self, commits: int, rows: int) -> None:
        """Writes so many transactions of so many rows, each row once."""
        self.version += 1
        with SqliteSink(str(self.path)).stream([self.view]) as writer:
            for begin in range(0, commits * rows, rows):
                writer.write([(self.view, self._row(number % TICKETS)) for number in range(begin, begin + rows)])

    def _row(self, number: int) -> EncodedRow:
        fields = {"attends": self.version % 2 == 0, "hearingAidRequested": False, "name": f"Ann{number} Gray"}
        return EncodedRow(f"participations/t{number}", Stamp(1, self.version, 0), msgspec.json.encode(fields))


# Clients --------------------------------------------------------------------------------------------------------------


def get(row_id: str, *headers: str) -> bytes:
    return _request("GET", f"/views/{VIEW}/{row_id}", *headers)


def patch(row_id: str, attends: bool) -> bytes:
    body = msgspec.json.encode({"attends": attends}).decode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return _request("PATCH", f"/views/{VIEW}/{row_id}", *head) + body.encode()


def _request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


async def answered(port: int, request: bytes) -> Http:
    """Returns a connection, as soon as the server answers a request with 200."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            http = await Http.connect(port)
            if (await http.call(request))[0] == 200:
                return http
            http.transport.close()
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"port {port}: no answer within {READY_SECONDS:.0f} s")
        await asyncio.sleep(0.05)


async def metric(port: int, name: str) -> int:
    http = await Http.connect(port)
    _, _, body = await http.call(_request("GET", "/metrics"))
    http.transport.close()
    return sum(int(line.split()[-1]) for line in body.decode().splitlines() if line.startswith(name))


def is_rows(text: bytes) -> bool:
    return text.startswith(b'{"jsonrpc":"2.0","method":"rows"')


class Crowd:
    """Many subscribers to the changes from now on.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.members: list[Subscriber] = []
        self.arrivals: list[float] = []
        self.is_complete = asyncio.Event()
        self.key = b""

    async def join(self, number: int) -> None:
        """Opens connections, fifty at a time."""
        for begin in range(0, number, 50):
            some = [Subscriber(VIEW, "now", self._take) for _ in range(min(50, number - begin))]
            await asyncio.gather(*(one.connect(self.port) for one in some))
            await asyncio.gather(*(one.is_open for one in some))
            self.members += some

    def _take(self, member: Subscriber, text: bytes) -> None:
        if self.key and self.key in text:
            self.arrivals.append(time.perf_counter())
            if len(self.arrivals) == len(self.members):
                self.is_complete.set()

    async def change(self, row_id: str, attends: bool) -> list[float]:
        """Changes a row by PATCH; returns the milliseconds until each member had it."""
        http = await Http.connect(self.port)  # the server closes connections that are idle for some seconds

        async def write() -> None:
            status, _, body = await http.call(patch(row_id, attends))
            http.transport.close()
            assert status == 200, body

        return await self.changed(row_id, write)

    async def changed(self, row_id: str, write: Callable[[], Awaitable[None]]) -> list[float]:
        """Changes a row; returns the milliseconds until each member had it. Those that never get it are missing."""
        self.arrivals, self.key = [], f'"key":"{row_id}"'.encode()
        self.is_complete.clear()
        begun = time.perf_counter()
        await write()
        try:
            await asyncio.wait_for(self.is_complete.wait(), READY_SECONDS)
        except asyncio.TimeoutError:
            say(f"{row_id}: {len(self.members) - len(self.arrivals)} of {len(self.members)} did not get it")
        return [(one - begun) * 1e3 for one in self.arrivals]

    def lost(self) -> int:
        return sum(one.lost for one in self.members)

    def leave(self) -> None:
        for one in self.members:
            one.transport.abort()


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Returns p50 and p99."""
    found = statistics.quantiles(values, n=100, method="inclusive")
    return found[49], found[98]


# What is measured -----------------------------------------------------------------------------------------------------


async def crowd(folder: Path, number: int) -> Figures:
    """So many subscribers, and changes that reach all."""
    with started(with_engine(folder)) as server:
        (await answered(server.port, get(f"t{TICKETS - 1}"))).transport.close()
        alone, gathered = server.resident_megabytes(), Crowd(server.port)
        begun = time.perf_counter()
        await gathered.join(number)
        joined = time.perf_counter() - begun
        idle, clients = server.resident_megabytes(), await metric(server.port, "boiler_beam_serving_clients")
        reads = await metric(server.port, "boiler_beam_serving_store_reads")
        times, lasts, expected, worked = list[float](), list[float](), 0, server.cpu_seconds()
        for change in range(CHANGED_FANOUT):
            some = await gathered.change(f"t{change}", attends=False)
            times, lasts, expected = times + some, [*lasts, max(some)], expected + number
        reads = await metric(server.port, "boiler_beam_serving_store_reads") - reads
        p50, p99 = percentiles(times)
        worked = server.cpu_seconds() - worked
        gathered.leave()
        return {
            "connected s": joined, "clients": clients, "MB alone": alone, "MB with them": idle,
            "MB after the changes": server.resident_megabytes(), "reads a change": reads / CHANGED_FANOUT,
            "cpu ms a change": worked / CHANGED_FANOUT * 1e3,
            "p50 ms": p50, "p99 ms": p99, "last ms": statistics.median(lasts),
            "lost": gathered.lost() + expected - len(times),
        }  # fmt: skip


async def reconnect(folder: Path, number: int) -> Figures:
    """So many come back at once, from an offset before 10,000 changes."""
    rows = Rows(folder)
    rows.write(1, TICKETS)
    with started(_serve("--rows", f"sqlite:{rows.path}")) as server:
        http = await answered(server.port, get("t1"))
        _, head, _ = await http.call(_request("GET", f"/views/{VIEW}/stream?offset=now"))
        incarnation = head.decode().partition(f"/views/{VIEW}/")[2].partition("/")[0]
        _, head, _ = await http.call(_request("HEAD", f"/views/{VIEW}/{incarnation}/stream?offset=now"))
        text = next(line.split(": ")[1] for line in head.decode().lower().split("\r\n") if "next-offset" in line)
        http.transport.close()
        rows.write(CHANGES, 1)
        before, worked, ends = server.resident_megabytes(), server.cpu_seconds(), list[float]()
        messages: dict[Subscriber, int] = {}
        all_there = asyncio.Event()

        def take(member: Subscriber, received: bytes) -> None:
            messages[member] = messages.get(member, 0) + received.count(b'"operation":')
            if received.endswith(b'"upToDate":true}}') and is_rows(received):
                ends.append((time.perf_counter() - begun) * 1e3)
                if len(ends) == number:
                    all_there.set()

        begun = time.perf_counter()
        members = [Subscriber(VIEW, f"{incarnation}.{text}", take) for _ in range(number)]
        await asyncio.gather(*(one.connect(server.port) for one in members))
        await asyncio.gather(*(one.is_open for one in members))
        await asyncio.wait_for(all_there.wait(), READY_SECONDS * 3)
        p50, p99 = percentiles(ends)
        reads = await metric(server.port, "boiler_beam_serving_store_reads")
        wrong = sum(messages[one] != CHANGES or one.lost for one in members)
        for one in members:
            one.transport.abort()
        return {
            "p50 s": p50 / 1e3, "all s": max(ends) / 1e3, "cpu s": server.cpu_seconds() - worked,
            "p99 s": p99 / 1e3, "MB before": before, "MB at most": server.peak_megabytes(),
            "reads of the store": reads, "lost": wrong,
        }  # fmt: skip


async def write(folder: Path, number: int) -> Figures:
    """From a PATCH to one other subscriber."""
    with started(with_engine(folder)) as server:
        (await answered(server.port, get(f"t{TICKETS - 1}"))).transport.close()
        other = Crowd(server.port)
        await other.join(1)
        times, worked = list[float](), server.cpu_seconds()
        for change in range(number + WARM_UP):
            times += await other.change(f"t{change}", attends=False)
        other.leave()
        p50, p99 = percentiles(times[WARM_UP:])
        worked = (server.cpu_seconds() - worked) / (number + WARM_UP) * 1e3
        return {
            "p50 ms": p50,
            "p99 ms": p99,
            "server cpu ms": worked,
            "lost": other.lost() + number + WARM_UP - len(times),
        }


async def form(folder: Path, number: int) -> Figures:
    """From a form, which a client writes into the documents, to one subscriber."""
    store = f"documents:{folder}/documents.db"
    with ExitStack() as stack:
        server = stack.enter_context(started(with_engine(folder)))
        (await answered(server.port, get(f"t{TICKETS - 1}"))).transport.close()
        applying = ["-m", "boiler_beam", "forms", "--forms", "benchmarks.forms", "--store", store]
        applying += ["--dead_letter", f"jsonl:{folder}/forms_dead.jsonl"]
        forms = stack.enter_context(started(applying, port=0))
        other = Crowd(server.port)
        await other.join(1)

        def create(change: int) -> None:
            user = f"u{change % (TICKETS // 10)}"
            with transaction(store) as tx:
                tx.create(AttendanceForm(user=user, ticket=Ref(f"tickets/t{change}"), attends=False), f"f{change}")

        times, worked = list[float](), 0.0
        for change in range(number + WARM_UP):
            if change == WARM_UP:
                worked = server.cpu_seconds() + forms.cpu_seconds()
            times += await other.changed(f"t{change}", partial(asyncio.to_thread, create, change))
        other.leave()
        p50, p99 = percentiles(times[WARM_UP:])
        worked = (server.cpu_seconds() + forms.cpu_seconds() - worked) / number * 1e3
        lost = other.lost() + number + WARM_UP - len(times)
        return {"p50 ms": p50, "p99 ms": p99, "cpu ms of both": worked, "lost": lost}


async def _rate(server: Server, requests: Callable[[int], bytes], status: int) -> tuple[float, float]:
    """Returns the answers a second, and those a second of the server's processor time."""
    begun, done, worked = time.perf_counter(), 0, server.cpu_seconds()
    deadline = begun + READ_SECONDS

    async def ask(connection: Http, number: int) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            number = (number + 7919) % TICKETS
            answer = await connection.call(requests(number))
            assert answer[0] == status, answer
            done += 1

    connections = [await Http.connect(server.port) for _ in range(READ_CONNECTIONS)]
    await asyncio.gather(*(ask(one, number * 613) for number, one in enumerate(connections)))
    for one in connections:
        one.transport.close()
    return done / (time.perf_counter() - begun), done / (server.cpu_seconds() - worked)


async def read(folder: Path, _: int) -> Figures:
    """GET by id beside an endpoint written by hand; in turns."""
    rows = Rows(folder)
    rows.write(1, TICKETS)
    port = _free_port()
    peer = [HERE / "peers" / "starlette_rest.py", rows.path, str(port)]
    with started(_serve("--rows", f"sqlite:{rows.path}")) as server, started(peer, port) as hand:
        answers = [await (await answered(one, get("t1"))).call(get("t7")) for one in (server.port, port)]
        bodies = [msgspec.json.decode(body) for _, _, body in answers]
        tag = f'"{"-".join(str(one) for one in bodies[0]["stamp"].values())}"'

        def plain(number: int) -> bytes:
            return get(f"t{number}")

        def conditional(number: int) -> bytes:
            return get(f"t{number}", f"If-None-Match: {tag}")

        asked = {"by hand": (hand, plain, 200), "GET": (server, plain, 200), "304": (server, conditional, 304)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for _turn in range(READ_TURNS):
            for name, (one, requests, status) in asked.items():
                found[name].append(await _rate(one, requests, status))
        figures = {f"{name}/s": statistics.median(rate for rate, _ in rates) for name, rates in found.items()}
        for name, first, second in (("GET / by hand", "GET", "by hand"), ("304 / GET", "304", "GET")):
            turns = list(zip(found[first], found[second], strict=True))
            figures[name] = statistics.median(mine[0] / other[0] for mine, other in turns)
            figures[f"{name}, cpu"] = statistics.median(mine[1] / other[1] for mine, other in turns)
        return {**figures, "lost": int(bodies[0] != bodies[1])}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# The command ----------------------------------------------------------------------------------------------------------

Part = tuple[Callable[[Path, int], Awaitable[Figures]], Callable[[argparse.Namespace], int], Mapping[str, str]]
PARTS: Mapping[str, Part] = {
    "fanout": (crowd, lambda given: int(given.subscribers), {"MB with them": "under 200", "clients": "one listener"}),
    "connections": (crowd, lambda given: int(given.connections), {"lost": "0"}),
    "reconnect": (reconnect, lambda given: int(given.subscribers), {}),
    "read": (read, lambda given: 0, {"GET / by hand": "at least 0.8", "304 / GET": "above 1"}),
    "write": (write, lambda given: int(given.changes), {"p50 ms": "under 25"}),
    "form": (form, lambda given: int(given.changes), {}),
}


def _open_files(wanted: int) -> int:
    """Raises the limit of open files of this process and the servers that it starts; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(soft, limit)


def _measure(name: str, arguments: argparse.Namespace) -> int:
    """Measures one part so many times, and prints its table; returns how much was lost."""
    measure, number_of, asked = PARTS[name]
    number, found = number_of(arguments), list[Figures]()
    for run in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            figures: Any = asyncio.run(measure(Path(folder), number))
        say(f"{run + 1}/{arguments.runs} {name}: {', '.join(f'{key} {value:.5g}' for key, value in figures.items())}")
        found.append(figures)
    lines = []
    for key in found[0]:
        values = [one[key] for one in found]
        shown = statistics.median(values), min(values), max(values)
        lines.append([key, *(f"{one:,.2f}" if one < 10 else f"{one:,.0f}" for one in shown), asked.get(key, "")])
    print(f"## {name}{f', {number:,}' if number else ''}\n")
    print(f"{table(['', 'median', 'least', 'most', 'asked'], lines)}\n", flush=True)
    return int(sum(one["lost"] for one in found))


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each part (3)")
    parser.add_argument("--only", default=",".join(PARTS), help="a comma-separated choice of the parts")
    parser.add_argument("--subscribers", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--changes", type=int, default=CHANGED_WRITE, help=f"of `write` and `form` ({CHANGED_WRITE})")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only: expected names of {', '.join(PARTS)}, got {unknown[0]!r}")
    most = max(arguments.subscribers, arguments.connections)
    if (limit := _open_files(most + 500)) < most + 100:
        parser.error(f"--connections {most}: expected fewer than the limit of open files, got {limit}; fix: ulimit -n")
    os.sched_setaffinity(0, _cores()[1])
    print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
    lost = sum(_measure(name, arguments) for name in chosen)
    print("load at the end:", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())

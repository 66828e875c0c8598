"""Measures programs: creates environments and documents, runs the programs, and checks the rows that they write.

A contender runs in the virtual environment of its tools, created in `benchmarks/.venvs`, on documents in
`benchmarks/data`. For each run the wall time with start-up, the processor time, and the memory of the process and its
child processes are measured (on Linux; shared pages are counted for each process). Start-up is measured separately, as
the time of a program that only imports the modules of the contender.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA, VENVS, RESULTS = HERE / "data", HERE / ".venvs", HERE / "results"
SAMPLE_SECONDS = 0.02
SHOWN_LINES = 8

# Pathway's requirements conflict with Beam's; boiler_beam and the naive pipeline share one Beam.
ENVIRONMENTS = {
    "plain": ("orjson==3.13.0",),
    "duckdb": ("duckdb==2.0.0",),
    "pathway": ("pathway==0.33.0", "orjson==3.13.0"),
    "project": (f"{ROOT}[beam]",),
}
SHOWN_VERSIONS = {"orjson", "duckdb", "pathway", "apache-beam", "msgspec"}


@dataclass(frozen=True)
class Contender:
    """One program that computes the two views.

    Attributes:
        environment: The virtual environment that it runs in.
        arguments: Of Python, with `{snapshot}` and `{output}` for the two folders, `{changes}` for the file.
        imports: What start-up is: the modules whose import is not counted as run time.
        outputs: The files in the output folder that hold its rows.
        expected: The file of the data that holds the right ones.
    """

    name: str
    environment: str
    arguments: tuple[str, ...]
    imports: str
    outputs: tuple[str, ...] = ("meeting_sessions.jsonl", "organization_summaries.jsonl")
    expected: str = "expected.jsonl"


@dataclass(frozen=True)
class Measurement:
    """The measurement of one run of a contender; the processor time is without start-up.

    Attributes:
        peak_bytes: The peak memory; None if the system does not report it.
        told: The figures that the program itself wrote to `figures.json` in the output folder.
    """

    contender: str
    wall_seconds: float
    start_seconds: float
    cpu_seconds: float
    peak_bytes: int | None
    rows: int
    wrong: int
    told: dict[str, float]


@dataclass(frozen=True)
class Failure:
    """A run that failed."""

    contender: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    returncode: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None


class SetupError(Exception):
    """An environment or the data could not be created; the text has the last output of the tool."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- Making what the contenders need ----------------------------------------------------------------------------------


def _make_once(folder: Path, made_from: str, make: Callable[[Path], None]) -> Path:
    """Creates a folder, unless it was completed before from the same inputs."""
    stamp = folder.with_name(f"{folder.name}.stamp")
    digest = hashlib.sha256(made_from.encode()).hexdigest()
    if not (folder.exists() and stamp.is_file() and stamp.read_text() == digest):
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        say(f"making {folder.relative_to(ROOT)}")
        make(folder)
        stamp.write_text(digest)
    return folder


def _environment() -> dict[str, str]:
    """Returns the environment without Python's own variables, one of which would disable cached bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def tool(*command: str | Path) -> str:
    """Runs a command that must succeed; returns its stdout."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(_last_lines(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def _make_environment(name: str) -> Path:
    """Returns the Python of a virtual environment with the packages of `ENVIRONMENTS`."""
    requirements = ENVIRONMENTS[name]

    def make(folder: Path) -> None:
        tool(sys.executable, "-m", "venv", folder)
        tool(_python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)

    made_from = " ".join((sys.version, *requirements))
    if name == "project":
        project = ROOT / "pyproject.toml"
        if not project.is_file():
            raise SetupError(f"{project}: expected boiler_beam's project file, found none: run from a checkout")
        made_from += project.read_text()
    return _python_of(_make_once(VENVS / name, made_from, make))


def _make_environments(contenders: Iterable[Contender]) -> tuple[dict[str, Path], list[Failure]]:
    """Returns the created environments, and a failure for each contender without one."""
    pythons: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    failures = []
    for contender in contenders:
        name = contender.environment
        if name not in pythons and name not in reasons:
            try:
                pythons[name] = _make_environment(name)
            except SetupError as error:
                reasons[name] = f"no environment {name}:\n{error}"
        if name in reasons:
            failures.append(Failure(contender.name, reasons[name]))
    return pythons, failures


def _make_data(size: str) -> Path:
    """Returns the folder with `snapshot/`, `changes.jsonl`, and the expected rows before and after the changes."""
    if size == "flights":
        return _make_flights()
    workload, reference = HERE / "workload.py", HERE / "reference.py"

    def make(folder: Path) -> None:
        tool(sys.executable, workload, folder, "--size", size)
        snapshot = sorted((folder / "snapshot").iterdir())
        tool(sys.executable, reference, folder / "expected.jsonl", *snapshot)
        tool(sys.executable, reference, folder / "expected_stream.jsonl", *snapshot, folder / "changes.jsonl")

    return _make_once(DATA / size, workload.read_text() + reference.read_text(), make)


def _make_flights() -> Path:
    """Returns such a folder with real data; the expected rows are those of the hand-written program."""
    workload, reference = HERE / "flights.py", HERE / "peers" / "plain_flights.py"

    def make(folder: Path) -> None:
        tool(sys.executable, workload, folder)
        tool(sys.executable, reference, folder / "snapshot", folder)
        (folder / "rows.jsonl").rename(folder / "expected.jsonl")

    return _make_once(DATA / "flights", workload.read_text() + reference.read_text(), make)


def _versions(python: Path) -> list[str]:
    frozen = tool(python, "-m", "pip", "freeze", "--disable-pip-version-check").split()
    return [line for line in frozen if line.partition("==")[0] in SHOWN_VERSIONS]


# --- Measuring --------------------------------------------------------------------------------------------------------


def _read_bytes(file: str) -> bytes:
    """Reads a file of /proc; empty if its process has ended."""
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def _resident_bytes(leader: int) -> int | None:
    """Returns the resident memory of a process and its child processes; None without /proc."""
    if not os.path.exists("/proc/self/statm"):
        return None
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        # The command's name, in parentheses, may hold spaces: state and parent follow the last one.
        if entry.isdigit() and (status := _read_bytes(f"/proc/{entry}/stat")):
            children.setdefault(int(status.rpartition(b")")[2].split()[1]), []).append(int(entry))
    tree = [leader]
    for process in tree:
        tree += children.get(process, ())
    sizes = [_read_bytes(f"/proc/{process}/statm").split() for process in tree]
    return sum(int(size[1]) for size in sizes if size) * os.sysconf("SC_PAGE_SIZE")


def _run(command: Sequence[str], log: Path, timeout_seconds: float) -> Finished:
    """Runs a command to its end with its output in a file; a thread samples its memory."""
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=output, start_new_session=True
        )
        samples: list[int | None] = []
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                samples.append(_resident_bytes(process.pid))
                if time.perf_counter() - started > timeout_seconds:
                    output.write(f"\nstopped after {timeout_seconds} seconds\n".encode())
                    output.flush()
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - started
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            ended.set()
            watcher.join()
    known = [sample for sample in samples if sample is not None]
    return Finished(process.returncode, seconds, usage.ru_utime + usage.ru_stime, max(known, default=None))


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-SHOWN_LINES:])


def _measure(contender: Contender, python: Path, data: Path, timeout_seconds: float) -> Measurement | Failure:
    """Runs a contender once: start-up alone, then the program, then the check of its rows."""
    output = DATA / "output" / contender.name
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    log = output / "stderr.txt"
    start = _run((str(python), "-c", f"import {contender.imports}"), log, timeout_seconds)
    if start.returncode:
        return Failure(contender.name, _last_lines(log.read_text(errors="replace")))
    places = {"snapshot": str(data / "snapshot"), "changes": str(data / "changes.jsonl"), "output": str(output)}
    arguments = [argument.format_map(places) for argument in contender.arguments]
    done = _run((str(python), *arguments), log, timeout_seconds)
    if done.returncode:
        return Failure(contender.name, f"exit {done.returncode}\n{_last_lines(log.read_text(errors='replace'))}")
    files = [str(output / name) for name in contender.outputs]
    check = subprocess.run(
        (sys.executable, str(HERE / "check.py"), str(data / contender.expected), *files),
        capture_output=True,
        text=True,
        check=False,
    )
    if not check.stdout:
        return Failure(contender.name, _last_lines(check.stderr))
    result = json.loads(check.stdout)
    if result["wrong"]:
        say(f"{contender.name}: {result['wrong']} wrong rows, the first: {json.dumps(result['first_wrong'])}")
    figures = output / "figures.json"
    return Measurement(
        contender=contender.name,
        wall_seconds=done.seconds,
        start_seconds=start.seconds,
        cpu_seconds=done.cpu_seconds - start.cpu_seconds,
        peak_bytes=done.peak_bytes,
        rows=result["rows"],
        wrong=result["wrong"],
        told=json.loads(figures.read_text()) if figures.exists() else {},
    )


def _measure_in_turns(
    contenders: Sequence[Contender], pythons: dict[str, Path], data: Path, runs: int, timeout_seconds: float
) -> tuple[dict[str, list[Measurement]], list[Failure]]:
    """Runs the contenders in turns; one that fails is not run again."""
    measurements: dict[str, list[Measurement]] = {contender.name: [] for contender in contenders}
    failures: list[Failure] = []
    for turn in range(runs):
        failed = {failure.contender for failure in failures}
        for contender in contenders:
            if contender.name in failed:
                continue
            result = _measure(contender, pythons[contender.environment], data, timeout_seconds)
            if isinstance(result, Failure):
                failures.append(result)
                say(f"{turn + 1}/{runs} {contender.name}: failed")
            else:
                measurements[contender.name].append(result)
                say(f"{turn + 1}/{runs} {contender.name}: {result.wall_seconds:.2f} s, {result.wrong} wrong rows")
    return {name: measured for name, measured in measurements.items() if measured}, failures


def machine() -> dict[str, str]:
    """Describes the machine, as far as the system reports it."""
    model = platform.processor() or platform.machine()
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": f"{os.cpu_count()} x {model}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


# --- The whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """The measurements of each contender, in the order of its runs."""

    size: str
    measurements: dict[str, list[Measurement]]
    failures: list[Failure]
    pythons: dict[str, Path]
    machine: dict[str, str]


def parse(
    description: str, sizes: Sequence[str], contenders: Callable[[str], Sequence[Contender]]
) -> argparse.Namespace:
    """Parses the command line; `contenders` returns the contenders of a size."""
    names = list(dict.fromkeys(contender.name for size in sizes for contender in contenders(size)))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", choices=sizes, default="medium")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (3)")
    parser.add_argument("--only", help=f"a comma-separated choice of {','.join(names)}")
    parser.add_argument("--timeout_seconds", type=float, default=600, help="of one run (600)")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else names
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"--only: expected names of {', '.join(names)}, got {unknown[0]!r}")
    if arguments.runs < 1:
        parser.error(f"--runs: expected at least 1, got {arguments.runs}")
    arguments.contenders = [contender for contender in contenders(arguments.size) if contender.name in chosen]
    return arguments


def measure_all(arguments: argparse.Namespace) -> Results:
    """Creates what is needed and runs the contenders in turns; exits if there are no documents."""
    try:
        data = _make_data(arguments.size)
    except SetupError as error:
        sys.exit(f"no data:\n{error}")
    pythons, failures = _make_environments(arguments.contenders)
    able = [contender for contender in arguments.contenders if contender.environment in pythons]
    ran_on = machine()
    measurements, failed = _measure_in_turns(able, pythons, data, arguments.runs, arguments.timeout_seconds)
    return Results(arguments.size, measurements, failures + failed, pythons, ran_on)


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def tell(results: Results, name: str, **facts: object) -> int:
    """Prints failures, writes all results to `benchmarks/results/NAME.json`, and returns the exit code."""
    versions = sorted({version for python in results.pythons.values() for version in _versions(python)})
    print(", ".join(f"{name} {value}" for name, value in results.machine.items()), ", ".join(versions), sep="\n")
    for failure in results.failures:
        print(f"\n{failure.contender} failed: {failure.reason}")
    runs = [one for measured in results.measurements.values() for one in measured]
    report = {"size": results.size, "machine": results.machine, "versions": versions, **facts}
    report["measurements"] = [asdict(one) for one in runs]
    report["failures"] = [asdict(failure) for failure in results.failures]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    return 1 if results.failures or any(one.wrong for one in runs) else 0

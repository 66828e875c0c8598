"""Measures boiler_beam and other tools on a stream of changes, and checks every row at the end.

    python -m benchmarks.stream [--size small|medium|large|huge] [--runs 3] [--only plain,memory]

The views and documents are those of `benchmarks/run.py`, followed by the changes of `changes.jsonl`. The time is
measured from the first change until all rows are written, after the snapshot was loaded. Contenders record these times
themselves (`benchmarks/clock.py`) and run in turns; a ratio compares the contenders of one turn. For Beam the whole run
without start-up is measured, because a pipeline has no end of the snapshot. It runs at the small size; its figures are
changes, including the documents of the snapshot, and seconds of one processor. Prism runs if `BOILER_BEAM_PRISM` names
its binary.

`--size huge` measures memory: two million documents through the durable engine. The tables are printed on stdout, and
all results are written to `benchmarks/results/stream_SIZE.json`. Exits with 1 if a contender failed or a row is wrong.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence

from benchmarks.measure import DATA, HERE, Contender, Measurement, Results, measure_all, parse, table, tell

EXPECTED = "expected_stream.jsonl"
PLACES = ("{snapshot}", "{changes}", "{output}")
PRISM = os.environ.get("BOILER_BEAM_PRISM") or shutil.which("prism")


def _peer(name: str, script: str, imports: str) -> Contender:
    return Contender(name, name, (str(HERE / "peers" / script), *PLACES), imports, expected=EXPECTED)


def _embedded(name: str, state: str) -> Contender:
    arguments = ("-m", "benchmarks.follow", *PLACES, "--state", state)
    return Contender(name, "project", arguments, "benchmarks.follow", ("rows.jsonl",), EXPECTED)


def _beam(name: str, runner: str, *options: str) -> Contender:
    sources = ("--source", "file:{snapshot}", "--source", "file:{changes}")
    sinks = ("--sink", "jsonl:{output}/rows.jsonl", "--dead_letter", "jsonl:{output}/dead_letters.jsonl")
    arguments = ("-m", "pipelines.main", "--views", "benchmarks.views", "--mode", "stream", *sources, *sinks)
    imports = "apache_beam, boiler_beam, pipelines.main"
    return Contender(name, "project", (*arguments, "--runner", runner, *options), imports, ("rows.jsonl",), EXPECTED)


SQLITE = _embedded("sqlite", "sqlite:{output}/state.db")
CONTENDERS = (
    _peer("plain", "plain_stream.py", "orjson"),
    _peer("pathway", "pathway_stream.py", "pathway"),
    _embedded("memory", "memory:"),
    SQLITE,
)
BEAM = (
    _beam("fn_api_runner", "FnApiRunner"),
    *([_beam("prism", "PrismRunner", f"--prism_location={PRISM}")] if PRISM else []),
)


def _contenders(size: str) -> Sequence[Contender]:
    return {"small": (*CONTENDERS, *BEAM), "huge": (SQLITE,)}.get(size, CONTENDERS)


def _lines_of(size: str) -> tuple[int, int]:
    """Returns the numbers of documents and changes."""
    changes = DATA / size / "changes.jsonl"
    counts = [sum(1 for _ in file.open("rb")) for file in (*(DATA / size / "snapshot").iterdir(), changes)]
    return sum(counts[:-1]), counts[-1]


def _median(measured: Sequence[Measurement], value: Callable[[Measurement], float]) -> float:
    return statistics.median(map(value, measured))


def _rate(one: Measurement) -> float:
    return one.told["changes"] / one.told["seconds"]


def _ratio(mine: Sequence[Measurement], other: Sequence[Measurement] | None) -> str:
    """Returns the median of the ratios of two contenders' rates in each turn."""
    if not other:
        return "-"
    return f"{statistics.median(_rate(one) / _rate(two) for one, two in zip(mine, other, strict=False)):.2f}"


def _peak(measured: Sequence[Measurement]) -> str:
    peaks = [one.peak_bytes for one in measured if one.peak_bytes is not None]
    return f"{statistics.median(peaks) / 2**20:,.0f}" if peaks else "-"


def _streams(results: Results, documents: int) -> str:
    """Returns the table of the programs that record when they began with the changes."""
    told = {name: measured for name, measured in results.measurements.items() if measured[0].told}
    heads = ["contender", "runs", "changes/s", "least", "most", "cpu s", "load documents/s", "peak MB", "rows", "wrong"]
    lines = []
    for name, measured in told.items():
        rates = [_rate(one) for one in measured]
        cells = [name, str(len(measured))]
        cells += [f"{rate:,.0f}" for rate in (statistics.median(rates), min(rates), max(rates))]
        cells.append(f"{_median(measured, lambda one: one.told['cpu_seconds']):.1f}")
        cells.append(f"{documents / _median(measured, lambda one: one.told['load_seconds']):,.0f}")
        cells += [_peak(measured), f"{measured[-1].rows:,}", str(max(one.wrong for one in measured))]
        lines.append([*cells, _ratio(measured, told.get("pathway")), _ratio(measured, told.get("plain"))])
    return table([*heads, "rate / pathway", "rate / plain"], lines) if lines else ""


def _pipelines(results: Results, changes: int) -> str:
    """Returns the table of the pipelines."""
    heads = [
        "runner",
        "runs",
        "changes",
        "run s",
        "cpu s",
        "changes/s",
        "changes/s and core",
        "peak MB",
        "rows",
        "wrong",
    ]
    lines = []
    for name, measured in results.measurements.items():
        if measured[0].told:
            continue
        seconds = _median(measured, lambda one: one.wall_seconds - one.start_seconds)
        worked = _median(measured, lambda one: one.cpu_seconds)
        cells = [name, str(len(measured)), f"{changes:,}", f"{seconds:.1f}", f"{worked:.1f}"]
        cells += [f"{changes / seconds:,.0f}", f"{changes / worked:,.0f}", _peak(measured)]
        lines.append([*cells, f"{measured[-1].rows:,}", str(max(one.wrong for one in measured))])
    return table(heads, lines) if lines else ""


def main() -> int:
    """Runs the command line; returns the exit code."""
    sizes = ("small", "medium", "large", "huge")
    arguments = parse("Measures boiler_beam on a stream of changes beside other tools.", sizes, _contenders)
    results = measure_all(arguments)
    documents, changes = _lines_of(results.size)
    print(f"Stream, {results.size}: {documents:,} documents, {changes:,} changes; medians of {arguments.runs}\n")
    for text in (_streams(results, documents), _pipelines(results, documents + changes)):
        if text:
            print(f"{text}\n")
    state = DATA / "output" / SQLITE.name / "state.db"
    if SQLITE.name in results.measurements:
        print(f"the state file of {SQLITE.name}: {state.stat().st_size / 2**20:,.0f} MB")
    return tell(results, f"stream_{results.size}")


if __name__ == "__main__":
    sys.exit(main())

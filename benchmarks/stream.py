"""Measures boiler_beam on a stream of changes beside other tools, and checks every row that they leave.

    python -m benchmarks.stream [--size small|medium|large|huge] [--runs 3] [--only plain,memory]

The views and documents are those of `benchmarks/run.py`, followed by the changes of `changes.jsonl`. Counted are the
changes, from the first that is read until all rows are written; the load of the snapshot comes before. Contenders tell
these times themselves (`benchmarks/clock.py`) and run in turns; ratios are those of each turn. Of Beam the whole run is
counted, without start-up: it has no point at which the snapshot is in. It is measured at the small size, in changes
(those that the snapshot holds, too) and seconds of one processor; Prism where `BOILER_BEAM_PRISM` names its binary.

`--size huge` is the measurement of memory: two million documents through the durable engine. The tables go to stdout,
everything to `benchmarks/results/stream_SIZE.json`. Exits with 1 when a contender failed or left a wrong row.
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
    """How many documents and changes there are."""
    changes = DATA / size / "changes.jsonl"
    counts = [sum(1 for _ in file.open("rb")) for file in (*(DATA / size / "snapshot").iterdir(), changes)]
    return sum(counts[:-1]), counts[-1]


def _median(measured: Sequence[Measurement], value: Callable[[Measurement], float]) -> float:
    return statistics.median(map(value, measured))


def _rate(one: Measurement) -> float:
    return one.told["changes"] / one.told["seconds"]


def _ratio(mine: Sequence[Measurement], other: Sequence[Measurement] | None) -> str:
    """Of the rates in each turn, their median."""
    if not other:
        return "-"
    return f"{statistics.median(_rate(one) / _rate(two) for one, two in zip(mine, other, strict=False)):.2f}"


def _peak(measured: Sequence[Measurement]) -> str:
    peaks = [one.peak_bytes for one in measured if one.peak_bytes is not None]
    return f"{statistics.median(peaks) / 2**20:,.0f}" if peaks else "-"


def _streams(results: Results, documents: int) -> str:
    """The table of the programs that tell when they began with the changes."""
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
    """The table of the pipelines."""
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
    """The command line; gives the exit code."""
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

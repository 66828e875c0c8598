"""Measures what the embedded engine keeps in memory, for each document, index entry and row.

    python -m benchmarks.memory [--meetings 9009]

The views and documents are those of `benchmarks/run.py`; 9,009 meetings make 100,000 documents. They pass through the
engine and its state in batches of 10,000 changes, as in a stream; the rows are rendered and committed. Three processes
report how much their resident memory grew: with `memory:`, with a new state file, and with that file opened again. A
fourth one reports with `tracemalloc` what its parts hold.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.views import MeetingSession, OrganizationSummary
from benchmarks.workload import Workload
from boiler_beam.connectors import open_source
from boiler_beam.engine.garbage import rare_garbage_collection
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state import State, open_state
from boiler_beam.engine.state.base import OutboxEntry, StateUpdate
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import compile_plan

BATCH = 10_000
MODES = ("memory", "durable", "restarted", "parts")
PARTS = {
    "engine/index.py": "index entries",
    "engine/joins.py": "index entries",
    "engine/rows.py": "rows",
    "engine/accumulators.py": "rows",
    "views/fold.py": "rows",
    "steps/emission.py": "rows",
    "steps/contributions.py": "kept contributions",
    "<string>": "kept contributions",  # named tuples
    "boiler_beam/steps/newest.py": "documents",
    "boiler_beam/models/codec.py": "documents",
    "boiler_beam/models/shapes.py": "documents",
    "boiler_beam/values.py": "documents",
    "boiler_beam/connectors/files.py": "documents",
    "boiler_beam/connectors/jsonl.py": "documents",
    "boiler_beam/events.py": "documents",
}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _refuse(letter: DeadLetter) -> None:
    raise AssertionError(letter)


def _changes(folder: Path) -> Iterator[Change]:
    source = open_source(f"file:{folder}")
    for split in source.splits():
        for one in source.read(split):
            assert isinstance(one, Change)
            yield one


def load(state: State, changes: Iterator[Change]) -> IncrementalEngine:
    """Opens a state, and takes documents."""
    engine = IncrementalEngine(compile_plan([MeetingSession, OrganizationSummary]), _refuse)
    state.open(engine)
    number = 0
    while batch := list(islice(changes, BATCH)):
        number += len(batch)
        engine.observe(batch)
        rows = [OutboxEntry(view.view.name, row) for view in engine.views for row in view.rows.take_dirty()]
        state.commit(StateUpdate(rows, {"snapshot": str(number)}), engine)
        state.sent()
    return engine


def counted(engine: IncrementalEngine) -> dict[str, int]:
    """Returns how many there are of each part. An index entry is a row, or a document, at a key."""
    paths = [path for versions in engine.versions.types for path in versions.documents]
    joins = [join for view in engine.views for join in view.joins]
    entries = sum(len(some) for join in joins for some in join.documents_at.values())
    entries += sum(len(tuple(join.rows_of.of(path))) for join in joins for path in paths)
    with_functions = [view.joins[position] for view, position in ((engine.views[1], 0), (engine.views[1], 1))]
    kept = sum(len(join.versions.documents) for join in with_functions)
    rows = sum(len(view.rows.records) for view in engine.views)
    return {"documents": len(paths), "index entries": entries, "kept contributions": kept, "rows": rows}


def _measure(mode: str, folder: Path) -> None:
    """Measures in this process, and prints the figures."""
    path = folder.parent / "state.db"
    before, begin = _resident_bytes(), time.process_time()
    if mode == "parts":
        tracemalloc.start()
    state = open_state("memory:" if mode in ("memory", "parts") else f"sqlite:{path}")
    with rare_garbage_collection():
        engine = load(state, iter(()) if mode == "restarted" else _changes(folder))
    seconds, grown = time.process_time() - begin, _resident_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    numbers = counted(engine)
    if mode == "parts":
        _print_parts(numbers)
        fields = [len(data) for versions in engine.versions.types for data in versions.fields.values()]
        print(f"fields of a document as JSON: {sum(fields) / len(fields):,.0f} bytes")
    state.close()
    if mode != "parts":
        file = f", {os.path.getsize(path) / 1e6:.0f} MB in the file" if mode != "memory" else ""
        resident = f"{grown / 1e6:.0f} MB resident (peak {peak / 1e6:.0f}), {grown / numbers['documents']:,.0f} bytes"
        print(f"{mode}: {resident} a document, {seconds:.1f} s of processor time{file}")


def _print_parts(numbers: dict[str, int]) -> None:
    sizes = Counter[str]()
    for one in tracemalloc.take_snapshot().statistics("filename"):
        name = one.traceback[0].filename
        sizes[next((part for suffix, part in PARTS.items() if name.endswith(suffix)), "other")] += one.size
    for part, number in numbers.items():
        print(f"{part}: {number:,}, {sizes[part] / number:,.0f} bytes each")
    print(f"other: {sizes['other'] / 1e6:.1f} MB")


def main() -> None:
    """Makes each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meetings", type=int, default=9009)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        _measure(options.mode, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder) / "snapshot"
        Workload(options.meetings, seed=7).snapshot(snapshot)
        for mode in MODES:
            command = [sys.executable, "-m", "benchmarks.memory", "--mode", mode, "--folder", str(snapshot)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""What many workers would get of a workload, counted from the messages that the steps of a stream send.

    python -m benchmarks.simulate_scale --views benchmarks.views --documents FOLDER --changes FILE [--workers 1000]

The keyed steps run in this process and keep their state as bytes, as a runner does. So the numbers are exact for:

* messages and bytes between workers for one change;
* the bytes of state for a document at an edge, and for a row;
* how often each key is named, from which follows how evenly 1,000 workers are used, and which keys are hot;
* rows that one change affects (its fan-out).

They say nothing about time: what a worker of Dataflow takes a second is measured there, or not at all. The price is a
formula over these numbers and a price list.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from boiler_beam.connectors import read_sources
from boiler_beam.connectors.billed import PRICES, PRICES_OF
from boiler_beam.events import Change
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.steps.keyed.routing import ROW, Key
from pipelines.views import load_views
from tests.helpers.network import StoredCell, ViewNetwork

SECONDS_OF_A_MONTH = 730 * 3600
CLOUD_PRICES_OF = "2025-06"
CLOUD_PRICES = {
    "worker, vCPU hour": 0.069, "worker, GB hour": 0.003557, "streaming engine, GB": 0.018, "Pub/Sub, TiB": 40.0,
    "function, million calls": 0.40, "function, vCPU second": 0.000024, "function, GiB second": 0.0000025,
}  # fmt: skip
"""USD in us-central1, beyond what is free.

Sources: https://cloud.google.com/dataflow/pricing, https://cloud.google.com/pubsub/pricing,
https://cloud.google.com/run/pricing
"""
MESSAGES_OF_A_VCPU = 1_000
"""Assumed: messages that one vCPU takes a second through a stateful step on Dataflow. Not measured there."""
_CALL_SECONDS, _CALL_CONCURRENCY, _CALL_GIB = 0.02, 10, 0.5
"""Assumed of the relay: how long a call takes, how many share an instance, and its memory."""
_LEAST_BYTES = 1024
"""Pub/Sub bills at least so much for a message. Source: https://cloud.google.com/pubsub/pricing"""


@dataclass
class Figures:
    """What was counted.

    Attributes:
        changes: The number of changes.
        messages: Messages, by step.
        bytes: Their bytes with keys, by step.
        keys: How often each key was named, by step.
        fan_out: Rows that each change affected.
        written: Rows that were written, if each change is written alone.
        row_bytes: Their bytes.
        state: Bytes of state and number of cells, by step.
    """

    changes: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    keys: dict[str, Counter[bytes]] = field(default_factory=dict)
    fan_out: list[int] = field(default_factory=list)
    written: int = 0
    row_bytes: int = 0
    change_bytes: int = 0
    state: dict[str, tuple[int, int]] = field(default_factory=dict)


class _Counting(ViewNetwork):
    """Counts what it delivers."""

    def __init__(self, plan: Plan, number: int, figures: Figures) -> None:
        super().__init__(plan.views[number], plan)
        self.figures, self.prefix = figures, plan.views[number].name
        self.is_counting = False

    def take_all(self) -> set[str]:
        """Delivers all messages; returns the rows that were reached."""
        rows = set()
        while self.bag:
            label, key, message = self.bag[0]
            if label == ROW:
                rows.add(key.name)
            if self.is_counting:
                name, encoded = f"{self.prefix}/{label}", key.encode()
                self.figures.messages[name] += 1
                data = bytes(message.fields) if isinstance(message, Change) else message
                self.figures.bytes[name] += len(encoded) + len(data)
                self.figures.keys.setdefault(name, Counter())[encoded] += 1
            self.settle(1)
        return rows


def measure(plan: Plan, snapshot: Iterable[Change], changes: Iterable[Change]) -> Figures:
    """Sends a snapshot and then changes through the steps of all views, and counts what the changes cause."""
    figures = Figures()
    networks = [_Counting(plan, number, figures) for number in range(len(plan.views))]
    for change in snapshot:
        for one in networks:
            one.observe(change)
            one.take_all()
    for one in networks:
        one.render()
        one.emitted.clear()
        one.is_counting = True
    for change in changes:
        reached = 0
        for one in networks:
            one.observe(change)
            rows = one.take_all()
            reached += len(rows)
            one.render(rows)
            figures.written += len(one.emitted)
            figures.row_bytes += sum(len(row.fields or b"") for row in one.emitted)
            one.emitted.clear()
        figures.changes += 1
        figures.change_bytes += len(bytes(change.fields)) + len(change.path)
        figures.fan_out.append(reached)
    for one in networks:
        for (label, key), cell in one.cells.items():
            size, number = figures.state.get(f"{one.prefix}/{label}", (0, 0))
            figures.state[f"{one.prefix}/{label}"] = size + len(key.encode()) + _bytes_of(cell), number + 1
    return figures


def _bytes_of(cell: StoredCell) -> int:
    return len(cell.head or b"") + sum(len(entry) for log in cell.logs for entry in log.entries)


def worker_of(step: str, key: bytes, workers: int) -> int:
    """The worker of a key: by a hash, as a shuffle distributes keys."""
    digest = hashlib.blake2b(step.encode() + b"\0" + key, digest_size=8).digest()
    return int.from_bytes(digest, "big") % workers


def skew(figures: Figures, workers: int) -> tuple[float, list[tuple[str, str, int]]]:
    """How much more the busiest worker gets than the mean, and the hottest keys."""
    load: Counter[int] = Counter()
    hottest = []
    for step, keys in figures.keys.items():
        for key, number in keys.items():
            load[worker_of(step, key, workers)] += number
        hottest += [(step, _name(key), number) for key, number in keys.most_common(3)]
    mean = sum(load.values()) / workers
    return max(load.values(), default=0) / (mean or 1), sorted(hottest, key=lambda one: -one[2])[:5]


def _name(key: bytes) -> str:
    found = Key.decode(key)
    return found.name if found.part is None else f"{found.name} {found.part}"


def monthly(figures: Figures, changes_per_second: float) -> dict[str, float]:
    """Returns what a month costs in USD, by resource.

    Args:
        figures: Of a workload.
        changes_per_second: How many changes come.
    """
    number = max(figures.changes, 1)
    changes = changes_per_second * SECONDS_OF_A_MONTH
    messages, shuffled = sum(figures.messages.values()) / number, sum(figures.bytes.values()) / number
    written, size = figures.written / number, max(figures.change_bytes / number + 300, _LEAST_BYTES)
    vcpus = max(2.0, changes_per_second * messages / MESSAGES_OF_A_VCPU)
    hours, prices = SECONDS_OF_A_MONTH / 3600, CLOUD_PRICES
    seconds = changes * _CALL_SECONDS / _CALL_CONCURRENCY
    return {
        "Firestore writes": changes * written * PRICES["one region"][1] / 1e5,
        "Dataflow workers": vcpus * hours * (prices["worker, vCPU hour"] + 4 * prices["worker, GB hour"]),
        "Streaming Engine": changes * (shuffled + figures.row_bytes / number) / 1e9 * prices["streaming engine, GB"],
        "Pub/Sub": 2 * changes * size / 2**40 * prices["Pub/Sub, TiB"],
        "relay": changes / 1e6 * prices["function, million calls"]
        + seconds * (prices["function, vCPU second"] + _CALL_GIB * prices["function, GiB second"]),
    }


def report(figures: Figures, workers: int) -> Iterator[str]:
    """Yields the lines of the report."""
    number = max(figures.changes, 1)
    fan_out = sorted(figures.fan_out)
    yield f"{figures.changes:,} changes; of one change, on average:"
    messages, size = sum(figures.messages.values()) / number, sum(figures.bytes.values()) / number
    yield f"  {messages:.2f} messages between steps, {size:,.0f} bytes"
    yield f"  {figures.written / number:.2f} rows written, {figures.row_bytes / number:,.0f} bytes"
    shown = ", ".join(f"{part}: {fan_out[min(len(fan_out) - 1, int(len(fan_out) * share))]}" for part, share in _SHARES)
    yield f"  rows affected: {shown}"
    yield "state, bytes for each key:"
    for step, (state, cells) in sorted(figures.state.items()):
        yield f"  {step}: {state / cells:,.0f} for each of {cells:,}"
    ratio, hottest = skew(figures, workers)
    yield f"{workers:,} workers: the busiest gets {ratio:.1f} times the mean; the hottest keys:"
    for step, key, times in hottest:
        share = times / max(sum(figures.messages.values()), 1)
        yield f"  {step} {key}: {times:,} messages, {share:.2%} of all: {_remedy(step, share, workers)}"
    yield f"USD a month (Firestore's list of {PRICES_OF}, the others' of {CLOUD_PRICES_OF}; us-central1):"
    columns = (10, 1_000, 100_000)
    table = {rate: monthly(figures, rate) for rate in columns}
    yield "  " + " | ".join(["changes a second", *(f"{rate:,}" for rate in columns)])
    for name in table[10]:
        yield "  " + " | ".join([name, *(f"{table[rate][name]:,.0f}" for rate in columns)])
    yield "  " + " | ".join(["together", *(f"{sum(table[rate].values()):,.0f}" for rate in columns)])


_SHARES = (("half", 0.5), ("99 %", 0.99), ("most", 1.0))


def _remedy(step: str, share: float, workers: int) -> str:
    """What the plan does about a hot key, or what its owner can do."""
    if share * workers < 1:
        return "less than a worker's share"
    if step.endswith(f"/{ROW}"):
        return "a hot row: its messages are appended, and it is written once in --coalesce_seconds and --row_seconds"
    return "a hot document: its rows are in sharded logs; each change of it goes to all of them, so change it seldom"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--views", action="append", required=True, help="package.module[:Class,...]")
    parser.add_argument("--documents", action="append", required=True, help="the snapshot: a document file or folder")
    parser.add_argument("--changes", required=True, help="a document file with the changes")
    parser.add_argument("--workers", type=int, default=1_000)
    given = parser.parse_args()
    plan = compile_plan(load_views(given.views))

    def read(paths: list[str]) -> Iterator[Any]:
        uris = [f"file:{path}" for path in paths]
        return (one for one in read_sources(uris, plan.collections) if isinstance(one, Change))

    figures = measure(plan, read(given.documents), read([given.changes]))
    for line in report(figures, given.workers):
        print(line)


if __name__ == "__main__":
    main()

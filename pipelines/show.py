"""Prints the results of a run: the first rows, counts of written rows, dead letters, and differences of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from boiler_beam.connectors import Sink
from boiler_beam.events import DeadLetter
from boiler_beam.inspection.diff import MISSING, Difference
from boiler_beam.plan import Plan
from boiler_beam.program import Report, StreamReport
from boiler_beam.values import GeoPoint, Ref, decode_fields, format_timestamp

__all__ = ["show_differences", "show_report", "show_rows", "show_stream", "show_unknown"]

_ROWS, _ITEMS, _CELL = 3, 3, 160


def _cut(text: str, width: int = _CELL) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _json(value: Any) -> str:
    return "-" if value is MISSING else msgspec.json.encode(value).decode()


def _plainly(value: Any) -> str:
    """Returns the text of a table cell: text and times unchanged, a list with one line for each item."""
    if isinstance(value, list) and value:
        more = [f"... {len(value) - _ITEMS} more"] if len(value) > _ITEMS else []
        return "\n".join([_cut(_plainly(item)) for item in value[:_ITEMS]] + more)
    if isinstance(value, dict) and value:
        return ", ".join(f"{name}: {_plainly(item)}" for name, item in value.items())
    match value:
        case str():
            return value
        case datetime():
            return format_timestamp(value)
        case Ref():
            return value.path
        case GeoPoint():
            return f"{value.latitude}, {value.longitude}"
        case bytes():
            return f"{len(value):,} bytes"
        case float() if not isfinite(value):
            return str(value)
        case _:
            return _json(value)


def show_rows(console: Console, plan: Plan, sink: Sink, standing: Mapping[str, int]) -> None:
    """Prints the first rows of each view, one column for each row.

    Args:
        console: Where they are printed.
        plan: The views.
        sink: Has the rows.
        standing: How many rows each view has, by its name.
    """
    for view in plan.views:
        rows = list(islice(sink.current_rows(view.target), _ROWS))
        if not rows:
            continue
        total = max(len(rows), standing.get(view.name, 0))
        shown = f"{len(rows)} of {total:,} rows" if total > len(rows) else "1 row" if total == 1 else f"{total} rows"
        console.print(f"{view.name} ({view.paths.template}): {shown}")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for row in rows:
            name = row.path if view.paths.given or view.paths.root else row.path.rpartition("/")[2]
            table.add_column(Text(name), overflow="fold")
        fields = [decode_fields(row.fields or b"{}") for row in rows]
        for name in view.target.properties:
            table.add_row(name, *(Text(_plainly(one.get(name, MISSING)), overflow="fold") for one in fields))
        console.print(table)


def show_report(console: Console, report: Report) -> None:
    """Prints the counts of a backfill for each view, and where the dead letters are."""
    always, sometimes = ("inserted", "updated", "unchanged", "deleted"), ("refused", "tainted", "newer", "kept")
    columns = [*always, *(name for name in sometimes if any(getattr(view, name) for view in report.views))]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("view", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for view in report.views:
        table.add_row(view.view, *(f"{getattr(view, name):,}" for name in columns))
    console.print(table)
    newer = sum(view.newer + view.kept_newer for view in report.views)
    if newer:
        message = f"{newer:,} rows in the sink are newer than this backfill and were not changed; "
        console.print(
            f"{message}fix: if the documents are newer than these rows, give the time of their reading by --read_time",
            soft_wrap=True,
        )
    if report.touched:
        console.print(
            f"a stream writes these views: it was asked to write {report.touched:,} rows again; "
            f"drift: {report.drift:,}"
            + (" rows still differ: a change was lost, or there is a bug" if report.drift else ""),
            soft_wrap=True,
        )
    _show_letters(console, report)


def show_stream(console: Console, report: StreamReport) -> None:
    """Prints the counts of a stream for each view, and where the dead letters are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("view", no_wrap=True)
    columns = ["rows", "written", "deleted", *(["refused"] if any(view.refused for view in report.views) else [])]
    for name in columns:
        table.add_column(name, justify="right")
    for view in report.views:
        table.add_row(view.view, *(f"{getattr(view, name):,}" for name in columns))
    console.print(table)
    for failure in report.failures:
        console.print(Text(f"warning: {failure}", style="bold red"), soft_wrap=True)
    if report.late:
        console.print(f"{report.late:,} changes came later than allowed and were not held for their commits")
    _show_letters(console, report)


def _show_letters(console: Console, report: Report | StreamReport) -> None:
    """Prints the number of dead letters, where they are, and the first one of each code."""
    if report.dead_letters:
        plural, place = "" if report.dead_letters == 1 else "s", report.dead_letter
        shown = f"{place} (boiler-beam dead-letters list {place})"
        held = "no file, because this was a dry run" if report.is_dry_run else shown
        console.print(f"{report.dead_letters:,} dead letter{plural} in {held}", soft_wrap=True)
    for letter in report.examples:
        console.print(Text(f"  {letter.code}: {letter.about}: {_cut(letter.message)}"), soft_wrap=True)


def show_unknown(console: Console, unknown: Sequence[DeadLetter], limit: int = 20) -> None:
    """Prints the rows that could not be computed, up to a limit: an invalid document, or a getter that raised."""
    for letter in unknown[:limit]:
        console.print(Text(f"{letter.path}: {letter.code}: {_cut(letter.message)}"), soft_wrap=True)
    if len(unknown) > limit:
        console.print(f"... and {len(unknown) - limit:,} more; fix: boiler-beam check says which")


def show_differences(console: Console, differences: Iterable[Difference], limit: int = 20) -> int:
    """Prints the rows that differ, up to a limit; returns their number."""
    number = 0
    for number, one in enumerate(differences, start=1):
        if number > limit:
            continue
        console.print(Text(f"{one.path}: {one.kind}"), soft_wrap=True)
        for name, (old, new) in one.fields.items():
            for line in _changed(old, new):
                console.print(Text(f"  {name}: {line}"), soft_wrap=True)
    if number > limit:
        console.print(f"... and {number - limit:,} more")
    return number


def _changed(old: Any, new: Any) -> list[str]:
    """Describes the change of a field; for lists the removed and the added items."""
    if isinstance(old, list) and isinstance(new, list):
        gone = [f"- {_cut(_json(item))}" for item in old if item not in new]
        come = [f"+ {_cut(_json(item))}" for item in new if item not in old]
        if gone or come:
            return [*gone[:_ITEMS], *come[:_ITEMS]]
    return [f"{_cut(_json(old))} -> {_cut(_json(new))}"]

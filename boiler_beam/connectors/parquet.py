"""The `parquet:` sink: a folder with one `View.parquet` for each view, with path, stamp, and one column per property.

A column has an Arrow type if every row has the property and all its values are of one type. Otherwise it holds JSON
text (null if a row lacks the property). The column's metadata says which, so that rows are read as they were written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, ClassVar

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, taken_by_case
from boiler_beam.connectors.replacing import Replacement, read_controls, replacing, write_controls
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.install import install_command
from boiler_beam.values import decode_fields, decode_wire, encode_fields, encode_wire

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise UsageError(
        f"parquet: expected pyarrow to be installed, got none; fix: {install_command('parquet')}"
    ) from None

__all__ = ["ParquetSink"]

_STAMP = ("generation", "version", "seq")
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), datetime: pa.timestamp("us", "UTC")}
_ROWS = 10_000
_PROPERTY, _JSON = b"boiler_property", b"boiler_json"


class ParquetSink(Sink):
    """Stores rows in a folder of Parquet files."""

    scheme: ClassVar[str] = "parquet"
    has_path: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        if not rest:
            raise UsageError(f"{self.uri}: expected a folder behind the scheme, got none; fix: write parquet:FOLDER")

    @property
    def _control_path(self) -> str:
        return os.path.join(self.rest, "_boiler_control.jsonl")

    def _path(self, view: str) -> str:
        """Returns the path of a view's file.

        Raises:
            UsageError: There is a file whose name differs only by case. Two views would share it on file systems that
                ignore case, so it is refused on all of them; then a folder can be copied anywhere.
        """
        name = f"{view}.parquet"
        for one in os.listdir(self.rest) if os.path.isdir(self.rest) else ():
            if one != name and one.casefold() == name.casefold():
                raise taken_by_case(self.uri, name, one)
        return os.path.join(self.rest, name)

    def controls(self) -> dict[str, Control]:
        """Reads the control data of all views from a side file in the folder."""
        if os.path.exists(self.rest) and not os.path.isdir(self.rest):
            raise UsageError(f"{self.uri}: expected a folder, got a file; fix: name a folder")
        return read_controls(self.uri, self._control_path)

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Yields the rows in a view's file."""
        path = self._path(view.name)
        if not os.path.exists(path):
            return
        try:
            with pq.ParquetFile(path) as file:
                columns = [_Column.of(field) for field in file.schema_arrow if _PROPERTY in (field.metadata or {})]
                for batch in file.iter_batches(_ROWS):
                    yield from _rows(batch, columns)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise UsageError(f"{self.uri}: expected rows in {path}, got: {error}; fix: name another folder") from None

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        """Opens a backfill, which writes a new file for each view and renames the files at `commit`."""
        self.controls()
        with ExitStack() as stack:
            files = {view.name: stack.enter_context(replacing(self.uri, self._path(view.name))) for view in views}
            yield _Writer(self, views, files)


class _Writer(BackfillWriter):
    def __init__(self, sink: ParquetSink, views: Sequence[View], files: Mapping[str, Replacement]) -> None:
        self.sink, self.views, self.files = sink, views, files
        self.rows: dict[str, list[EncodedRow]] = {view.name: [] for view in views}
        self.going: dict[str, set[str]] = {view.name: set() for view in views}

    def write(self, view: View, row: EncodedRow) -> None:
        self.rows[view.name].append(row)
        self.going[view.name].add(row.path)

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.going[view.name].add(path)

    def commit(self, controls: Mapping[str, Control]) -> None:
        for view in self.views:
            rows, going = self.rows[view.name], self.going[view.name]
            rows += [row for row in self.sink.current_rows(view) if row.path not in going]
            _write(self.files[view.name], sorted(rows))
        write_controls(self.sink.uri, self.sink._control_path, controls)
        for view in self.views:
            self.files[view.name].commit()


class _Column:
    """A property's column: the column's name, the property, and the type of its values; None if it holds JSON."""

    def __init__(self, name: str, stored: str, kind: type | None) -> None:
        self.name, self.stored, self.kind = name, stored, kind

    @classmethod
    def of(cls, field: Any) -> _Column:
        kinds = {arrow: kind for kind, arrow in _TYPES.items()}
        return cls(
            field.name, field.metadata[_PROPERTY].decode(), None if _JSON in field.metadata else kinds[field.type]
        )

    @property
    def field(self) -> Any:
        metadata = {_PROPERTY: self.stored.encode(), **({_JSON: b"1"} if self.kind is None else {})}
        return pa.field(self.name, pa.string() if self.kind is None else _TYPES[self.kind], metadata=metadata)

    def cell(self, fields: dict[str, Any]) -> Any:
        if self.kind is not None:
            return fields[self.stored]
        return encode_wire(fields[self.stored]).decode() if self.stored in fields else None


def _columns(rows: Sequence[EncodedRow]) -> list[_Column]:
    """Returns a column for each property that any row has."""
    kinds: dict[str, set[type]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        for stored, value in decode_fields(row.fields or b"{}").items():
            counts[stored] = counts.get(stored, 0) + 1
            kinds.setdefault(stored, set()).update(() if value is None else (type(value),))
    taken = {"path", *_STAMP}
    columns = []
    for stored, found in kinds.items():
        kind = next(iter(found)) if len(found) == 1 and counts[stored] == len(rows) else None
        name = f"fields.{stored}" if stored in taken else stored
        columns.append(_Column(name, stored, kind if kind in _TYPES else None))
    return columns


def _write(replacement: Replacement, rows: Sequence[EncodedRow]) -> None:
    columns = _columns(rows)
    stamps = [pa.field(name, pa.int64()) for name in _STAMP]
    schema = pa.schema([pa.field("path", pa.string()), *stamps, *(column.field for column in columns)])
    with pq.ParquetWriter(replacement.file, schema) as writer:
        for begin in range(0, len(rows), _ROWS):
            some = rows[begin : begin + _ROWS]
            fields = [decode_fields(row.fields or b"{}") for row in some]
            arrays = [[row.path for row in some], *([row.stamp[part] for row in some] for part in range(len(_STAMP)))]
            arrays += [[column.cell(one) for one in fields] for column in columns]
            typed = [pa.array(values, field.type) for values, field in zip(arrays, schema, strict=True)]
            writer.write_batch(pa.record_batch(typed, schema=schema))


def _rows(batch: Any, columns: Sequence[_Column]) -> Iterator[EncodedRow]:
    cells = {name: batch.column(name).to_pylist() for name in ("path", *_STAMP, *(one.name for one in columns))}
    for index in range(batch.num_rows):
        fields = {}
        for column in columns:
            value = cells[column.name][index]
            if column.kind is not None:
                fields[column.stored] = value
            elif value is not None:
                fields[column.stored] = decode_wire(value.encode())
        stamp = Stamp(*(cells[name][index] for name in _STAMP))
        yield EncodedRow(cells["path"][index], stamp, encode_fields(fields))

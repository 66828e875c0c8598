"""A third-party connector in one class: `postgres:` (any database that SQLAlchemy supports) as source and sink.

boiler-beam run --views views --source postgres:postgresql://host/db --sink postgres:postgresql://host/db
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
import sqlalchemy as sa

from boiler_beam.connectors import BackfillWriter, Control, Sink, Source, register
from boiler_beam.events import Change, EncodedRow, Stamp, View

metadata = sa.MetaData()
documents = sa.Table(
    "documents",
    metadata,
    sa.Column("path", sa.Text),
    sa.Column("version", sa.BigInteger),
    sa.Column("fields", sa.Text),
)
boiler_controls = sa.Table(
    "boiler_controls", metadata, sa.Column("view", sa.Text, primary_key=True), sa.Column("control", sa.Text)
)
_stamp = [sa.Column(name, sa.BigInteger) for name in Stamp._fields]
rows = sa.Table(
    "boiler_rows",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("view", sa.Text),
    *_stamp,
    sa.Column("fields", sa.Text),
)


@register
class Postgres(Source, Sink):
    """Reads documents from the table `documents`, and stores rows in `boiler_rows`."""

    scheme = "postgres"

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.engine = sa.create_engine(rest)

    def splits(self) -> Sequence[str]:
        return ["all"]

    def read(self, split: str) -> Iterator[Change]:
        with self.engine.connect() as connection:
            for path, version, fields in connection.execute(sa.select(documents)):
                yield Change(path, version, msgspec.Raw((fields or "null").encode()))

    def controls(self) -> dict[str, Control]:
        metadata.create_all(self.engine)
        with self.engine.connect() as connection:
            return {view: Control(**json.loads(text)) for view, text in connection.execute(sa.select(boiler_controls))}

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        with self.engine.connect() as connection:
            for path, _, *stamp, fields in connection.execute(sa.select(rows).where(rows.c.view == view.name)):
                yield EncodedRow(path, Stamp(*stamp), fields.encode())

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Generator[BackfillWriter]:
        with self.engine.connect() as connection:  # rolled back unless it is committed
            yield Writer(connection)


class Writer(BackfillWriter):
    """Writes rows in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def write(self, view: View, row: EncodedRow) -> None:
        self.delete(view, row.path, row.stamp)
        values = {"path": row.path, "view": view.name, "fields": (row.fields or b"").decode(), **row.stamp._asdict()}
        self.connection.execute(rows.insert().values(values))

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.connection.execute(rows.delete().where(rows.c.path == path))

    def commit(self, controls: Mapping[str, Control]) -> None:
        for name, control in controls.items():
            self.connection.execute(boiler_controls.delete().where(boiler_controls.c.view == name))
            self.connection.execute(
                boiler_controls.insert().values(view=name, control=json.dumps(msgspec.to_builtins(control)))
            )
        self.connection.commit()

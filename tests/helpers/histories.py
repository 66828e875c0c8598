"""Histories as tables: `(path, version, fields)`, fields None for a deletion, text for raw JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from boiler_beam.connectors import Source
from boiler_beam.events import Change

Event = tuple[str, int, Any]


def change(path: str, version: int, fields: Any) -> Change:
    """Returns the change of one line of a table."""
    raw = fields.encode() if isinstance(fields, str) else msgspec.json.encode(fields)
    return Change(path, version, msgspec.Raw(raw))


def changes(table: Iterable[Event]) -> list[Change]:
    """Returns the changes of a table."""
    return [change(*line) for line in table]


def table_of(history: Iterable[Change]) -> list[Event]:
    """Returns the table of some changes."""
    return [(one.path, one.version, msgspec.json.decode(one.fields)) for one in history]


def lines(table: Iterable[Event]) -> str:
    """Returns a table as the text of a document file."""
    texts = []
    for path, version, fields in table:
        raw = fields if isinstance(fields, str) else msgspec.json.encode(fields).decode()
        texts.append(f'{{"path": {msgspec.json.encode(path).decode()}, "version": {version}, "fields": {raw}}}\n')
    return "".join(texts)


class ListSource(Source):
    """A source of given changes."""

    scheme: ClassVar[str] = "list"

    def __init__(self, known: Sequence[Change]) -> None:
        super().__init__("")
        self.known = known

    def splits(self) -> Sequence[str]:
        """Returns one split."""
        return ["all"]

    def read(self, split: str) -> Iterator[Change]:
        """Yields all changes."""
        return iter(self.known)

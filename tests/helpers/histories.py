"""Histories as tables: `(path, version, fields)`, fields None for a deletion, text for raw JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from boiler_beam.events import Change

Event = tuple[str, int, Any]


def change(path: str, version: int, fields: Any) -> Change:
    """One line of a table."""
    raw = fields.encode() if isinstance(fields, str) else msgspec.json.encode(fields)
    return Change(path, version, msgspec.Raw(raw))


def changes(table: Iterable[Event]) -> list[Change]:
    """All lines of a table."""
    return [change(*line) for line in table]


def lines(table: Iterable[Event]) -> str:
    """A table as the text of a document file."""
    texts = []
    for path, version, fields in table:
        raw = fields if isinstance(fields, str) else msgspec.json.encode(fields).decode()
        texts.append(f'{{"path": {msgspec.json.encode(path).decode()}, "version": {version}, "fields": {raw}}}\n')
    return "".join(texts)

"""Dead letters: the file is created with the first one, and they are read as they were written."""

from __future__ import annotations

import codecs
from pathlib import Path

import msgspec
import pytest

from boiler_beam.connectors import dead_letters_beside, open_dead_letters, open_source, read_dead_letters
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter

LETTER = DeadLetter(
    stage="decode",
    code="invalid_document",
    message="User: no",
    path="users/u1",
    version=7,
    source="file:x:1",
    input="{}",
)
GOOD = '{"path": "users/u1", "version": 7, "fields": {}}'


@pytest.mark.parametrize("scheme", ["jsonl", "sqlite"])
def test_letters_come_back_with_their_time(tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}:{tmp_path}/deep/dead"
    open_dead_letters(uri).close()
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        writer = open_dead_letters(uri, now=lambda: "2026-01-01T00:00:00Z")
        writer.write(LETTER)
        writer.write(msgspec.structs.replace(LETTER, path=None, version=None, time="2025-01-01T00:00:00Z"))
        writer.close()
    one, two, *again = read_dead_letters(uri)
    assert one == msgspec.structs.replace(LETTER, time="2026-01-01T00:00:00Z")
    assert (two.path, two.version, two.time) == (None, None, "2025-01-01T00:00:00Z")
    assert again == [one, two]


@pytest.mark.parametrize("number", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", ["jsonl", "sqlite"])
def test_many(tmp_path: Path, scheme: str, number: int) -> None:
    writer = open_dead_letters(f"{scheme}:{tmp_path}/dead")
    for _ in range(number):
        writer.write(LETTER)
    writer.close()
    assert sum(1 for _ in read_dead_letters(f"{scheme}:{tmp_path}/dead")) == number


@pytest.mark.parametrize("uri", ["jsonl:", "parquet:x", "x.jsonl", "kafka:h/t"])
def test_other_places_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="expected dead letters at jsonl:PATH, sqlite:PATH, pubsub:"):
        open_dead_letters(uri)


def test_a_place_that_cannot_be_written_loses_nothing_quietly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BoilerBeamError, match="expected a file for dead letters"):
        open_dead_letters(f"jsonl:{tmp_path}/file/dead").write(LETTER)


@pytest.mark.parametrize("scheme", ["jsonl", "sqlite"])
def test_reading_something_else_is_refused(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(UsageError, match="got no file"):
        list(read_dead_letters(f"{scheme}:{tmp_path}/dead"))
    (tmp_path / "dead").write_text('{"other": 1}\n' * 100)
    with pytest.raises(UsageError, match="fix: name a file that holds some"):
        list(read_dead_letters(f"{scheme}:{tmp_path}/dead"))


def test_beside_the_sink() -> None:
    assert dead_letters_beside("parquet:rows") == "jsonl:rows.dead_letters.jsonl"


def test_a_byte_order_mark_that_an_editor_wrote(tmp_path: Path) -> None:
    path = tmp_path / "fixed.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + msgspec.json.encode(LETTER) + b"\r\n")
    assert list(read_dead_letters(f"jsonl:{path}")) == [LETTER]
    letter = msgspec.structs.replace(LETTER, code="malformed_line", input=f"\ufeff{GOOD}", source="file:x:1")
    path.write_bytes(msgspec.json.encode(letter) + b"\n")
    source = open_source(f"dead-letters:jsonl:{path}")
    assert [type(one) for split in source.splits() for one in source.read(split)] == [Change]


def test_lines_that_were_refused_are_read_again(tmp_path: Path) -> None:
    """A line that is still malformed keeps its source."""
    letter = msgspec.structs.replace(LETTER, stage="read", code="malformed_line", source="file:x:17")
    writer = open_dead_letters(f"jsonl:{tmp_path}/dead")
    for line in (GOOD, "{", ""):
        writer.write(msgspec.structs.replace(letter, input=line))
    writer.close()
    source = open_source(f"dead-letters:jsonl:{tmp_path}/dead")
    one, two = (found for split in source.splits() for found in source.read(split))
    assert isinstance(one, Change)
    assert (one.path, one.version, bytes(one.fields)) == ("users/u1", 7, b"{}")
    assert isinstance(two, DeadLetter)
    assert (two.code, two.source, two.input) == ("malformed_line", "file:x:17", "{")

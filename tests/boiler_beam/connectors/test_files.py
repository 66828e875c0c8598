"""`file:`, `tail:` and `sample:`: reading in parts or whole; a malformed line does not stop the read."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest

from boiler_beam.connectors import files, open_source
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter

GOOD = '{"path": "users/u1", "version": 7, "fields": {"name": "Ann"}}'


def read(uri: str) -> list[Change | DeadLetter]:
    source = open_source(uri)
    return [one for split in source.splits() for one in source.read(split)]


def test_a_line_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        GOOD + '\n\n{"path":"users/u2","version":8,"fields":null,"other":1,"event_time":"now"}'
    )
    one, two = read(f"file:{tmp_path}/x.jsonl")
    assert isinstance(one, Change)
    assert (one.path, one.version, bytes(one.fields), one.is_deleted) == ("users/u1", 7, b'{"name": "Ann"}', False)
    assert isinstance(two, Change)
    assert (two.is_deleted, two.event_time) == (True, 0)


BAD = {
    "truncated": (b'{"path": "users/u1", "version": 7, "fields": {"name": "A', "JSON is malformed"),
    "version as text": (b'{"path": "users/u1", "version": "7", "fields": {}}', "Expected `int`, got `str`"),
    "version beyond int64": (b'{"path": "users/u1", "version": 99999999999999999999, "fields": {}}', "version"),
    "negative version": (b'{"path": "users/u1", "version": -1, "fields": {}}', "Expected `int` >= 0"),
    "missing version": (b'{"path": "users/u1", "fields": {}}', "missing required field `version`"),
    "missing fields": (b'{"path": "users/u1", "version": 7}', "missing required field `fields`"),
    "missing path": (b'{"version": 7, "fields": {}}', "missing required field `path`"),
    "no object": (b"[1, 2]", "Expected `object`, got `array`"),
    "a collection's path": (
        b'{"path": "users", "version": 7, "fields": {}}',
        "expected a document's path, got 'users'",
    ),
    "an empty segment": (b'{"path": "users//a/b", "version": 7, "fields": {}}', "got 'users//a/b'"),
    "an empty path": (b'{"path": "", "version": 7, "fields": {}}', "expected a document's path, got ''"),
    "a leading slash": (b'{"path": "/users", "version": 7, "fields": {}}', "got '/users'"),
    "invalid UTF-8": (b'{"path": "users/u1", "version": 7, "fields": {"x": "\xff"}}', "invalid start byte"),
    "deep nesting": (
        b'{"path": "users/u1", "version": 7, "fields": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "recursion",
    ),
    "binary": (bytes(range(128, 160)), "invalid start byte"),
}


@pytest.mark.parametrize(("line", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_a_dead_letter_and_stops_nothing(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(GOOD.encode() + b"\r\n" + line + b"\r\n" + GOOD.encode())
    first, letter, last = read(f"file:{tmp_path}/x.jsonl")
    assert isinstance(first, Change)
    assert isinstance(last, Change)
    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.code) == ("read", "malformed_line")
    assert said in letter.message
    assert letter.source == f"file:{tmp_path}/x.jsonl:2"
    assert letter.input == line.decode("utf-8", "backslashreplace")
    if b'"users/u1"' in line and said not in ("JSON is malformed", "invalid start byte", "recursion"):
        assert letter.path == "users/u1"


def test_a_document_of_a_mebibyte(tmp_path: Path) -> None:
    text = "ä" * (1 << 19)
    (tmp_path / "x.jsonl").write_text(json.dumps({"path": "a/b", "version": 1, "fields": {"text": text}}) + "\n")
    (change,) = read(f"file:{tmp_path}/x.jsonl")
    assert isinstance(change, Change)
    assert json.loads(bytes(change.fields)) == {"text": text}


@pytest.mark.parametrize("split_bytes", [1, 10, 64, 100, 1 << 20])
def test_parts_read_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split_bytes: int) -> None:
    monkeypatch.setattr(files, "SPLIT_BYTES", split_bytes)
    texts = [f'{{"path": "users/u{n}", "version": {n}, "fields": {{"x": "{"y" * (n % 50)}"}}}}' for n in range(60)]
    texts[30] = "broken"
    (tmp_path / "x.jsonl").write_text("\n".join(texts))
    found = read(f"file:{tmp_path}/x.jsonl")
    assert [one.version for one in found if isinstance(one, Change)] == [n for n in range(60) if n != 30]
    (letter,) = [one for one in found if isinstance(one, DeadLetter)]
    assert letter.source == f"file:{tmp_path}/x.jsonl:31"


MARK = codecs.BOM_UTF8


@pytest.mark.parametrize("split_bytes", [1, 3, 64, 1 << 20])
@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_byte_order_mark_is_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split_bytes: int, is_zipped: bool
) -> None:
    """A byte order mark at the beginning, and in the middle of concatenated files."""
    monkeypatch.setattr(files, "SPLIT_BYTES", split_bytes)
    good = [GOOD.replace("7", str(number)).encode() for number in range(3)]
    text = MARK + good[0] + b"\r\n" + good[1] + b"\r\n" + MARK + b"\r\n" + MARK + b"{broken\r\n" + MARK + good[2]
    path = tmp_path / ("x.jsonl.gz" if is_zipped else "x.jsonl")
    path.write_bytes(gzip.compress(text) if is_zipped else text)
    found = read(f"file:{path}")
    assert [one.version for one in found if isinstance(one, Change)] == [0, 1, 2]
    (letter,) = [one for one in found if isinstance(one, DeadLetter)]
    assert (letter.source, letter.input) == (f"file:{path}:4", "{broken")
    assert [one for some, _ in open_source(f"file:{path}").follow(None) for one in some] == found


@pytest.mark.parametrize("scheme", ["file", "tail"])
def test_a_position_behind_a_byte_order_mark(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(MARK + GOOD.encode() + b"\n")
    (change,), position = next(open_source(f"{scheme}:{path}").follow(None))
    assert isinstance(change, Change)
    with path.open("ab") as file:
        file.write(GOOD.replace("7", "8").encode() + b"\n" + MARK + GOOD.replace("7", "9").encode() + b"\n")
    changes, _ = next(open_source(f"{scheme}:{path}").follow(position))
    assert [one.version for one in changes if isinstance(one, Change)] == [8, 9]
    path.write_bytes(MARK)
    assert next(open_source(f"file:{path}").follow(None))[0] == []


def test_a_folder_a_glob_and_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD.replace("7", "1"))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(GOOD.replace("7", "2"))
    (tmp_path / "c.txt").write_text("not read")
    versions = [one.version for one in read(f"file:{tmp_path}") if isinstance(one, Change)]
    assert versions == [1, 2]
    assert len(read(f"file:{tmp_path}/*.gz")) == 1
    assert len(read(f"file:{tmp_path}/a.jsonl")) == 1


def test_an_empty_file_holds_no_change(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").touch()
    assert read(f"file:{tmp_path}/x.jsonl") == []


@pytest.mark.parametrize(
    ("rest", "said"),
    [("nothing.jsonl", "got none; fix: check"), ("*.jsonl", "got none; fix: check"), (".", "a folder with")],
)
def test_no_file_is_wrong_use(tmp_path: Path, rest: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_source(f"file:{tmp_path}/{rest}").splits()


@pytest.mark.parametrize("cut", [-4, 20])
def test_a_torn_gzip_is_refused(tmp_path: Path, cut: int) -> None:
    data = gzip.compress((GOOD + "\n").encode() * 100)
    (tmp_path / "x.jsonl.gz").write_bytes(data[:cut])
    with pytest.raises(UsageError, match="restore the file"):
        read(f"file:{tmp_path}/x.jsonl.gz")


def test_samples() -> None:
    assert len(read("sample:")) == 24
    assert len(read("sample:cities")) == 7
    with pytest.raises(UsageError, match="expected one of cities, meeting, got 'towns'"):
        open_source("sample:towns")


def test_a_tail_gives_whole_lines_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    batches = open_source(f"tail:{path}").follow(None)
    assert next(batches)[0] == [], "the file may come later"
    path.write_text(GOOD + "\nbroken\n" + GOOD[:20])
    (first, letter), position = next(batches)
    assert isinstance(first, Change)
    assert isinstance(letter, DeadLetter)
    assert letter.source == f"file:{path}:2"
    assert next(batches) == ([], position), "a line that is not ended waits"
    with path.open("a") as file:
        file.write(GOOD[20:].replace("7", "8") + "\n")
    for source in (batches, open_source(f"tail:{path}").follow(position)):
        (change,), _ = next(source)
        assert isinstance(change, Change)
        assert change.version == 8


@pytest.mark.parametrize("text", ["", GOOD.replace("Ann", "Eve") + "\n" + GOOD + "\n"])
def test_a_tail_refuses_another_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD + "\n")
    batches = open_source(f"tail:{path}").follow(None)
    assert [len(next(batches)[0]), len(next(batches)[0])] == [1, 0]
    path.write_text(text)
    with pytest.raises(UsageError, match="to begin as when it was read up to byte 62, got another beginning"):
        next(batches)


@pytest.mark.parametrize("rest", ["", "x.jsonl.gz", "folder"])
def test_a_tail_is_one_file(tmp_path: Path, rest: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="expected"):
        open_source(f"tail:{tmp_path / rest}" if rest else "tail:")

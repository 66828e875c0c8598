"""Unusual names: of fields with any characters, and of collections that look like parts of resource names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, referrers, root, view_property
from boiler_beam.connectors import open_sink, open_source
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.pubsub.envelope import Message, decode
from boiler_beam.engine.backfill import backfill
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import compile_plan
from boiler_beam.relay import RelayState, relay
from boiler_beam.values import decode_fields, from_wire
from tests.helpers.engine import Batches, followed
from tests.helpers.everywhere import Run, everywhere, fields_of, letters_of
from tests.helpers.firestore import put
from tests.helpers.histories import lines


class Size(bb.Struct):
    inches: float = bb.field(name='size "in"')
    note: str | None = bb.field(default=None, name="\\")


class Maker(bb.DomainModel, collection="makers"):
    name: str = bb.field(name="`name`")


class Screen(bb.DomainModel, collection="screens"):
    maker: Ref[Maker] = bb.field(name="made-by", was=('made "by"',))
    kind: str = bb.field(name="a.b")
    size: Size = bb.field(name="24h\n")
    tags: list[str] = bb.field(default_factory=list, name="größe \\ `x`")
    spare: int = bb.field(default=0, name="'")


class MakerCard(bb.ViewModel, collection="maker_cards"):
    class Store(bb.Store):
        maker: Maker = root(Maker)
        screens: dict[str, Screen] = referrers(Screen, by="maker", only=("size", "kind"))

    store: Store
    total = aggregate.sum("screens", of="size.inches")

    @view_property
    def sizes(self) -> list[Size]:
        return [screen.size for screen in self.store.screens.values()]

    @view_property
    def screens(self) -> Any:
        return list(self.store.screens.values())


class Kind(bb.ViewModel, collection="kinds"):
    class Store(bb.Store):
        screens: dict[str, Screen] = group(Screen, by="kind")

    store: Store
    num = aggregate.count("screens")
    all = aggregate.collect("screens")


class Tag(bb.ViewModel, collection="tags"):
    class Store(bb.Store):
        screens: dict[str, Screen] = group(Screen, by="tags")

    store: Store
    num = aggregate.count("screens")


def screen(maker: str, kind: str, inches: float, by: str = "made-by", *tags: str) -> dict[str, Any]:
    fields = {by: {"referenceValue": f"makers/{maker}"}, "a.b": kind, "24h\n": {'size "in"': inches}, 'unknown"': 1}
    return fields | ({"größe \\ `x`": list(tags)} if tags else {})


DOCUMENTS: dict[str, dict[str, Any]] = {
    "makers/m": {"`name`": "M"},
    "screens/1": screen("m", "flat", 27.5, 'made "by"', "t", "u"),
    "screens/2": screen("m", "flat", 24.0, "made-by", "t"),
    "screens/3": screen("n", "round", 9.0),
}
_SIZES = [{'size "in"': 27.5, "\\": None}, {'size "in"': 24.0, "\\": None}]
_WRITTEN = [
    {"a.b": "flat", "made-by": {"referenceValue": "makers/m"}, "24h\n": size, "größe \\ `x`": tags, "'": 0}
    for size, tags in zip(_SIZES, (["t", "u"], ["t"]), strict=True)
]
ROWS: dict[str, Any] = {
    "maker_cards/m": {
        "total": 51.5,
        "sizes": _SIZES,
        "screens": [{"a.b": "flat", "24h\n": size} for size in _SIZES],
    },
    "kinds/flat": {"num": 2, "all": _WRITTEN},
    "kinds/round": {
        "num": 1,
        "all": [
            {
                "a.b": "round",
                "made-by": {"referenceValue": "makers/n"},
                "24h\n": {'size "in"': 9.0, "\\": None},
                "größe \\ `x`": [],
                "'": 0,
            }
        ],
    },
    "tags/t": {"num": 2},
    "tags/u": {"num": 1},
}
VIEWS = [MakerCard, Kind, Tag]


@everywhere
def test_fields_of_any_name(run: Run, tmp_path: Path) -> None:
    outcome = run(compile_plan(VIEWS), lines([(path, 1, one) for path, one in DOCUMENTS.items()]).encode(), tmp_path)
    assert outcome.letters == []
    assert fields_of(outcome) == ROWS


def test_fields_of_any_name_from_firestore_and_back(firestore_emulator: str, project: str) -> None:
    with closing(Client(project)) as client:
        put(client, DOCUMENTS)
    database = f"firestore:{project}"
    rows = written(VIEWS, database)
    assert rows == {path: from_wire(fields) for path, fields in ROWS.items()}
    for view in VIEWS:
        for path, fields in rows.items():
            collection, _, row_id = path.partition("/")
            if collection == view.__boiler__.collection:
                assert view.get(row_id, source=database) == fields


def written(views: Sequence[type[bb.ViewModel]], database: str) -> dict[str, Any]:
    """Returns the rows that a backfill of a database writes into it."""
    plan, sink = compile_plan(views), open_sink(database)
    letters: list[DeadLetter] = []
    backfill(plan, [open_source(database)], sink, letters.append)
    assert letters == []
    return {row.path: decode_fields(row.fields or b"") for view in plan.views for row in sink.current_rows(view.target)}


class Song(bb.DomainModel, collection="songs"):
    title: str
    words: list[str] = bb.field(default_factory=list)


class Title(bb.ViewModel, collection="titles"):
    class Store(bb.Store):
        songs: dict[str, Song] = group(Song, by="title")

    store: Store
    num = aggregate.count("songs")


class Word(bb.ViewModel, collection="words"):
    class Store(bb.Store):
        songs: dict[str, Song] = group(Song, by=("title", "words"))

    store: Store
    num = aggregate.count("songs")


@everywhere
def test_a_group_key_that_is_too_long_for_an_id(run: Run, tmp_path: Path) -> None:
    """Quoted as in URLs, a letter that is not ASCII has at least six bytes."""
    longest, longer = "ж" * 250, "ж" * 251
    table = [
        ("songs/a", 1, {"title": longest}),
        ("songs/b", 1, {"title": longest}),
        ("songs/b", 2, {"title": longer}),
        ("songs/c", 1, {"title": "c", "words": ["x", "y" * 1499]}),
        ("songs/d", 1, {"title": "c", "words": ["x", "y" * 1498]}),
    ]
    outcome = run(compile_plan([Title, Word]), lines(table).encode(), tmp_path)
    assert fields_of(outcome) == {
        f"titles/{'%D0%B6' * 250}": {"num": 1},
        "titles/c": {"num": 2},
        "words/c,x": {"num": 1},
        f"words/c,{'y' * 1498}": {"num": 1},
    }
    assert letters_of(outcome) == {("bad_path", "songs/b"), ("bad_path", "songs/c")}
    for letter in outcome.letters:
        size = "1,506" if letter.path == "songs/b" else "1,501"
        said = f"by= of songs: expected a key that, quoted, is no longer than an id may be (1,500 bytes), got {size} bytes: "
        assert said in letter.message
        assert letter.message.endswith("...; fix: group by a shorter key")


class Server(bb.DomainModel, collection="projects/{project}/databases/{database}/documents"):
    project: str
    database: str
    title: str


class Database(bb.DomainModel, collection="projects/{project}/databases"):
    project: str
    name: str


class Paper(bb.DomainModel, collection="documents"):
    title: str


class ServerRow(bb.ViewModel, path="projects/{project}/databases/{database}/rows/{id}"):
    class Store(bb.Store):
        server: Server = root(Server)

    store: Store

    @view_property
    def title(self) -> str:
        return f"{self.store.server.project} {self.store.server.database} {self.store.server.title}"


class PaperRow(bb.ViewModel, collection="databases"):
    class Store(bb.Store):
        paper: Paper = root(Paper)

    store: Store

    @view_property
    def title(self) -> str:
        return self.store.paper.title


class Databases(bb.ViewModel, collection="projects"):
    class Store(bb.Store):
        databases: dict[str, Database] = group(Database, by="project")

    store: Store
    paths_of_all = aggregate.collect("databases", of="path")


LOOKALIKES = [ServerRow, PaperRow, Databases]
INVENTORY: dict[str, dict[str, Any]] = {
    "projects/p1/databases/d1/documents/x": {"title": "X"},
    "projects/p1/databases/d1": {"name": "D"},
    "projects/documents/databases/(default)": {"name": "E"},
    "projects/documents/databases/(default)/documents/documents": {"title": "Y"},
    "documents/projects": {"title": "Z"},
}
INVENTORY_ROWS: dict[str, Any] = {
    "projects/p1/databases/d1/rows/x": {"title": "p1 d1 X"},
    "projects/documents/databases/(default)/rows/documents": {"title": "documents (default) Y"},
    "databases/projects": {"title": "Z"},
    "projects/p1": {"pathsOfAll": ["projects/p1/databases/d1"]},
    "projects/documents": {"pathsOfAll": ["projects/documents/databases/(default)"]},
}


@everywhere
def test_collections_that_look_like_parts_of_resource_names(run: Run, tmp_path: Path) -> None:
    table = [(path, 1, fields) for path, fields in INVENTORY.items()]
    outcome = run(compile_plan(LOOKALIKES), lines(table).encode(), tmp_path)
    assert outcome.letters == []
    assert fields_of(outcome) == INVENTORY_ROWS


def test_such_collections_in_firestore(firestore_emulator: str, project: str, tmp_path: Path) -> None:
    """Documents with such names are read, listened to, relayed and written, and a row is read by key."""
    database = f"firestore:{project}"
    with closing(Client(project)) as client:
        put(client, INVENTORY)
    assert written(LOOKALIKES, database) == INVENTORY_ROWS
    for view, row_id, path in (
        (ServerRow, "projects/p1/databases/d1/documents/x", "projects/p1/databases/d1/rows/x"),
        (PaperRow, "projects", "databases/projects"),
    ):
        assert view.get(row_id, source=database) == INVENTORY_ROWS[path]
    published: list[Message] = []
    collections = compile_plan(LOOKALIKES).collections
    with closing(RelayState(str(tmp_path / "relay.db"), database, "topic")) as state:
        source = open_source(database).following()
        relay(source, collections, published.extend, state, should_stop=lambda: len(published) >= len(INVENTORY))
    changes = [decode(*message) for message in published]
    assert {one.path: decode_fields(one.fields) for one in changes if isinstance(one, Change)} == INVENTORY
    kept, _ = followed(compile_plan(LOOKALIKES), [Batches("relayed", [changes])])  # type: ignore[list-item]
    assert fields_of(kept) == INVENTORY_ROWS

"""Generated types and clients: TypeScript under `tsc --strict`, Python under pyright, and what a misuse is told."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

import boiler_beam as bb
from boiler_beam import GeoPoint, Ref, aggregate, referrers, root, view_property
from boiler_beam.plan import compile_plan
from boiler_beam.writing.clients import client_module
from tests.helpers.node import installed

ROOT = Path(__file__).resolve().parents[3]
STRICT = [
    "--strict",
    "--noUncheckedIndexedAccess",
    "--exactOptionalPropertyTypes",
    "--noEmit",
    "--target",
    "es2022",
    "--lib",
    "es2022,dom,dom.iterable",
]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Neighbour(bb.Struct):
    seat_number: int


class Seat(bb.Struct):
    row_number: int
    neighbours: list[Neighbour] = bb.field(default_factory=list)


class Person(bb.DomainModel, collection="people"):
    first_name: str
    age: int
    score: float


class Visit(bb.DomainModel, collection="visits"):
    person: Ref[Person]
    at: datetime
    price: float
    minutes: int


class Everything(bb.ViewModel, collection="everything"):
    """A view with a field of every type."""

    class Store(bb.Store):
        person: Person = root(Person)
        visits: dict[str, Visit] = referrers(Visit, by="person")

    store: Store

    num = aggregate.count("visits")
    minutes = aggregate.sum("visits", of="minutes")
    price = aggregate.sum("visits", of="price")
    average = aggregate.mean("visits", of="minutes")
    last = aggregate.max("visits", of="at")
    times = aggregate.collect("visits", of="at", limit=3)

    @view_property
    def text(self) -> str:
        """The first name: with a comment */ end."""
        return self.store.person.first_name

    @text.setter
    def text(self, value: str) -> None:
        self.store.person.first_name = value

    @view_property
    def flag(self) -> bool | None:
        return None

    @view_property
    def moment(self) -> datetime:
        return datetime(2026, 1, 1)

    @view_property
    def data(self) -> bytes:
        return b""

    @view_property
    def place(self) -> GeoPoint:
        return GeoPoint(1.0, 2.0)

    @view_property
    def ref(self) -> Ref[Person]:
        return Ref("people/ann")

    @view_property
    def color(self) -> Color:
        return Color.RED

    @view_property
    def mode(self) -> Literal["on", "off", 3]:
        return "on"

    @view_property
    def seats(self) -> dict[str, list[Seat]]:
        return {}

    @seats.setter
    def seats(self, value: dict[str, list[Seat]]) -> None:
        pass

    @view_property
    def anything(self) -> Any:
        return None

    @view_property
    def _hidden(self) -> int:
        return 1

    @view_property
    def score(self) -> float:
        return self.store.person.score

    @view_property
    def person(self) -> Person:
        return self.store.person

    @classmethod
    def new(cls, tx: bb.Transaction, *, first_name: str, color: Color = Color.RED) -> Person:
        return tx.create(Person(first_name=first_name, age=1, score=1.0))


class ReadOnly(bb.ViewModel, collection="read_only"):
    class Store(bb.Store):
        person: Person = root(Person)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.person.first_name


PLAN = compile_plan([Everything, ReadOnly])
RIGHT_TS = """
import { Client, type EverythingFields, type Row } from "./client";
const client = new Client("http://localhost", { token: () => "t" });
export async function use(): Promise<void> {
  const row: Row<EverythingFields> | null = await client.Everything.get("a");
  if (row === null) return;
  const fields = row.fields;
  const numbers: number[] = [fields.num, fields.minutes, row.stamp.version];
  const average: number | { doubleValue: string } | null = fields.average;
  const texts: string[] = [fields.text, fields.moment, fields.ref, fields.data.bytesValue, fields.person.firstName, ...fields.times];
  const color: "red" | "blue" = fields.color;
  const mode: "on" | "off" | 3 = fields.mode;
  const seat: number | undefined = fields.seats["a"]?.[0]?.neighbours[0]?.seatNumber;
  const last: string | null = fields.last;
  await client.Everything.update("a", { text: "x", seats: { a: [{ rowNumber: 1, neighbours: [] }] } }, row);
  await client.Everything.create({ firstName: "x", color: "blue" });
  const page = await client.ReadOnly.list({ limit: 3, order: "name", filters: { name: "x" } });
  for await (const change of client.ReadOnly.follow(new AbortController().signal)) {
    if (change.kind === "row") console.log(change.id, change.row?.fields.name);
  }
  console.log(numbers, average, texts, color, mode, seat, last, page.cursor);
}
"""
WRONG_TS = [
    ('client.Everything.update("a", { text: 1 })', "'number' is not assignable to type 'string'"),
    ('client.Everything.update("a", { num: 1 })', "'num' does not exist in type 'EverythingUpdate'"),
    ("client.Everything.create({})", "'firstName' is missing"),
    ('client.Everything.create({ firstName: "x", color: "green" })', 'not assignable to type \'"red" | "blue"\''),
    ('client.ReadOnly.update("a", { name: "x" })', "not assignable to parameter of type 'never'"),
    ("client.Nothing", "'Nothing' does not exist on type 'Client'"),
]
RIGHT_PYTHON = """
from client import Client, EverythingFields, Row

client = Client("http://localhost", lambda: "t")


def use() -> None:
    row: Row[EverythingFields] | None = client.Everything.get("a")
    if row is None:
        return
    numbers: list[int] = [row.fields["num"], row.fields["minutes"], row.stamp.version]
    texts: list[str] = [row.fields["text"], row.fields["moment"], row.fields["ref"], row.fields["data"]["bytesValue"]]
    texts += [row.fields["person"]["firstName"], *row.fields["times"], row.fields["color"]]
    seat: int = row.fields["seats"]["a"][0]["neighbours"][0]["seatNumber"]
    client.Everything.update("a", {"text": "x"}, row)
    client.Everything.create({"firstName": "x", "color": "blue"})
    for change in client.ReadOnly.follow():
        print(change.kind, change.row and change.row.fields["name"], numbers, texts, seat)
"""
WRONG_PYTHON = [
    ('client.Everything.update("a", {"text": 1})', 'not assignable to "str"'),
    ('client.Everything.update("a", {"num": 1})', '"num"'),
    ("client.Everything.create({})", '"firstName"'),
    ('client.ReadOnly.update("a", {"name": "x"})', '"None"'),
    ("client.Nothing", '"Nothing"'),
]


def run(*command: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_typescript_is_strict(tmp_path: Path) -> None:
    tsc = installed("tsc")
    (tmp_path / "client.ts").write_text(client_module(PLAN, "typescript"))
    (tmp_path / "right.ts").write_text(RIGHT_TS)
    assert run(tsc, *STRICT, "right.ts", folder=tmp_path) == (0, "")
    lines = [f"void {text};" for text, _ in WRONG_TS]
    head = 'import { Client } from "./client";\nconst client = new Client("http://localhost");\n'
    (tmp_path / "wrong.ts").write_text(head + "\n".join(lines))
    code, said = run(tsc, *STRICT, "--pretty", "false", "wrong.ts", folder=tmp_path)
    assert code != 0
    for number, (text, error) in enumerate(WRONG_TS, start=3):
        told = "\n".join(said[at:] for at in [said.find(f"wrong.ts({number},")] if at >= 0).partition("\nwrong.ts")[0]
        assert error in told, (text, said)


@pytest.mark.slow
def test_python_passes_pyright(tmp_path: Path) -> None:
    pyright = installed("pyright")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "pythonVersion": "3.10"}')
    (tmp_path / "client.py").write_text(client_module(PLAN, "python"))
    (tmp_path / "right.py").write_text(RIGHT_PYTHON)
    code, said = run(pyright, "right.py", folder=tmp_path)
    assert (code, "0 errors" in said) == (0, True), said
    lines = "\n".join(text for text, _ in WRONG_PYTHON)
    (tmp_path / "wrong.py").write_text(f'from client import Client\nclient = Client("http://localhost")\n{lines}\n')
    code, said = run(pyright, "wrong.py", folder=tmp_path)
    assert code != 0
    for number, (text, error) in enumerate(WRONG_PYTHON, start=3):
        told = "\n".join(said[at:] for at in [said.find(f"wrong.py:{number}:")] if at >= 0).partition("/wrong.py:")[0]
        assert error in told, (text, said)


def test_the_python_module_can_be_used_by_every_supported_python(tmp_path: Path) -> None:
    text = client_module(PLAN, "python")
    ast.parse(text, feature_version=(3, 10))
    (tmp_path / "client.py").write_text(text)
    program = "import client; client.Client('http://localhost'); print(*client.EverythingFields.__annotations__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:3] == ["num", "minutes", "price"]
    assert "_hidden" not in text


def test_both_languages_have_the_same_fields() -> None:
    for language in ("typescript", "python"):
        text = client_module(PLAN, language)
        for stored in ("numVisits", "hidden"):
            assert stored not in text
        for name in (
            "EverythingFields",
            "EverythingUpdate",
            "NewEverything",
            "ReadOnlyFields",
            "EverythingSeat",
            "rowNumber",
        ):
            assert name in text, (language, name)
        assert "ReadOnlyUpdate" not in text
        assert "NewReadOnly" not in text


@pytest.mark.parametrize("language", ["typescript", "python"])
def test_the_command_writes_the_module(language: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "types",
        "--views",
        "boiler_beam.samples.meeting",
        "--language",
        language,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "class Client" in done.stdout
    subprocess.run([*command, "--out", "client.txt"], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "client.txt").read_text() == done.stdout

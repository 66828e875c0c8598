"""Equal documents in different forms: times finer than a microsecond, values of the REST API, unusual files."""

from __future__ import annotations

import codecs
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, root, view_property
from boiler_beam.plan import compile_plan
from boiler_beam.values import decode_fields, from_wire
from tests.helpers.everywhere import Run, everywhere, fields_of, letters_of
from tests.helpers.histories import lines
from tests.helpers.values import rest_of


class Visit(bb.DomainModel, collection="visits"):
    at: datetime

    @property
    def year(self) -> str:
        return f"{self.at.year:04}"


class VisitCard(bb.ViewModel, collection="visit_cards"):
    class Store(bb.Store):
        visit: Visit = root(Visit)

    store: Store

    @view_property
    def moment(self) -> datetime:
        return self.store.visit.at


class Year(bb.ViewModel, collection="years"):
    class Store(bb.Store):
        visits: dict[str, Visit] = group(Visit, by="year")

    store: Store
    num = aggregate.count("visits")
    first = aggregate.min("visits", of="at")


TIMES = {
    "new_year": ("1999-12-31T23:59:59.9999999Z", "1999-12-31T23:59:59.999999Z"),
    "nanos": ("2000-01-01T00:00:00.123456999Z", "2000-01-01T00:00:00.123456Z"),
    "before_1970": ("1969-12-31T23:59:59.9999995Z", "1969-12-31T23:59:59.999999Z"),
    "long_before": ("1969-12-31T23:59:58.0000001Z", "1969-12-31T23:59:58Z"),
    "last": ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
    "elsewhere": ("2000-01-01T01:59:59.99999999+02:00", "1999-12-31T23:59:59.999999Z"),
}


@everywhere
def test_times_finer_than_a_microsecond_are_rounded_down(run: Run, tmp_path: Path) -> None:
    table = [(f"visits/{name}", 1, {"at": {"timestampValue": text}}) for name, (text, _) in TIMES.items()]
    outcome = run(compile_plan([VisitCard, Year]), lines(table).encode(), tmp_path)
    assert fields_of(outcome) == {
        **{f"visit_cards/{name}": {"moment": {"timestampValue": right}} for name, (_, right) in TIMES.items()},
        "years/1969": {"num": 2, "first": {"timestampValue": "1969-12-31T23:59:58Z"}},
        "years/1999": {"num": 2, "first": {"timestampValue": "1999-12-31T23:59:59.999999Z"}},
        "years/2000": {"num": 1, "first": {"timestampValue": "2000-01-01T00:00:00.123456Z"}},
        "years/9999": {"num": 1, "first": {"timestampValue": "9999-12-31T23:59:59.999999Z"}},
    }
    assert outcome.letters == []


class Shop(bb.DomainModel, collection="shops"):
    name: str


class Address(bb.Struct):
    street: str
    floor: int | None = None


class Thing(bb.DomainModel, collection="things"):
    """A model with fields that are decoded in each of the three ways (`boiler_beam.models.shapes`)."""

    name: str
    number: int = 0
    ratio: float = 0.0
    is_new: bool = False
    tags: list[str] = bb.field(default_factory=list)
    shop: Ref[Shop] | None = None
    by_name: dict[str, str] = bb.field(default_factory=dict)


class Gadget(Thing, obj_type="gadget"):
    anything: Any = None
    address: Address | None = None
    at: datetime | None = None


class Fast(bb.DomainModel, collection="fast"):
    name: str
    number: int = 0
    tags: list[str | None] = bb.field(default_factory=list)


class ShopCard(bb.ViewModel, collection="shop_cards"):
    class Store(bb.Store):
        shop: Shop = root(Shop)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.shop.name


class FastCard(bb.ViewModel, collection="fast_cards"):
    class Store(bb.Store):
        fast: Fast = root(Fast)

    store: Store

    @view_property
    def all(self) -> list[Any]:
        fast = self.store.fast
        return [fast.name, fast.number, *fast.tags]


class ThingCard(bb.ViewModel, collection="thing_cards"):
    class Store(bb.Store):
        thing: Thing = root(Thing)
        shop: Shop | None = reference("thing.shop", optional=True)

    store: Store

    @view_property
    def thing(self) -> Any:
        return self.store.thing

    @view_property
    def anything(self) -> Any:
        return getattr(self.store.thing, "anything", None)

    @view_property
    def shop(self) -> str | None:
        return self.store.shop.name if self.store.shop else None


class Tag(bb.ViewModel, collection="tags"):
    class Store(bb.Store):
        things: dict[str, Thing] = group(Thing, by="tags")

    store: Store
    total = aggregate.sum("things", of="number")


DOCUMENTS: dict[str, dict[str, Any]] = {
    "shops/s1": {"name": "Corner"},
    "fast/f1": {"name": "f", "number": 7, "tags": ["a", None]},
    "fast/f2": {"name": "f", "number": -(2**63), "tags": []},
    "things/t1": {"name": "t", "number": 2**62, "ratio": 1.5, "isNew": True, "tags": ["x", "y"], "byName": {"a": "b"}},
    "things/t2": {"name": "t", "shop": {"referenceValue": "shops/s1"}, "tags": [], "byName": {}, "unknown": [{}]},
    "things/g1": {"obj_type": "gadget", "name": "g", "tags": ["x"], "anything": [1, 1.0, None, {"deep": [[], {}]}]},
    "things/g2": {"obj_type": "gadget", "name": "g", "at": {"timestampValue": "2026-01-01T00:00:00Z"}, "address": None},
    "things/g3": {"obj_type": "gadget", "name": "g", "address": {"street": "s", "floor": 3}, "anything": 5},
    "things/g4": {"obj_type": None, "name": "base"},
}
PLAN = compile_plan([FastCard, ThingCard, Tag])


@everywhere
def test_all_values_as_the_rest_api_writes_them(run: Run, tmp_path: Path) -> None:
    plain = [(path, 1, fields) for path, fields in DOCUMENTS.items()]
    typed = [(path, 1, {name: rest_of(from_wire(one)) for name, one in fields.items()}) for path, _, fields in plain]
    one, other = (
        run(PLAN, lines(table).encode(), _made(tmp_path / name)) for name, table in (("a", plain), ("b", typed))
    )
    assert other.letters == one.letters == []
    assert other.rows == one.rows
    assert fields_of(other)["thing_cards/g1"]["anything"] == [1, 1.0, None, {"deep": [[], {}]}]
    assert fields_of(other)["thing_cards/t2"]["shop"] == "Corner"
    assert fields_of(other)["fast_cards/f1"] == {"all": ["f", 7, "a", None]}
    assert fields_of(other)["tags/x"] == {"total": 2**62}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@everywhere
def test_maps_that_look_like_typed_values_survive(run: Run, tmp_path: Path) -> None:
    names = ["stringValue", "integerValue", "booleanValue", "nullValue", "arrayValue", "doubleValue", "unknownValue"]
    maps = [{name: "x"} for name in names]
    escaped = [{"mapValue": {"fields": one}} for one in maps]
    table = [("things/g1", 1, {"obj_type": "gadget", "name": "g", "anything": escaped})]
    outcome = run(PLAN, lines(table).encode(), tmp_path)
    assert outcome.letters == []
    row = outcome.rows["thing_cards/g1"]
    assert msgspec.json.decode(row)["anything"] == escaped
    assert decode_fields(row)["anything"] == maps


@everywhere
def test_a_value_that_is_none_of_its_type_is_invalid(run: Run, tmp_path: Path) -> None:
    wrong = [{"integerValue": "1.5"}, {"integerValue": str(2**63)}, {"stringValue": 7}, {"booleanValue": "true"}]
    wrong += [{"nullValue": 0}, {"arrayValue": []}, {"arrayValue": {"values": {}}}]
    table = [(f"things/t{place}", 1, {"name": "t", "number": one}) for place, one in enumerate(wrong)]
    table.append(("things/fine", 1, {"name": "t", "nobodyReadsIt": {"integerValue": "1.5"}}))
    outcome = run(PLAN, lines(table).encode(), tmp_path)
    assert outcome.rows.keys() == {"thing_cards/fine"}
    assert letters_of(outcome) == {("invalid_document", f"things/t{place}") for place in range(len(wrong))}


class Odd(bb.DomainModel, collection="odd"):
    number: Any = bb.field(name="integerValue")


class OddCard(bb.ViewModel, collection="odd_cards"):
    class Store(bb.Store):
        odd: Odd = root(Odd)

    store: Store

    @view_property
    def integer_value(self) -> Any:
        return self.store.odd.number


@everywhere
def test_s1_documents_whose_only_field_is_named_like_a_type_are_told_apart(run: Run, tmp_path: Path) -> None:
    table = [("odd/o", 1, {"integerValue": "5"}), ("odd/o", 1, {"integerValue": 5}), ("odd/p", 1, {"integerValue": []})]
    outcome = run(compile_plan([OddCard]), lines(table).encode(), tmp_path)
    assert fields_of(outcome) == {"odd_cards/o": {"integerValue": 5}, "odd_cards/p": {"integerValue": []}}
    assert letters_of(outcome) == {("version_conflict", "odd/o")}


@everywhere
def test_a_byte_order_mark(run: Run, tmp_path: Path) -> None:
    """Windows programs write a byte order mark; concatenated files have a second one."""
    first, second = (lines([(f"shops/s{n}", 1, {"name": str(n)})]).encode() for n in range(2))
    text = codecs.BOM_UTF8 + first.replace(b"\n", b"\r\n") + codecs.BOM_UTF8 + second
    outcome = run(compile_plan([ShopCard]), text, tmp_path)
    assert fields_of(outcome) == {f"shop_cards/s{n}": {"name": str(n)} for n in range(2)}
    assert outcome.letters == []


@everywhere
def test_a_value_of_a_type_that_this_version_does_not_know(run: Run, tmp_path: Path) -> None:
    """A value of an unknown type in events and documents is not null, and has no effect in a field that no model reads."""
    unknown = {"unknownValue": "yj4BeA=="}
    gadget = {"obj_type": "gadget", "name": "g"}
    table = [
        ("things/read", 1, gadget | {"anything": unknown}),
        ("things/within", 1, gadget | {"anything": [1, {"deep": unknown}]}),
        ("things/fast", 1, {"name": "t", "number": unknown}),
        ("things/unread", 1, {"name": "t", "later": unknown}),
        ("things/unread_slow", 1, gadget | {"later": {"deep": [unknown]}}),
    ]
    outcome = run(PLAN, lines(table).encode(), tmp_path)
    assert outcome.rows.keys() == {"thing_cards/unread", "thing_cards/unread_slow"}
    assert letters_of(outcome) == {("invalid_document", f"things/{name}") for name in ("read", "within", "fast")}
    invalid = [letter for letter in outcome.letters if letter.code == "invalid_document"]
    assert all("of a type that this version knows" in letter.message for letter in invalid)

"""Decoding documents to models and encoding them: every field type, names, subclasses, invalid documents."""

from __future__ import annotations

import enum
from datetime import datetime, timezone
from typing import Any, Literal, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import GeoPoint, Ref
from boiler_beam.errors import InvalidDocument, Mistake
from boiler_beam.models import DocumentType, wire_of, wire_of_document
from boiler_beam.samples.cities import Capital, City, StandardCity, StateCapital
from tests.helpers.values import rest_of, values


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Other(bb.DomainModel, collection="others"):
    pass


class Inner(bb.Struct):
    first_part: int
    other_ref: Ref[Other] | None = None


class Everything(bb.DomainModel, collection="everything"):
    flag: bool
    number: int
    real: float
    text: str
    moment: datetime
    data: bytes
    ref: Ref[Other]
    point: GeoPoint
    anything: Any
    numbers: list[int]
    by_name: dict[str, float]
    inner: Inner
    inners: dict[str, list[Inner]]
    color: Color
    level: Level
    status: Literal["on", "off"]
    maybe: int | None
    old_style: Optional[str]  # noqa: UP045
    class_name: str = bb.field(name="class", was=("clazz", "kind"), default="none")
    cents: int = bb.field(encode=lambda cents: cents / 100, decode=lambda euros: round(euros * 100), default=0)


def codec_of(model: type[bb.DomainModel]) -> DocumentType:
    mistakes: list[Mistake] = []
    codec = DocumentType(model, mistakes)
    assert mistakes == []
    return codec


def decode(model: type[bb.DomainModel], fields: Any, path: str = "everything/e1") -> Any:
    return codec_of(model).decode(path, 7, msgspec.json.encode(fields))


FULL: dict[str, Any] = {
    "flag": True, "number": 3, "real": 1.5, "text": "t", "moment": {"timestampValue": "2026-01-01T00:00:00Z"},
    "data": {"bytesValue": "AP8="}, "ref": {"referenceValue": "others/o1"},
    "point": {"geoPointValue": {"latitude": 1.0, "longitude": 2.0}},
    "anything": {"deep": [{"bytesValue": ""}]}, "numbers": [1, 2], "byName": {"a": 1.0},
    "inner": {"firstPart": 1, "otherRef": {"referenceValue": "others/o2"}}, "inners": {"x": [{"firstPart": 2, "otherRef": None}]},
    "color": "blue", "level": 2, "status": "on", "maybe": None, "oldStyle": "s", "class": "c", "cents": 1.25,
}  # fmt: skip


def test_every_type_is_read_and_written_without_loss() -> None:
    document = decode(Everything, FULL)
    assert (document.path, document.version, document.doc_id) == ("everything/e1", 7, "e1")
    assert document.moment == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert (document.data, document.ref, document.point) == (b"\x00\xff", Ref("others/o1"), GeoPoint(1.0, 2.0))
    assert document.anything == {"deep": [b""]}
    assert document.inner == Inner(1, Ref("others/o2"))
    assert document.inners == {"x": [Inner(2)]}
    assert (document.color, document.level, document.cents) == (Color.BLUE, Level.HIGH, 125)
    assert wire_of(document) == FULL


def test_an_integral_double_is_an_int_and_an_int_a_float() -> None:
    document = decode(Everything, FULL | {"number": 3.0, "real": 2, "numbers": [1.0], "level": 1.0, "maybe": 4.0})
    assert (document.number, document.real, document.numbers, document.level) == (3, 2.0, [1], Level.LOW)
    assert [type(one) for one in (document.number, document.real, document.numbers[0], document.maybe)] == [
        int,
        float,
        int,
        int,
    ]
    assert decode(Everything, FULL | {"real": {"doubleValue": "Infinity"}}).real == float("inf")


@pytest.mark.parametrize(
    "spelling",
    ["others/o1", "o1", {"referenceValue": "others/o1"}, "projects/p/databases/(default)/documents/others/o1"],
)
def test_a_reference_in_its_spellings(spelling: Any) -> None:
    assert decode(Everything, FULL | {"ref": spelling}).ref == Ref("others/o1")


def test_old_names_defaults_and_unknown_fields() -> None:
    without = {name: value for name, value in FULL.items() if name not in ("class", "cents")}
    assert decode(Everything, without | {"kind": "k", "unknown": [1]}).class_name == "k"
    assert decode(Everything, without | {"clazz": "z", "kind": "k"}).class_name == "z"
    assert decode(Everything, without | {"class": "c", "kind": "k"}).class_name == "c"
    assert decode(Everything, without).cents == 0


INVALID = {
    "missing": ({"number": ...}, "missing required field `number`"),
    "optional and missing": ({"maybe": ...}, "missing required field `maybe`"),
    "null": ({"number": None}, "Expected `int`, got `null`"),
    "bool is no int": ({"number": True}, "Expected `int`, got `bool`"),
    "no integral double": ({"number": 1.5}, "Expected `int`, got `float`"),
    "beyond int64": ({"anything": 2**63}, "not an int64"),
    "literal": ({"status": "maybe"}, "Invalid enum value 'maybe'"),
    "enum": ({"color": "green"}, "Invalid enum value 'green'"),
    "in a list": ({"numbers": [1, "2"]}, "`$.numbers[1]`"),
    "elsewhere": ({"ref": "users/u1"}, "expected a reference into 'others', got 'users/u1'"),
    "deeper": ({"ref": "others/o1/more/m1"}, "expected a reference into 'others'"),
    "an empty reference": ({"ref": ""}, "expected a reference, got ''"),
    "decode raises": ({"cents": "x"}, "decode= of Everything.cents raised TypeError"),
    "malformed value": ({"moment": {"timestampValue": "x"}}, "expected an RFC 3339 string"),
}


@pytest.mark.parametrize(("change", "said"), INVALID.values(), ids=INVALID.keys())
def test_what_is_invalid(change: dict[str, Any], said: str) -> None:
    fields = {name: value for name, value in (FULL | change).items() if value is not ...}
    with pytest.raises(InvalidDocument) as caught:
        decode(Everything, fields)
    assert caught.value.code == "invalid_document"
    assert said in str(caught.value)
    assert "Everything" in str(caught.value)


def test_names_follow_case() -> None:
    class Snake(bb.DomainModel, collection="snakes", case="snake"):
        long_name: str
        inner_part: Inner

    fields = {"long_name": "s", "inner_part": {"first_part": 1, "other_ref": None}}
    assert wire_of(decode(Snake, fields, "snakes/s")) == fields


def test_subclasses_are_told_apart_by_obj_type_several_levels_deep() -> None:
    base = {"name": "n", "country": "c"}
    state = {"cityState": "CA"}
    tags = [({}, City), ({"obj_type": "City"}, City), ({"obj_type": "StandardCity", **state}, StandardCity)]
    tags += [({"obj_type": "state_capital", **state}, StateCapital), ({"obj_type": "Capital", "since": 1}, Capital)]
    for extra, model in tags:
        assert type(decode(City, base | extra, "cities/x")) is model
    for tag in ("StateCapital", "Town", 7):
        with pytest.raises(InvalidDocument, match="expected obj_type to be one of City, Municipality") as caught:
            decode(City, base | {"obj_type": tag}, "cities/x")
        assert caught.value.code == "unknown_subclass"


def test_obj_type_as_the_rest_api_writes_it() -> None:
    fields = {"name": "n", "country": "c", "cityState": "CA", "obj_type": {"stringValue": "state_capital"}}
    assert type(decode(City, fields, "cities/x")) is StateCapital
    assert type(decode(City, {"name": "n", "country": "c", "obj_type": {"nullValue": None}}, "cities/x")) is City
    for tag in ({"integerValue": "7"}, {"stringValue": 7}):
        with pytest.raises(InvalidDocument):
            decode(City, fields | {"obj_type": tag}, "cities/x")


class Part(bb.Struct):
    width: int = bb.field(name='w "in"')
    long_name: str = ""
    odd: str = bb.field(default="", name='`"')


class Screen(bb.DomainModel, collection="screens"):
    inches: int = bb.field(name='size "in"', was=("size \\ in", "\t"))
    first_part: Part = bb.field(name="a\nb")
    more: list[Part] = bb.field(default_factory=list, name="%22")
    note: str = bb.field(default="", name='"')


def test_names_that_msgspec_refuses() -> None:
    fields = {
        'size "in"': 27,
        "a\nb": {'w "in"': 3, "longName": "x", '`"': ""},
        "%22": [{'w "in"': 4, "longName": "", '`"': ""}],
        '"': "n",
    }
    document = decode(Screen, fields, "screens/s")
    assert (document.inches, document.note) == (27, "n")
    assert (document.first_part, document.more) == (Part(width=3, long_name="x"), [Part(width=4)])
    assert wire_of(document) == fields
    rest = {name: value for name, value in fields.items() if name in ("a\nb", '"')}
    assert decode(Screen, rest | {"size \\ in": 7}, "screens/s").inches == 7
    assert decode(Screen, rest | {"\t": 8, '"': "m"}, "screens/s").inches == 8
    assert codec_of(Screen).stored_names(["inches"]) == {'size "in"', "size \\ in", "\t", "obj_type"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, 'Screen: Object missing required field `size "in"`'),
        ({'size "in"': "x"}, 'Screen: Expected `int`, got `str` - at `$.size "in"`'),
        ({'size "in"': 1, "a\nb": {'w "in"': None}}, 'Screen: Expected `int`, got `null` - at `$.a\nb.w "in"`'),
        ({'size "in"': 1, "a\nb": {'w "in"': 1, '`"': 1}}, 'Expected `str`, got `int` - at `$.a\nb.`"`'),
        ({'size "in"': 1, "a\nb": {}}, 'Screen: Object missing required field `w "in"` - at `$.a\nb`'),
        ({'size "in"': {"integerValue": ""}}, "integerValue: expected an int64 as text, got '' - at `$.size \"in\"`"),
    ],
)
def test_messages_have_names_as_they_are_stored(fields: Any, said: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(Screen, fields, "screens/s")
    assert said in str(caught.value)
    partial = codec_of(Screen).partial("screens/s", 1, msgspec.json.encode(fields))
    assert vars(partial).get("inches") == (1 if fields.get('size "in"') == 1 else None)


class Lone(bb.DomainModel, collection="lone"):
    text: str = bb.field(name="stringValue")


def test_a_document_whose_only_field_is_named_like_a_type() -> None:
    document = decode(Lone, {"stringValue": "x"}, "lone/l")
    assert document.text == "x"
    assert wire_of_document(document) == {"stringValue": "x"}
    assert wire_of(document) == {"mapValue": {"fields": {"stringValue": "x"}}}


class Plain(bb.DomainModel, collection="plain"):
    number: int
    names: dict[str, str] = bb.field(default_factory=dict)
    maybe: float | None = None


class Slow(Plain, obj_type="slow"):
    anything: Any = None


@given(
    st.fixed_dictionaries(
        {"number": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), values)},
        optional={
            "names": st.dictionaries(
                st.sampled_from(["a", "bytesValue", "mapValue"]), st.one_of(st.text("ab"), st.none())
            ),
            "maybe": st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        },
    ),
    st.booleans(),
)
def test_the_fast_and_the_long_way_of_reading_agree(fields: dict[str, Any], is_typed: bool) -> None:
    """The subclass has a field of any type, so it is decoded by the slow path."""
    try:
        data = msgspec.json.encode({name: (rest_of if is_typed else wire_of)(value) for name, value in fields.items()})
    except (TypeError, ValueError):
        return
    found = []
    codec = codec_of(Plain)
    for tag in (b'{"obj_type":"Plain",', b'{"obj_type":"slow",'):
        try:
            document = codec.decode("plain/p", 1, tag + data[1:])
            assert isinstance(document, Plain)
            found.append(repr((document.number, document.names, document.maybe)))
        except InvalidDocument:
            found.append("invalid")
    assert found[0] == found[1]


def test_deep_nesting_is_invalid_not_fatal() -> None:
    deep = b'{"anything":' + b"[" * 5000 + b"]" * 5000 + b"}"

    class Deep(bb.DomainModel, collection="deep"):
        anything: Any

    with pytest.raises(InvalidDocument, match="nesting"):
        codec_of(Deep).decode("deep/d", 1, deep)

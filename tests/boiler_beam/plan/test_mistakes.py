"""Every kind of mistake in a declaration: all are reported together when the classes are compiled, with a fix."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.errors import DeclarationError
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import Location, Meeting, MeetingSession, Ticket, User
from boiler_beam.testing import render
from tests.helpers.town import Spread


class Deep(bb.DomainModel, collection="rooms/{room}/messages"):
    text: str


class Bad(bb.DomainModel, collection="bad/{id}"):
    text: str


class Homeless(bb.DomainModel):
    text: str


class Typed(bb.DomainModel, collection="typed"):
    money: decimal.Decimal
    names: set[str]
    by_number: dict[int, str]
    score: float = 0.0
    user: Ref[User] | None = None
    anyone: Ref[Any] | None = None
    meeting_id: str = ""
    tags: list[str] = bb.field(default_factory=list)
    version: int = 0


class Fine(bb.DomainModel, collection="fine"):
    score: float = 0.0
    user: Ref[User] | None = None
    anyone: Ref | None = None  # type: ignore[type-arg]
    meeting_id: str = ""
    tags: list[str] = bb.field(default_factory=list)


class One(bb.DomainModel, collection="family"):
    text: str


class Two(One, obj_type="One"):
    pass


class Three(One, collection="other"):
    pass


class Four(bb.DomainModel, collection="four", case="kebab"):
    text: str


class Misplaced(bb.DomainModel, collection="rooms/{room}/desks/{desk}/pens"):
    room: Ref[User]
    desk: int
    colour: str = ""


class Given(bb.DomainModel, collection="rooms/{room}/lamps"):
    room: str = "here"


class Taken(bb.DomainModel, collection="rooms/{path}/chairs"):
    text: str


class Doubled(bb.DomainModel, collection="rooms/{room}/a/{room}/b"):
    text: str


class Unclear(bb.DomainModel, collection="unclear"):
    rank: float = 0.0

    @property
    def untold(self):  # type: ignore[no-untyped-def]
        return ""


def pathed(path: str | None, collection: str | None = None, **more: Any) -> type[bb.ViewModel]:
    """Returns a view of users with a row path."""
    keywords: dict[str, Any] = {key: more.pop(key) for key in ("max_paths", "indexed") if key in more}
    body = {"Store": type("Store", (bb.Store,), {"user": root(User)}), "name": view_property(lambda self: ""), **more}
    made = type("View", (bb.ViewModel,), body, path=path, collection=collection, **keywords)
    made.__module__ = __name__
    return made


def view(collection: str | None = "rows", **edges: Any) -> type[bb.ViewModel]:
    """Returns a view with these edges, and with one property unless properties are given."""
    store = {name: value for name, value in edges.items() if not name.startswith("p_")}
    properties = {name[2:]: value for name, value in edges.items() if name.startswith("p_")}
    properties = properties or {"name": view_property(lambda self: "")}
    keywords = {} if collection is None else {"collection": collection}
    made = type("View", (bb.ViewModel,), {"Store": type("Store", (bb.Store,), store), **properties}, **keywords)
    made.__module__ = __name__
    return made


def annotated(annotation: Any, edge: Any) -> type[bb.ViewModel]:
    store = type(
        "Store", (bb.Store,), {"meeting": root(Meeting), "edge": edge, "__annotations__": {"edge": annotation}}
    )
    return type("View", (bb.ViewModel,), {"Store": store, "name": view_property(lambda self: "")}, collection="rows")


MEETING = {"meeting": root(Meeting)}


class Untold(bb.ViewModel, collection="rows"):
    @view_property
    def name(self) -> str:
        return ""


class Alone(bb.ViewModel, collection="rows"):
    class Store(bb.Store):
        meeting = root(Meeting)
        location: Location

    @view_property
    def name(self) -> str:
        return ""


CASES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "no store": (lambda: Untold, ["Untold: expected a class Store(bb.Store) in it, got none; fix: declare which documents a row is made of"]),
    "no root": (lambda: view(a=reference("a.b")), ["View.Store: expected one root(...) or group(...), got none; fix: declare with one edge which documents have a row"]),
    "two roots": (lambda: view(a=root(User), b=group(User, by="organization")), ["View.Store: expected one root(...) or group(...), got a, b; fix: declare with one edge which documents have a row"]),
    "a cycle": (lambda: view(**MEETING, a=reference("b.user"), b=reference("a.user")), ["View.Store.a: expected edges that lead away from the root, got a cycle: a -> b -> a; fix: make one of them a child of another edge"]),
    "where is no function": (lambda: view(a=root(User, where="x")), ["View.Store.a: expected where= to be a function of the document, got 'x'; fix: write where=lambda document: ..."]),  # type: ignore[arg-type]
    "no model": (lambda: view(a=root("User")), ["View.Store.a: expected a domain model, got 'User'; fix: pass a class that derives from bb.DomainModel"]),  # type: ignore[type-var]
    "no collection": (lambda: view(a=root(Homeless)), ['View.Store.a: expected Homeless to have a collection, got none; fix: write class Homeless(bb.DomainModel, collection="...")']),
    "a document as collection": (lambda: view(a=root(Bad)), ["Bad: expected a collection, which has an odd number of segments: 'a' or 'a/{b}/c', got 'bad/{id}': "]),
    "a root in a subcollection": (lambda: view(a=root(Deep)), ["View: expected path=, because its root lies in a subcollection, got collection='rows'; fix: write path=\"rows/{room}/messages/{id}\""]),
    "no such field": (lambda: view(**MEETING, a=reference("meeting.place")), ["View.Store.a: expected a field of Meeting, got 'place'; fix: name one of: location, users, tickets, status"]),
    "no such edge": (lambda: view(**MEETING, a=reference("meating.location")), ["View.Store.a: expected an edge of the store, got 'meating.location'; fix: begin with one of: meeting"]),
    "an edge alone": (lambda: view(**MEETING, a=reference("meeting")), ["View.Store.a: expected an edge and a field: \"edge.field\", got 'meeting'; fix: name a field of Meeting"]),
    "through a scalar": (lambda: view(**MEETING, a=reference("meeting.status.x")), ["View.Store.a: expected Meeting.status to hold fields, got "]),
    "no reference": (lambda: view(**MEETING, a=reference("meeting.status")), ["View.Store.a: expected a field that holds references, got 'status', of type "]),
    "a text without to=": (lambda: view(a=root(Fine), b=reference("a.meeting_id")), ["View.Store.b: expected a Ref, or an id with to=, got 'meeting_id', a str; fix: annotate the field Ref[Model], or pass to=Model"]),
    "a bare Ref": (lambda: view(a=root(Fine), b=reference("a.anyone")), ["View.Store.b: expected a Ref[Model], got 'anyone', a bare Ref; fix: annotate the field Ref[Model], or pass to=Model"]),
    "to= of another document type": (lambda: view(a=root(Fine), b=reference("a.user", to=Ticket)), ["View.Store.b: expected to= to be User or a subclass, got Ticket; fix: remove to="]),
    "group by a float": (lambda: view(a=group(Fine, by="score")), ["View.Store.a: expected by= to name a text, an int, an Enum or a Ref, got 'score', of type float; fix: group by another field, or by a property that returns text"]),
    "by= is no reference": (lambda: view(a=root(User), b=referrers(Fine, by="score")), ["View.Store.b: expected by= to name a Ref[...], got 'score', of type float; fix: name the field of Fine that refers to User"]),
    "by= refers elsewhere": (lambda: view(**MEETING, b=referrers(Fine, by="user")), ["View.Store.b: expected by= to refer to Meeting, the model of 'meeting', got 'user', which refers to User; fix: name another field, or another edge with of="]),
    "of= is no edge": (lambda: view(**MEETING, b=referrers(Fine, by="user", of="people")), ["View.Store.b: expected an edge of the store, got 'people'; fix: begin with one of: meeting"]),
    "a fixed document elsewhere": (lambda: view(**MEETING, b=document(User, "config/rates")), ["View.Store.b: expected the path of a document in 'users', got 'config/rates'; fix: name one document of the model's collection"]),
    "another annotation": (lambda: annotated(dict[str, Location], reference("meeting.location")), ["View.Store.edge: expected the annotation Location, got dict[str, Location]; fix: annotate it so, or remove the annotation"]),
    "an optional one": (lambda: annotated(Location, reference("meeting.location", optional=True)), ["View.Store.edge: expected the annotation Location | None, got Location; fix: annotate it so, or remove the annotation"]),
    "an annotation alone": (lambda: Alone, ["Alone.Store.location: expected an edge, got an annotation alone; fix: write location: ... = reference(...)"]),
    "a reserved name": (lambda: view(**MEETING, p_path=view_property(lambda self: "")), ["View.path: expected an unused name, got 'path', which every view has; fix: rename the property"]),
    "one stored name twice": (lambda: view(**MEETING, p_a_b=view_property(lambda self: ""), p_aB=view_property(lambda self: "")), ["View.aB: expected a unique stored name, got 'aB', which a_b has; fix: rename one of them"]),
    "a reserved edge": (lambda: view(get=root(Meeting)), ["View.Store.get: expected an unused name, got 'get'; fix: rename the edge"]),
    "nothing in a row": (lambda: type("View", (bb.ViewModel,), {"Store": type("Store", (bb.Store,), {"a": root(User)})}, collection="rows"), ["View: expected at least one @view_property or aggregate, got none; fix: declare what a row holds"]),
    "no collection of rows": (lambda: view(collection=None, **MEETING), ['View: expected collection= or path= on the class, got neither; fix: write class ...(bb.ViewModel, collection="rows")']),
    "rows at a collection's path": (lambda: view(collection="rows/more", **MEETING), ["View: expected rows at document paths, which have an even number of segments, got 'rows/more/{id}'; fix: name a collection with an odd number of segments"]),
    "an aggregate of no edge": (lambda: view(**MEETING, p_n=aggregate.count("users")), ["View.n: expected an edge of the store, got 'users'; fix: name one of: meeting"]),
    "an aggregate's where": (lambda: view(a=group(User, by="organization"), p_n=aggregate.count("a", where="x")), ["View.n: expected where= to be a function of the document, got 'x'; fix: write where=lambda document: ..."]),  # type: ignore[arg-type]
    "an aggregate's field": (lambda: view(a=group(User, by="organization"), p_n=aggregate.sum("a", of="age")), ["View.n: expected a field of User, got of='age'; fix: name one of: first_name, last_name, organization, hearing_aid_requested"]),
    "an aggregate of a list": (lambda: view(a=group(Fine, by="meeting_id"), p_n=aggregate.sum("a", of="tags")), ["View.n: expected a field with one value, got of='tags', a list or map; fix: write of=lambda document: ..."]),
    "of= is neither": (lambda: view(a=group(User, by="organization"), p_n=aggregate.sum("a", of=7)), ["View.n: expected of= to be a field's name or a function of the document, got 7; fix: write of='field'"]),  # type: ignore[arg-type]
    "a limit of nothing": (lambda: view(a=group(User, by="organization"), p_n=aggregate.collect("a", limit=0)), ["View.n: expected limit= to be an int from 1, got 0; fix: write a positive int"]),
    "a placeholder that nobody tells": (lambda: pathed("users/{user}/inbox/{id}"), ["View: expected a value for each placeholder of 'users/{user}/inbox/{id}', got no paths() for user; fix: write def paths(self): yield {\"user\": ...}"]),
    "one path for all rows": (lambda: pathed("config/summary"), ["View: expected a different path for each row, got 'config/summary'; fix: put {id} into the path"]),
    "half a placeholder": (lambda: pathed("rows/x-{id}"), ["View: expected placeholders that are whole document ids, each once, got 'x-{id}'; fix: write path=\"users/{user}/inbox/{id}\""]),
    "a placeholder for a collection": (lambda: pathed("{kind}/{id}"), ["View: expected placeholders that are whole document ids, each once, got '{kind}'"]),
    "a placeholder twice": (lambda: pathed("a/{id}/b/{id}"), ["View: expected placeholders that are whole document ids, each once, got 'a/{id}/b/{id}', which has one twice"]),
    "path and collection": (lambda: pathed("rows/{id}", "rows"), ["View: expected collection= or path= on the class, got both; fix: "]),
    "indexed unknown": (lambda: pathed("rows/{id}", indexed=("nam",)), ["View: expected indexed= to name stored properties (name), got 'nam'; fix: name one of them"]),
    "no copies": (lambda: pathed("rows/{id}", max_paths=0), ["View: expected max_paths= to be an int from 1, got 0; fix: write how many copies a row may have"]),
    "rows over documents": (lambda: pathed("users/{id}"), ["View: expected row paths that are not document paths, got 'users/{id}', where the documents of User are; fix: give the view a collection of its own"]),
    "path fields of other models": (
        lambda: view(a=group(Misplaced, by="colour")),
        [
            "Misplaced.room: expected a Ref to the model of 'rooms', which the path names there, got Ref[User]; fix: name that model, or annotate it str",
            "Misplaced.desk: expected str or Ref[Parent]: it is read from the path, got int; fix: annotate it so",
        ],
    ),
    "a path field with a default": (lambda: view(a=root(Given)), ["Given.room: expected no default: its value is read from the path, got 'here'; fix: leave it out"]),
    "a reserved path field": (lambda: view(a=root(Taken)), ["Taken.path: expected an unused name, got 'path', which every model has; fix: rename the placeholder"]),
    "one path field twice": (lambda: view(a=root(Doubled)), ["Doubled: expected a collection, which has an odd number of segments: 'a' or 'a/{b}/c', got 'rooms/{room}/a/{room}/b': one placeholder twice"]),
    "a group by nothing": (lambda: view(a=group(User, by=())), ["View.Store.a: expected by= to name a field, got an empty tuple; fix: name what the documents share"]),
    "a group by a property without a type": (lambda: view(a=group(Unclear, by="untold")), ["View.Store.a: expected by= to name a text, an int, an Enum or a Ref, got 'untold', a property without a return annotation; fix: group by another field, or by a property that returns text (-> str)"]),
    "a group by a tuple with a float": (lambda: view(a=group(Unclear, by=("doc_id", "rank"))), ["View.Store.a: expected by= to name a text, an int, an Enum or a Ref, got 'rank', of type float; fix: "]),
    "an order of one document": (lambda: view(**MEETING, a=reference("meeting.location", order_by="address")), ["View.Store.a: expected order_by= on an edge to many documents, got an edge to one; fix: leave order_by= out"]),
    "a limit of one document": (lambda: view(**MEETING, a=reference("meeting.location", limit=1)), ["View.Store.a: expected limit= on an edge to many documents, got an edge to one; fix: leave limit= out"]),
    "an edge's limit of nothing": (lambda: view(**MEETING, a=reference("meeting.users", limit=0)), ["View.Store.a: expected limit= to be an int from 1, got 0; fix: write a positive int"]),
    "a sum of text": (lambda: view(a=group(Typed, by="meeting_id"), p_n=aggregate.sum("a", of="meeting_id")), ["View.n: expected a field of numbers, got of='meeting_id', a field of str; fix: name one of: score"]),
    "a mean where there are no numbers": (lambda: view(a=group(User, by="organization"), p_n=aggregate.mean("a", of="last_name")), ["View.n: expected a field of numbers, got of='last_name', a field of str; fix: write of=lambda document: ..."]),
    "an order by no field": (lambda: view(**MEETING, a=reference("meeting.users", order_by="-age")), ["View.Store.a: expected a field of User, got order_by='age'; fix: name one of: first_name, last_name, organization, hearing_aid_requested"]),
    "an order by a list": (lambda: view(a=group(Fine, by="meeting_id", order_by="tags")), ["View.Store.a: expected a field with one value, got order_by='tags', a list or map; fix: name a field with one value"]),
    "only= of no field": (lambda: view(**MEETING, a=reference("meeting.users", only=("first_name", "age"))), ["View.Store.a: expected fields of User in only=, got 'age'; fix: name: first_name, last_name, organization, hearing_aid_requested"]),
    "no aggregate of one's own": (lambda: view(a=group(User, by="organization"), p_n=aggregate.custom(len, "a", of="first_name")), ["View.n: expected an aggregate of your own, got <built-in function len>; fix: pass an object of a class that derives from aggregate.Custom"]),  # type: ignore[arg-type]
    "viewers as a property": (lambda: view(**MEETING, p_viewers=view_property(lambda self: "")), ["View.viewers: expected an unused name, got 'viewers', which every view has; fix: rename the property"]),
    "types that Firestore lacks": (
        lambda: view(a=root(Typed)),
        [
            "Typed.version: expected an unused name, got 'version', which every model has; fix: rename the field and write field(name='version')",
            "Typed.money: expected a type that Firestore has, got Decimal, which Firestore has no type for (a double would lose digits); fix: store it as text: field(encode=str, decode=Decimal)",
            "Typed.names: expected a type that Firestore has, got set, which Firestore has no type for (an array keeps order and duplicates); fix: write list[...]",
            "Typed.by_number: expected a type that Firestore has, got a map with keys of ",
        ],
    ),
    "an obj_type twice": (lambda: view(a=root(One)), ["Two: expected a unique obj_type, got 'One', which is One's; fix: give one of them another obj_type="]),
    "case": (lambda: view(a=root(Four)), ["Four: expected case='camel' or 'snake', got case='kebab'; fix: write one of the two"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), CASES.values(), ids=CASES.keys())
def test_a_mistake_is_told_with_its_fix(make: Callable[[], Any], said: list[str]) -> None:
    with pytest.raises(DeclarationError) as caught:
        compile_plan([make()])
    told = [str(mistake) for mistake in caught.value.mistakes]
    for expected in said:
        assert any(one.startswith(expected) for one in told), told
    assert all("; fix: " in one for one in told)


class Around(bb.ViewModel, collection="around"):
    class Store(bb.Store):
        user: User = root(User)

    store: Store

    @view_property
    def fine(self) -> str:
        return self.one + self.store.user.last_name

    @view_property
    def one(self) -> str:
        return "".join(self.two for _ in "ab")

    @view_property
    def two(self) -> str:
        return self.three

    @view_property
    def three(self) -> str:
        return self.one


class Above(bb.ViewModel, collection="above"):
    class Store(bb.Store):
        user: User = root(User)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.user.first_name


class Below(Above, collection="below"):
    @view_property
    def name(self) -> str:
        return super().name + self.last

    @view_property
    def last(self) -> str:
        return self.store.user.last_name


def test_a_cycle_of_properties_is_told_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        compile_plan([Around])
    assert [str(one) for one in caught.value.mistakes] == [
        "Around.one: expected properties that do not depend on themselves, got a cycle: one -> two -> three -> one; fix: compute one of them from the store"
    ]


def test_a_property_may_read_that_of_its_base() -> None:
    rows = render(Below, [User(path="users/u1", first_name="A", last_name="B", organization="o")])
    assert rows == {"below/u1": {"name": "AB", "last": "B"}}


def test_a_subclass_of_another_collection() -> None:
    with pytest.raises(DeclarationError, match="Three: expected the collection of its base One, got 'other'"):
        compile_plan([view(a=root(One))])


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        compile_plan([view(**MEETING, a=reference("meeting.x"), p_n=aggregate.count("y")), Untold])
    assert len(caught.value.mistakes) == 3
    assert str(caught.value).startswith("3 mistakes in the declared classes:\n  View.Store.a: ")


class Money(bb.Struct):
    amount: Decimal = bb.field(encode=str, decode=Decimal)


class Line(bb.DomainModel, collection="lines"):
    order: str
    price: Decimal | None = bb.field(encode=str, decode=Decimal, default=None)
    day: datetime.date = bb.field(encode=str, decode=datetime.date.fromisoformat)
    money: Money
    tags: set[str] = bb.field(encode=list, decode=set)
    anything: Any = bb.field(encode=str, decode=Decimal)
    either: Decimal | int = bb.field(encode=str, decode=Decimal)
    order_number: int = 0

    @property
    def half(self) -> Decimal:
        return (self.price or 0) / Decimal(2)

    @property
    def cents(self) -> int:
        return int(self.half)


VALUE, NUMBER = "a field of Firestore values", "a field of numbers"
CENTS = "lambda document: None if document.price is None else int(document.price * 100)"
HALF, AMOUNT = (f"lambda document: int(document.{name} * 100)" for name in ("half", "money.amount"))
LINES: dict[str, tuple[Any, str | None, str, str]] = {
    "sum": (aggregate.sum("lines", of="price"), NUMBER, "of='price', a field of Decimal", f"write of={CENTS}"),
    "mean": (aggregate.mean("lines", of="half"), NUMBER, "of='half', a field of Decimal", f"write of={HALF}"),
    "sum of dates": (aggregate.sum("lines", of="day"), NUMBER, "of='day', a field of date", "name one of: order_number"),
    "min": (aggregate.min("lines", of="price"), VALUE, "of='price', a field of Decimal", f"write of={CENTS}"),
    "max": (aggregate.max("lines", of="day"), VALUE, "of='day', a field of date", "write of=lambda document: str(document.day)"),
    "distinct": (aggregate.count_distinct("lines", of="money.amount"), VALUE, "of='money.amount', a field of Decimal", f"write of={AMOUNT}"),
    "collect": (aggregate.collect("lines", of="tags"), VALUE, "of='tags', a field of set", "write of=lambda document: str(document.tags)"),
    "collect in order": (aggregate.collect("lines", order_by="-price"), VALUE, "order_by='price', a field of Decimal", "name a property that returns text or a number"),
    "top by": (aggregate.top("lines", n=1, by="price"), VALUE, "by='price', a field of Decimal", f"write by={CENTS}"),
    "top of": (aggregate.top("lines", n=1, by="order_number", of="price"), VALUE, "of='price', a field of Decimal", f"write of={CENTS}"),
    "custom": (aggregate.custom(Spread(), "lines", of="price"), VALUE, "of='price', a field of Decimal", f"write of={CENTS}"),
    "documents": (aggregate.collect("lines"), None, "", ""),
    "nobody knows": (aggregate.sum("lines", of="anything"), None, "", ""),
    "some may be": (aggregate.max("lines", of="either"), None, "", ""),
    "a struct": (aggregate.collect("lines", of="money"), None, "", ""),
    "a property": (aggregate.sum("lines", of="cents"), None, "", ""),
}  # fmt: skip


@pytest.mark.parametrize(("declared", "expected", "got", "fix"), LINES.values(), ids=LINES)
def test_aggregates_of_what_firestore_has_no_type_for(declared: Any, expected: str | None, got: str, fix: str) -> None:
    made = view(lines=group(Line, by="order"), p_some=declared)
    if expected is None:
        compile_plan([made])
        return
    with pytest.raises(DeclarationError) as caught:
        compile_plan([made])
    (one,) = caught.value.mistakes
    assert (one.where, one.expected, one.got, one.fix) == ("View.some", expected, got, fix)


def test_an_edge_in_the_order_of_what_firestore_has_no_type_for() -> None:
    said = "View.Store.lines: expected a field of Firestore values, got order_by='price', a field of Decimal; fix: name"
    with pytest.raises(DeclarationError, match=said):
        compile_plan([view(lines=group(Line, by="order", order_by="-price"), p_n=aggregate.count("lines"))])
    compile_plan([view(lines=group(Line, by="order", order_by="-cents"), p_n=aggregate.count("lines"))])


class Coded(bb.DomainModel, collection="coded"):
    code: str = bb.field(encode=str, decode=str)


def test_a_field_with_decode_is_known_by_its_annotation_however_often_its_class_is_compiled() -> None:
    views = [view(coded=group(Coded, by="code"), p_n=aggregate.count("coded")) for _ in range(3)]
    prints = {compile_plan([one]).views[0].fingerprint for one in views}
    assert len(prints) == 1


def model_of(annotation: Any, **options: Any) -> type[bb.DomainModel]:
    given = {"__annotations__": {"text": annotation}, "text": bb.field(**options), "__module__": __name__}
    return type("Odd", (bb.DomainModel,), given, collection="odd")  # type: ignore[call-arg]


NAMES = {
    "": "'', an empty name",
    "__x__": "'__x__', a name that Firestore reserves",
    "____": "'____', a name that Firestore reserves",
    "__path__": "'__path__', a name that Firestore reserves",
    "é" * 751: "a name of 1,502 bytes",
    "\ud800": "a name that is not UTF-8",
    7: "7, not text",
}


@pytest.mark.parametrize(("name", "got"), NAMES.items())
@pytest.mark.parametrize("word", ["name", "was"])
def test_names_that_firestore_refuses(name: Any, got: str, word: str) -> None:
    model = model_of(str, **{word: name if word == "name" else ("fine", name)})
    with pytest.raises(DeclarationError) as caught:
        compile_plan([view(odd=root(model))])
    (mistake,) = caught.value.mistakes
    assert mistake.where == "Odd.text"
    assert mistake.expected == "stored names of 1 to 1,500 bytes, not __...__"
    assert mistake.got.endswith(got)
    fix = "write text: ... = bb.field(name=...), with the name as it is stored"
    assert mistake.fix == (fix if word == "name" else "remove it from was=")


class Twice(bb.Struct):
    one: int
    other: int = bb.field(name="one")
    reserved: int = bb.field(name="__r__")


class PlainTwice(msgspec.Struct, rename={"a": "__a__"}):
    a: int


@pytest.mark.parametrize("annotation", [Twice, list[Twice], dict[str, Twice | None]])
def test_names_in_structs(annotation: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        compile_plan([view(odd=root(model_of(annotation)))])
    assert sorted(f"{one.where}: {one.got}" for one in caught.value.mistakes) == [
        "Twice.other: 'one', which one has",
        "Twice.reserved: '__r__', a name that Firestore reserves",
    ]


def test_names_in_structs_that_getters_return() -> None:
    def parts(self: Any) -> list[Twice]:
        return []

    def plain(self: Any) -> PlainTwice | None:
        return None

    class View(bb.ViewModel, collection="rows"):
        class Store(bb.Store):
            meeting: Meeting = root(Meeting)

        store: Store
        parts_of_it = view_property(parts)
        plain_one = view_property(plain)

    with pytest.raises(DeclarationError) as caught:
        compile_plan([View])
    assert sorted(one.where for one in caught.value.mistakes) == ["PlainTwice.a", "Twice.other", "Twice.reserved"]


def test_a_name_that_the_base_has() -> None:
    class Base(bb.DomainModel, collection="bases"):
        some_text: str

    class Sub(Base):
        more: str = bb.field(name="someText")

    with pytest.raises(
        DeclarationError, match=r"Sub\.more: expected a unique stored name, got 'someText', which some_"
    ):
        compile_plan([view(base=root(Base))])
    assert Sub.__boiler__.mistakes


def test_two_views_on_one_path_and_of_one_name() -> None:
    with pytest.raises(DeclarationError) as caught:
        compile_plan([view(**MEETING), view(**MEETING)])
    path, name = map(str, caught.value.mistakes)
    assert (
        path
        == "View: expected a row path of its own, got 'rows/{id}', where View writes; fix: give one of them another collection="
    )
    assert "View: expected a unique class name, which names its table, got 'View', which " in name


@pytest.mark.parametrize(("one", "other"), [("Url", "URL"), ("Url", "url"), ("Größe", "GRÖSSE")])
def test_two_views_whose_names_differ_by_case(one: str, other: str) -> None:
    places = [("rows", one), ("others", other)]
    with pytest.raises(DeclarationError) as caught:
        compile_plan([type(name, (view(**MEETING),), {}, collection=place) for place, name in places])
    (name,) = map(str, caught.value.mistakes)
    said = f"expected a unique class name, which names its table, got {other!r}, which differs from "
    assert said in name
    assert name.endswith(f":{one} only by case; fix: rename one of them")


def test_two_views_whose_paths_may_meet() -> None:
    with pytest.raises(DeclarationError, match=r"a row path of its own, got 'rows/{id}/x/{kind}', where View writes"):
        compile_plan([pathed("rows/{id}/x/summary"), pathed("rows/{id}/x/{kind}", paths=lambda self: [])])


def test_an_unknown_class_keyword() -> None:
    with pytest.raises(TypeError, match="View: colection= is not a class keyword of a view: write collection, path"):
        type("View", (bb.ViewModel,), {}, colection="rows")


def test_the_meeting_room_is_without_mistakes() -> None:
    assert compile_plan([MeetingSession]).views[0].name == "MeetingSession"

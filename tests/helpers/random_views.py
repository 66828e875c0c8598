"""Random views of the town: a root or group, edges that hang on each other in any way, aggregates, and row paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import aggregate, document, group, reference, referrers, root, view_property
from tests.helpers.town import Board, Comment, Guest, Message, Note, Room, Spread

# Of each model: what its documents refer to (field, model, whether it is many), and who refers to them (model, field).
REFERENCES: dict[type, list[tuple[str, type, bool]]] = {
    Guest: [],
    Room: [("members", Guest, True), ("host", Guest, False)],
    Message: [("room", Room, False), ("author", Guest, False)],
    Note: [("message", Message, False)],
    Comment: [("by", Guest, False)],
    Board: [("featured", Guest, True)],
}
REFERRERS: dict[type, list[tuple[type, str]]] = {
    Guest: [(Room, "members"), (Room, "host"), (Message, "author"), (Comment, "by")],
    Room: [(Message, "room")],
    Message: [(Note, "message")],
    Note: [],
    Comment: [],
    Board: [],
}
KEYS: dict[type, list[Any]] = {
    Guest: ["level", "initial", "nick", ("level", "nick")],
    Room: ["members", "topic", ("host", "members")],
    Message: ["tags", "author", "sent", "room", ("tags", "author"), ("sent",)],
    Note: ["text", "message"],
    Comment: ["stars", ("stars", "by")],
}
ORDERS: dict[type, list[Any]] = {
    Guest: ["name", "-initial", ("-nick", "name")],
    Room: ["-topic", "host"],
    Message: ["-sent", ("sent", "-author")],
    Note: ["text", "-doc_id"],
    Comment: ["-stars"],
    Board: [],
}
FIELDS: dict[type, tuple[str, ...]] = {
    Guest: ("name", "nick"), Room: ("topic", "host"), Message: ("author", "sent"), Note: ("text",), Comment: ("stars",),
    Board: ("featured",),
}  # fmt: skip
NUMBERS: dict[type, str] = {Message: "sent", Comment: "stars"}


def odd(one: Any) -> bool:
    """A `where=` that hides some documents, and raises for some."""
    if getattr(one, "name", "") == "boom":
        raise ValueError("boom")
    return sum(map(ord, one.path)) % 3 > 0


def dumped(value: Any, fields: tuple[str, ...]) -> Any:
    """What a getter may read of an edge: keys in their order, and fields."""
    if value is None:
        return None
    if isinstance(value, dict):
        return [[key, dumped(one, fields)] for key, one in value.items()]
    return [value.path, value.version, *(getattr(value, name) for name in fields)]


@st.composite
def views(draw: st.DrawFn) -> type[bb.ViewModel]:
    """One view."""
    model: Any = draw(st.sampled_from([Guest, Room, Message, Note, Comment]))
    is_group = draw(st.booleans())
    store: dict[str, Any] = {}
    known: list[tuple[str, Any, bool]] = []  # name, model, whether it is many

    def shows(target: Any, is_many: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"where": draw(st.sampled_from([None, None, None, odd]))}
        if is_many:
            options["order_by"] = draw(st.sampled_from([None, *ORDERS[target]]))
            options["limit"] = draw(st.sampled_from([None, None, 1, 2]))
        if draw(st.integers(0, 3)) == 0:
            options["only"] = FIELDS[target]
        return options

    def add(target: Any, is_many: bool, make: Callable[[dict[str, Any]], Any]) -> None:
        name = f"e{len(known)}"
        store[name] = make(shows(target, is_many))
        known.append((name, target, is_many))

    if is_group:
        by = draw(st.sampled_from(KEYS[model]))
        add(model, True, lambda options: group(model, by=by, **options))
    else:
        store["e0"] = root(model, where=draw(st.sampled_from([None, None, None, odd])))
        known.append(("e0", model, False))
    for _ in range(draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 6]))):
        parent, above, is_many = draw(st.sampled_from([*known, known[-1], known[-1]]))
        ways: list[Any] = [*REFERENCES[above], *REFERRERS[above]] * 3 + [None]
        way = draw(st.sampled_from(ways))
        if way is None:
            optional = draw(st.booleans())
            store_options = {"optional": optional, "where": draw(st.sampled_from([None, odd]))}
            store[f"e{len(known)}"] = document(Board, "config/board", **store_options)
            known.append((f"e{len(known)}", Board, False))
        elif len(way) == 3:
            field, target, many = way
            optional = draw(st.booleans())
            add(
                target, is_many or many,
                lambda options, p=parent, f=field, o=optional: reference(f"{p}.{f}", optional=o, **options),
            )  # fmt: skip
        else:
            target, field = way
            add(target, True, lambda options, p=parent, f=field, t=target: referrers(t, by=f, of=p, **options))
    body: dict[str, Any] = {"Store": type("Store", (bb.Store,), store)}
    for number in range(draw(st.integers(0, 3))):
        edge, target, _ = draw(st.sampled_from(known))
        body[f"a{number}"] = draw(aggregates(edge, target))
    shown = draw(st.lists(st.sampled_from(known), unique_by=lambda one: one[0], max_size=4))
    for name, target, _ in shown:
        body[f"p_{name}"] = view_property(_getter(name, FIELDS[target]))
    body["label"] = view_property(
        lambda self: [self.key if isinstance(self.key, (str, int)) else list(self.key), self.at]
    )
    path = "out/{id}" if is_group or model not in (Message, Note, Comment) else "out/{room}/to/{id}"
    if model is Comment and not is_group:
        path = "out/{id}"
    if model is Note and not is_group:
        path = "out/{room}/of/{message}/to/{id}"
    copies = draw(st.sampled_from([None, None, "each", "any"]))
    many = next((name for name, _, is_many in known if is_many), None)
    if copies == "each" and many is not None:
        path = f"for/{{who}}/{path}"
        body["paths"] = _copies(many)
    elif copies == "any" and many is not None:
        path = "any/{who}"
        body["paths"] = _copies(many)
    return type("View", (bb.ViewModel,), {**body, "__module__": __name__}, path=path)


_number = itertools.count()


def published(view: type[bb.ViewModel]) -> type[bb.ViewModel]:
    """A view under a name of its own in this module, where workers find it."""
    name = f"View{next(_number)}"
    view.__name__ = view.__qualname__ = name
    globals()[name] = view
    return view


def _getter(name: str, fields: tuple[str, ...]) -> Callable[[Any], Any]:
    return lambda self: dumped(getattr(self.store, name), fields)


def _copies(name: str) -> Callable[[Any], Any]:
    return lambda self: [{"who": key.replace("/", "-")} for key in getattr(self.store, name)]


def aggregates(edge: str, model: Any) -> st.SearchStrategy[Any]:
    """An aggregate over an edge."""
    field, number = "doc_id" if model is Board else FIELDS[model][0], NUMBERS.get(model)
    found = [
        aggregate.count(edge), aggregate.count(edge, where=odd), aggregate.count_distinct(edge, of=field),
        aggregate.collect(edge, of=field), aggregate.collect(edge, order_by=(f"-{field}",), limit=2),
        aggregate.min(edge, of=field), aggregate.max(edge, of=field), aggregate.top(edge, n=1, by=field, of="path"),
    ]  # fmt: skip
    if number is not None:
        found += [
            aggregate.sum(edge, of=number), aggregate.mean(edge, of=number), aggregate.custom(Spread(), edge, of=number),
        ]  # fmt: skip
    return st.sampled_from(found)

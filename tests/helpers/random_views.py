"""Random views of the town: a root or group, chains of edges, aggregates, and row paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import aggregate, document, group, reference, referrers, root, view_property  # noqa: F401
from tests.helpers.town import Board, Comment, Guest, Message, Note, Room, Spread  # noqa: F401

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
    Guest: ["name", "-initial", ("-nick", "name"), "-mark"],
    Room: ["-topic", "host"],
    Message: ["-sent", ("sent", "-author"), ("mark", "-sent")],
    Note: ["text", "-doc_id", "mark"],
    Comment: ["-stars", ("-mark",)],
    Board: [],
}
FIELDS: dict[type, tuple[str, ...]] = {
    Guest: ("name", "nick", "mark"), Room: ("topic", "host"), Message: ("author", "sent", "mark"), Note: ("text", "mark"),
    Comment: ("stars", "mark"), Board: ("featured",),
}  # fmt: skip
NUMBERS: dict[type, str] = {Message: "sent", Comment: "stars"}
MARKED = (Guest, Message, Note, Comment)
"""They have a field that may hold anything."""


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


@cache
def any_of(*values: Any) -> st.SearchStrategy[Any]:
    """One of some values; the strategy is made once, because Hypothesis validates each new one."""
    return st.sampled_from(values)


booleans, one_in_four, numbers = st.booleans(), st.integers(0, 3).map(lambda number: not number), st.integers(0, 3)


@st.composite
def sources(draw: st.DrawFn) -> str:
    """One view as text, so that one that fails can be pasted into a test; see `view_of`."""
    model: Any = draw(any_of(Guest, Room, Message, Note, Comment))
    is_group = draw(booleans)
    store: list[str] = []
    known: list[tuple[str, Any, bool]] = []  # name, model, whether it is many

    def add(target: Any, is_many: bool, call: str, **options: Any) -> None:
        options["where"] = draw(any_of(None, None, None, odd))
        if is_many and not call.startswith("document"):
            options["order_by"] = draw(any_of(None, *ORDERS[target]))
            options["limit"] = draw(any_of(None, None, 1, 2))
        if call.startswith(("group", "reference", "referrers")) and draw(one_in_four):
            options["only"] = FIELDS[target]
        texts = [f", {name}={'odd' if one is odd else repr(one)}" for name, one in options.items() if one is not None]
        name = f"e{len(known)}"
        store.append(f"{name} = {call}{''.join(texts)})")
        known.append((name, target, is_many))

    if is_group:
        by = draw(any_of(*KEYS[model]))
        add(model, True, f"group({model.__name__}", by=by)
    else:
        add(model, False, f"root({model.__name__}")
    for _ in range(draw(any_of(0, 1, 2, 3, 4, 5, 5, 6))):
        parent, above, is_many = draw(st.sampled_from([*known, known[-1], known[-1]]))
        ways: list[Any] = [*REFERENCES[above], *REFERRERS[above]] * 3 + [None]
        way = draw(any_of(*ways))
        if way is None:
            add(Board, False, "document(Board, 'config/board'", optional=draw(booleans))
        elif len(way) == 3:
            field, target, many = way
            add(target, is_many or many, f"reference({f'{parent}.{field}'!r}", optional=draw(booleans))
        else:
            target, field = way
            add(target, True, f"referrers({target.__name__}", by=field, of=parent)
    body = []
    for number in range(draw(numbers)):
        edge, target, _ = draw(st.sampled_from(known))
        body.append(f"a{number} = {draw(aggregates(edge, target))}")
    shown = draw(st.lists(st.sampled_from(known), unique_by=lambda one: one[0], max_size=4))
    body += [f"p_{name} = getter({name!r}, {FIELDS[target]})" for name, target, _ in shown]
    path = "out/{id}" if is_group or model not in (Message, Note) else "out/{room}/to/{id}"
    if model is Note and not is_group:
        path = "out/{room}/of/{message}/to/{id}"
    copies = draw(any_of(None, None, "each", "any"))
    many = next((name for name, _, is_many in known if is_many), None)
    if copies is not None and many is not None:
        path = f"for/{{who}}/{path}" if copies == "each" else "any/{who}"
        body.append(f"paths = copies({many!r})")
    lines = [
        f"class View(bb.ViewModel, path={path!r}):",
        "    class Store(bb.Store):",
        *(f"        {one}" for one in store),
    ]
    return "\n".join([*lines, *(f"    {one}" for one in [*body, "label = label()"])]) + "\n"


def view_of(source: str) -> type[bb.ViewModel]:
    """The view that a text declares, by the names of this module."""
    names = dict(globals())
    exec(source, names)
    return names["View"]  # type: ignore[no-any-return]


def views() -> st.SearchStrategy[type[bb.ViewModel]]:
    """One view."""
    return sources().map(view_of)


_number = itertools.count()


def published(view: type[bb.ViewModel]) -> type[bb.ViewModel]:
    """A view under a name of its own in this module, where workers find it."""
    name = f"View{next(_number)}"
    view.__name__ = view.__qualname__ = name
    globals()[name] = view
    return view


def getter(name: str, fields: tuple[str, ...]) -> Any:
    """A property that reads an edge."""
    return view_property(lambda self: dumped(getattr(self.store, name), fields))


def copies(name: str) -> Callable[[Any], Any]:
    """A `paths()` with a copy for each document of an edge."""
    return lambda self: [{"who": key.replace("/", "-")} for key in getattr(self.store, name)]


def label() -> Any:
    """A property that reads what a row goes by."""
    return view_property(lambda self: [self.key if isinstance(self.key, (str, int)) else list(self.key), self.at])


@cache
def aggregates(edge: str, model: Any) -> st.SearchStrategy[str]:
    """An aggregate over an edge."""
    field, number = "doc_id" if model is Board else FIELDS[model][0], NUMBERS.get(model)
    found = [
        "count({edge})", "count({edge}, where=odd)", "count_distinct({edge}, of={field})", "collect({edge}, of={field})",
        "collect({edge}, order_by=('-' + {field},), limit=2)", "min({edge}, of={field})", "max({edge}, of={field})",
        "top({edge}, n=1, by={field}, of='path')",
    ]  # fmt: skip
    if number is not None:
        found += ["sum({edge}, of={number})", "mean({edge}, of={number})", "custom(Spread(), {edge}, of={number})"]
    if model in MARKED:
        found += [
            one.replace("{field}", "'mark'").replace("{number}", "'mark'") for one in found if "custom" not in one
        ]
    names = {"edge": repr(edge), "field": repr(field), "number": repr(number)}
    return st.sampled_from([f"aggregate.{one.format(**names)}" for one in found])

"""Random histories of the shop: few documents, so that they refer to each other; some versions are invalid or equal.

Strategies are made once: Hypothesis validates each new one, which would take longer than to draw from it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from boiler_beam.values import from_wire, to_wire
from tests.helpers.values import LOOK_ALIKES, look_alikes, rest_of

IDS = ("1", "2")
ids, versions, one_in_four = st.sampled_from(IDS), st.integers(0, 4), st.integers(0, 3).map(lambda number: not number)
marks = st.one_of(st.sampled_from(LOOK_ALIKES), look_alikes).map(to_wire)
"""Values of any type, as JSON, often values that look alike."""


@cache
def ref(collection: str) -> st.SearchStrategy[Any]:
    """References in all their forms, often to missing documents."""
    paths = ids.map(lambda one: f"{collection}/{one}")
    return st.one_of(paths, paths.map(lambda path: {"referenceValue": path}))


@cache
def valid_fields(collection: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that fit the collection's models."""
    optional_tag = st.fixed_dictionaries({}, optional={"tag": st.one_of(st.none(), ref("tags"))})
    prices = st.sampled_from([0.1, 0.2, 1e16, 3, -1.0, 0.0, {"doubleValue": "Infinity"}])
    item = st.fixed_dictionaries({"label": st.sampled_from(["a", "b", "boom"]), "price": prices})
    match collection:
        case "tags":
            return st.fixed_dictionaries({"name": st.sampled_from(["red", "blue"])})
        case "items":
            big = st.fixed_dictionaries({"obj_type": st.just("Big"), "size": st.integers(0, 3)})
            plain = st.sampled_from([{}, {"obj_type": "Item"}])
            return st.tuples(item, optional_tag, st.one_of(plain, big)).map(
                lambda parts: parts[0] | parts[1] | parts[2]
            )
        case "people":
            teams = st.sampled_from(["x", "y/z", "", None])
            optional = {"team": teams, "boss": st.one_of(st.none(), ref("people"))}
            return st.fixed_dictionaries({"name": st.sampled_from(["Ann", "Bo"])}, optional=optional)
        case "orders":
            items = st.lists(ref("items"), max_size=3)
            slots = st.dictionaries(st.sampled_from(["left", "right"]), ref("items"))
            lines = st.lists(st.fixed_dictionaries({"item": ref("items")}), max_size=2)
            optional = {
                "items": items, "slots": slots, "lines": lines,
                "status": st.sampled_from(["open", "hidden"]), "divisor": st.sampled_from([0, 1, 6]),
            }  # fmt: skip
            return st.fixed_dictionaries({"owner": ref("people")}, optional=optional)
    return st.fixed_dictionaries({"factor": st.integers(1, 3)})


def invalid_fields(collection: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that fit no model: a required one is wrong; the others may contain keys and references."""
    needed = {"tags": "name", "items": "label", "people": "name", "orders": "owner", "config": "factor"}[collection]
    wrong = st.sampled_from([None, 7.5, ["x"], {"referenceValue": "elsewhere/1"}])
    broken = st.tuples(valid_fields(collection), wrong).map(lambda parts: parts[0] | {needed: parts[1]})
    if collection != "orders":
        return broken
    other = st.tuples(valid_fields(collection), st.just({"status": "unheard of"})).map(
        lambda parts: parts[0] | parts[1]
    )
    return st.one_of(broken, other)


collections = st.sampled_from(["tags", "items", "people", "orders", "orders", "config"])


@cache
def written_fields(collection: str, is_invalid: bool) -> st.SearchStrategy[dict[str, Any] | None]:
    """Fields of a version, often valid ones; None where it is a deletion."""
    kinds = [valid_fields(collection), valid_fields(collection), valid_fields(collection), st.none()]
    if is_invalid:
        kinds.append(invalid_fields(collection))
    return respelled(st.one_of(*kinds))


@st.composite
def events(draw: st.DrawFn, *, is_invalid: bool = True) -> tuple[str, int, Any]:
    """One version of one document of the shop."""
    collection = draw(collections)
    name = "shop" if collection == "config" else draw(ids)
    return f"{collection}/{name}", draw(versions), draw(written_fields(collection, is_invalid))


@cache
def some_of(names: tuple[str, ...]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(names))


@st.composite
def respelled(draw: st.DrawFn, given: st.SearchStrategy[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Fields, some of which are written as the REST API writes them."""
    fields = draw(given)
    if fields is None or not draw(one_in_four):
        return fields
    typed = draw(some_of(tuple(sorted(fields)))) if fields else set()
    return {name: rest_of(from_wire(value)) if name in typed else value for name, value in fields.items()}


@cache
def town_fields(collection: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that fit the models of the town."""
    guests = ref("guests")
    if collection == "guests":
        optional = {
            "nick": st.sampled_from(["a", "b", "", "x/y", "bad"]), "level": st.sampled_from(["new", "old", None]),
            "mark": marks,
        }  # fmt: skip
        return st.fixed_dictionaries({"name": st.sampled_from(["Ann", "Bo", "a", "boom", ""])}, optional=optional)
    if collection == "rooms":
        optional = {"topic": st.just("u"), "members": st.lists(guests, max_size=3), "host": guests}
        return st.fixed_dictionaries({}, optional=optional)
    if collection == "messages":
        tags = st.lists(st.sampled_from(["x", "y,z"]), max_size=2)
        optional = {"sent": st.one_of(st.none(), st.integers(1, 4)), "tags": tags, "mark": marks}
        return st.fixed_dictionaries({"author": guests}, optional=optional)
    if collection == "notes":
        return st.fixed_dictionaries({"text": st.sampled_from(["p", "q"])}, optional={"mark": marks})
    if collection == "comments":
        return st.fixed_dictionaries({"stars": st.integers(0, 3)}, optional={"by": guests, "mark": marks})
    return st.fixed_dictionaries({"featured": st.lists(guests, max_size=3)})


WRONG: dict[str, dict[str, Any]] = {
    "guests": {"name": 7}, "rooms": {"topic": 7}, "messages": {"sent": "x"}, "notes": {"text": None},
    "comments": {"stars": "x"}, "config": {"featured": 7},
}  # fmt: skip


@cache
def town_paths(one: str, two: str, three: str) -> st.SearchStrategy[str]:
    """Paths of documents with these ids."""
    message = f"rooms/{one}/messages/{two}"
    return st.sampled_from([
        f"guests/{one}", f"rooms/{one}", message, message, f"{message}/notes/{three}",
        f"guests/{one}/comments/{two}", f"{message}/comments/{three}", "config/board",
    ])  # fmt: skip


@cache
def written_town_fields(collection: str, is_invalid: bool) -> st.SearchStrategy[dict[str, Any] | None]:
    """Fields of a version, often valid ones; None where it is a deletion."""
    kinds = [town_fields(collection)] * 4 + [st.none()]
    if is_invalid:
        wrong = WRONG[collection]
        kinds.append(town_fields(collection).map(lambda fields: fields | wrong))
    return respelled(st.one_of(*kinds))


@st.composite
def town_events(draw: st.DrawFn, *, is_invalid: bool = True) -> tuple[str, int, Any]:
    """One version of one document of the town."""
    path = draw(town_paths(draw(ids), draw(ids), draw(ids)))
    return path, draw(versions), draw(written_town_fields(path.split("/")[-2], is_invalid))


TOWN = [
    ("guests/1", 1, {"name": "Ann", "nick": "a"}),
    ("guests/2", 1, {"name": "Bo", "nick": "b", "level": "old"}),
    ("rooms/1", 1, {"members": ["guests/1", "guests/2"], "host": "guests/2"}),
    ("rooms/2", 1, {"members": ["guests/2", "guests/1"]}),
    ("rooms/1/messages/1", 1, {"author": "guests/1", "sent": 1, "tags": ["x"]}),
    ("rooms/1/messages/2", 1, {"author": "guests/2", "sent": 2, "tags": ["x", "y,z"]}),
    ("rooms/2/messages/1", 1, {"author": "guests/2", "sent": 2}),
    ("rooms/2/messages/2", 1, {"author": "guests/1", "tags": ["x"]}),
    ("rooms/1/messages/1/notes/1", 1, {"text": "p"}),
    ("rooms/1/messages/2/notes/2", 1, {"text": "q"}),
    ("guests/1/comments/1", 1, {"stars": 1, "by": "guests/1"}),
    ("rooms/1/messages/1/comments/2", 1, {"stars": 3, "by": "guests/2"}),
    ("config/board", 1, {"featured": ["guests/2", "guests/1"]}),
]


@cache
def histories(*, is_invalid: bool = True, is_town: bool = False) -> st.SearchStrategy[list[tuple[str, int, Any]]]:
    """Versions of documents, in any order; in the town several versions of one document are frequent."""
    if not is_town:
        return st.lists(events(is_invalid=is_invalid), max_size=25)
    there = st.sampled_from([[], TOWN, TOWN]).flatmap(lambda town: st.permutations(town))
    return st.tuples(
        there, st.lists(town_events(is_invalid=is_invalid), max_size=12), st.lists(retouches, max_size=4)
    ).map(lambda parts: retouched([*parts[0], *parts[1]], parts[2]))


TWINS: list[tuple[Any, Any]] = [
    (1, 1.0), (1, True), (0, False), (0.0, {"doubleValue": "NaN"}), (0.0, -0.0), (2**53, float(2**53)), (2**53, 2**53 + 1),
    ([1], [1.0]), ({"a": 0}, {"a": False}), (None, ""), ({}, []), (1, "1"),
]  # fmt: skip
"""Pairs of values, as JSON has them, that look alike."""

retouches = st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(TWINS), st.booleans())


def retouched(table: list[tuple[str, int, Any]], more: list[tuple[int, int, Any, bool]]) -> list[tuple[str, int, Any]]:
    """A history with later versions of some of its documents in which the mark alone changes, to one that looks alike."""
    found = list(table)
    for which, place, twins, is_reversed in more:
        path, version, fields = table[which % len(table)] if table else ("", 0, None)
        if fields is not None and path.split("/")[-2] in ("guests", "messages", "notes", "comments"):
            for later, mark in enumerate(twins[::-1] if is_reversed else twins, start=1):
                found.insert(max(place % (len(found) + 1), later - 1), (path, version + later, fields | {"mark": mark}))
    return found

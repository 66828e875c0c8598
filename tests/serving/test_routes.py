"""Routes of views: served, described and refused like rows, against a running server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import boiler_beam as bb
from boiler_beam.errors import UsageError
from boiler_beam.plan import compile_plan
from boiler_beam.serving.routes import routes_of
from tests.helpers.serving import Note, Room, Rows, client

LABEL = "/views/Room/r1/door/label"


def test_a_route_answers_from_the_stored_row(rows: Rows, http: httpx.Client) -> None:
    rows.room("r1", title="Blue")
    answer = http.get(LABEL, params={"floor": "2"})
    assert (answer.status_code, answer.json()) == (200, "Blue (r1, floor 2).")
    assert answer.headers["content-type"] == "application/json"
    assert http.get(LABEL, params={"floor": "-1", "is_loud": "true", "end": "!"}).json() == "BLUE (R1, FLOOR -1)!"
    again = http.get(LABEL, params={"floor": "2"}, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    rows.room("r1", title="Red")
    again = http.get(LABEL, params={"floor": "2"}, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.json()) == (200, "Red (r1, floor 2).")


@pytest.mark.parametrize("query", ["", "floor=two", "floor=2&is_loud=maybe", "floor=2&colour=red"])
def test_parameters_that_are_wrong(rows: Rows, http: httpx.Client, query: str) -> None:
    rows.room("r1")
    answer = http.get(f"{LABEL}?{query}")
    assert (answer.status_code, answer.json()["title"]) == (400, "invalid parameter")
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_no_route_is_not_there(rows: Rows, http: httpx.Client) -> None:
    rows.room("r1")
    for path in ("/views/Room/none/door/label?floor=1", "/views/Room/r1/door", "/views/Board/r1/door/label"):
        assert http.get(path).status_code == 404, path
    assert http.post(LABEL, json={}).status_code == 405


def test_access_to_a_route_is_that_to_the_row_and_to_what_it_reads(rows: Rows, guarded: str) -> None:
    rows.room("r1")
    rows.room("own", _viewers=["ann"])
    with client(guarded, "hal+role:host") as host, client(guarded, "eve") as eve, client(guarded) as nobody:
        assert nobody.get(LABEL, params={"floor": "1"}).status_code == 401
        assert eve.get(LABEL, params={"floor": "1"}).json() == "r1 (r1, floor 1)."
        assert eve.get("/views/Room/own/door/label?floor=1").status_code == 403
        assert eve.get("/views/Room/none/door/label?floor=1").status_code == 403, "no hint that there is none"
        assert host.get("/views/Room/r1/secret").json() == {"code": "1234"}
        assert host.get("/views/Room/r1/secret").headers["cache-control"] == "private, no-cache"
        assert eve.get("/views/Room/r1/secret").status_code == 403


def test_a_route_has_no_documents(rows: Rows, http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    rows.room("r1")
    answer = http.get("/views/Room/r1/broken")
    assert (answer.status_code, answer.json()["title"]) == (500, "internal error")
    assert "self.store.note: a route reads the stored row" in caplog.text


def test_routes_are_described(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()["paths"]["/views/Room/{id}/door/label"]["get"]
    assert told["summary"] == "What is written at the door."
    assert [(one["name"], one["required"], one["schema"]) for one in told["parameters"]] == [
        ("floor", True, {"type": "integer", "format": "int64"}),
        ("is_loud", False, {"type": "boolean", "default": False}),
        ("end", False, {"type": "string", "default": "."}),
    ]
    assert told["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "string"}


@pytest.mark.parametrize("path", ["summary", "/summary", "/{id}", "/{id}/", "/{id}/stream", "/{id}/a/{b}", "/{id}/a b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="fix: name it so"):
        bb.route(path)


def test_signatures_that_are_refused() -> None:
    def many(self: Any, **query: str) -> str:
        return ""

    async def later(self: Any) -> str:
        return ""

    for wrong in (many, later):
        with pytest.raises(TypeError, match="write each parameter of the query as an argument"):
            bb.route("/{id}/x")(wrong)


def test_two_routes_at_one_path_and_arguments_of_other_types_are_refused() -> None:
    class Twice(Room, collection="twice"):
        @bb.route("/{id}/secret")
        def other(self) -> str:
            return ""

    with pytest.raises(UsageError, match="got that of other"):
        routes_of(compile_plan([Twice]).views[0])

    class OfList(Room, collection="of_list"):
        @bb.route("/{id}/many")
        def many(self, some: list[str]) -> str:
            return ""

    with pytest.raises(UsageError, match=r"OfList.many\(some\): expected str, int, float or bool"):
        routes_of(compile_plan([OfList]).views[0])


def test_a_changed_route_does_not_rebuild_rows() -> None:
    def view(text: str, *, is_route: bool) -> type[bb.ViewModel]:
        def method(self: Any) -> str:
            return "one"

        def other(self: Any) -> str:
            return "two" + self.doc_id

        chosen = method if text == "one" else other

        class Titled(bb.ViewModel, collection="titled"):
            class Store(bb.Store):
                note: Note = bb.root(Note)

            store: Store

            @bb.view_property
            def title(self) -> str:
                return self.store.note.text

            label = bb.route("/{id}/label")(chosen) if is_route else chosen

        return Titled

    def fingerprint(text: str, *, is_route: bool) -> str:
        return compile_plan([view(text, is_route=is_route)]).views[0].fingerprint

    assert fingerprint("one", is_route=True) == fingerprint("two", is_route=True)
    assert fingerprint("one", is_route=False) != fingerprint("two", is_route=False)

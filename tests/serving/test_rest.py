"""REST against a running server: rows, lists, conditions and problems."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from boiler_beam.events import View
from boiler_beam.serving import asgi_app
from boiler_beam.values import Ref
from tests.helpers.serving import BOARD, INBOX, TIME, VIEWS, Rows, client, serve


def test_a_row_has_its_view_path_id_stamp_and_fields(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1", writtenAt=TIME + timedelta(microseconds=1), author=Ref("users/u1"))
    answer = http.get("/views/Board/b1")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "view": "Board",
        "path": "boards/b1",
        "id": "b1",
        "stamp": {"generation": 1, "version": 1, "seq": 0},
        "fields": {"text": "b1", "rank": 1, "writtenAt": "2026-01-01T00:00:00.000001Z", "author": "users/u1"},
    }
    typed = http.get("/views/Board/b1?typed=1").json()["fields"]
    assert typed["writtenAt"] == {"timestampValue": "2026-01-01T00:00:00.000001Z"}
    assert typed["author"] == {"referenceValue": "users/u1"}


def test_ids_are_percent_encoded_segments(rows: Rows, http: httpx.Client) -> None:
    for name in ("a%2Fb", "ü ?#", "x+y", "openapi.json"):
        rows.board(name)
        answer = http.get(f"/views/Board/{quote(name, safe='')}")
        assert answer.json()["id"] == name
    rows.commit((INBOX, "people/p1/inbox/c1", {"text": "hi"}))
    assert http.get("/views/Inbox/p1%2Finbox%2Fc1").json()["path"] == "people/p1/inbox/c1"
    assert http.get("/views/Inbox/p1").status_code == 404
    assert http.get("/views/Inbox/p1/inbox/c1").status_code == 404, "an id is one segment"


def test_a_row_that_is_as_it_was_is_not_sent_again(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    tag = http.get("/views/Board/b1").headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = http.get("/views/Board/b1", headers={"If-None-Match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert http.get("/views/Board/b1?typed=1", headers={"If-None-Match": tag}).status_code == 200
    rows.board("b1", text="new")
    assert http.get("/views/Board/b1", headers={"If-None-Match": tag}).json()["fields"]["text"] == "new"


def test_problems_are_documents_of_rfc_9457(http: httpx.Client) -> None:
    for path, status in (("/views/Nothing/x", 404), ("/views/Board/x", 404), ("/views/Board?limit=0", 400)):
        answer = http.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["status"] == status
    assert http.request("DELETE", "/views/Board/x", headers={"Content-Type": "application/json"}).status_code == 405


def test_lists_have_pages_and_end(rows: Rows, http: httpx.Client) -> None:
    rows.commit(*(rows_of(number) for number in range(23)))
    found, cursor = [], None
    while True:
        query = {"limit": "5", **({} if cursor is None else {"cursor": cursor})}
        page = http.get("/views/Board", params=query).json()
        found += [row["id"] for row in page["rows"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == sorted(found)
    assert len(found) == 23


def rows_of(number: int) -> tuple[View, str, dict[str, Any]]:
    rank = None if number % 7 == 0 else number % 5
    at = TIME + timedelta(microseconds=number * 500_000)
    return BOARD, f"boards/b{number:02}", {"text": f"t{number % 3}", "rank": rank, "writtenAt": at}


@pytest.mark.parametrize("order", ["rank", "-rank", "writtenAt", "-writtenAt", "text"])
def test_lists_are_ordered_by_indexed_properties_over_all_pages(rows: Rows, http: httpx.Client, order: str) -> None:
    rows.commit(*(rows_of(number) for number in range(40)))
    found, query = [], {"limit": "3", "order": order}
    while True:
        page = http.get("/views/Board", params=query).json()
        found += [(row["fields"][order.removeprefix("-")], row["path"]) for row in page["rows"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]

    def key(one: tuple[Any, str]) -> Any:
        value = one[0].rstrip("Z") if isinstance(one[0], str) else one[0] or 0  # 10:00:00 is before 10:00:00.5
        return one[0] is not None, value, one[1]

    whole = sorted(found, key=key)
    assert found == (whole[::-1] if order.startswith("-") else whole)
    assert len(set(found)) == 40


def test_lists_are_filtered_by_the_types_of_properties(rows: Rows, http: httpx.Client) -> None:
    rows.commit(*(rows_of(number) for number in range(40)))
    ids = lambda query: [row["id"] for row in http.get(f"/views/Board?{query}").json()["rows"]]  # noqa: E731
    assert ids("rank=3") == [f"b{number:02}" for number in range(40) if number % 7 and number % 5 == 3]
    assert ids("rank=3&text=t0") == ["b03", "b18", "b33"]
    assert ids("writtenAt=2026-01-01T00:00:01Z") == ["b02"]
    assert http.get("/views/Board?author=x").status_code == 400
    assert http.get("/views/Board?rank=high").status_code == 400
    assert "rank, text, writtenAt" in http.get("/views/Board?order=author").json()["detail"]
    assert http.get("/views/Board?cursor=zzz").status_code == 400


def test_a_server_that_only_reads_says_so(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    for method, path in (("PATCH", "/views/Board/b1"), ("POST", "/views/Board")):
        answer = http.request(method, path, json={"text": "x"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_bodies_are_json_of_a_bounded_size_from_this_site(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    path = "/views/Board/b1"
    assert http.post("/rpc", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    elsewhere = {"Origin": "https://evil.example", "Content-Type": "application/json"}
    assert http.patch(path, content=b"{}", headers=elsewhere).status_code == 403
    assert (
        http.post("/rpc", content=b" " * (1 << 20) + b" ", headers={"Content-Type": "application/json"}).status_code
        == 413
    )
    answer = http.get(path, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers, "closed by default"


def test_health_readiness_and_metrics(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    assert http.get("/healthz").text == "ok\n"
    assert http.get("/readyz").status_code == 200
    rows.sink.now = lambda: 1
    rows.writer._alive = -1 << 60  # type: ignore[attr-defined]
    rows.writer.touches()
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert "no sign of life" in answer.text
    http.get("/views/Board/b1")
    text = http.get("/metrics").text
    assert 'boiler_beam_serving_requests_total{protocol="rest",status="200"} 1' in text
    assert "boiler_beam_serving_commit 1" in text
    assert "boiler_beam_serving_stale 1" in text


def test_without_rows_it_is_not_ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    app = asgi_app(VIEWS, rows=f"sqlite:{tmp_path_factory.mktemp('none')}/rows.db")
    with serve(app) as address, client(address) as http:
        assert http.get("/readyz").status_code == 503
        assert http.get("/views/Board/b1").status_code == 404
        assert http.get("/views/Board").json() == {"rows": [], "cursor": None}


def test_the_description_and_its_page_need_no_other_site(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    board = told["components"]["schemas"]["Board"]
    assert board["description"] == "A board that everyone reads.\n\nIt has one note."
    fields = board["properties"]["fields"]["properties"]
    assert fields["text"] == {"type": "string", "description": "What it says."}
    assert fields["writtenAt"]["format"] == "date-time"
    assert "patch" not in told["paths"]["/views/Board/{id}"], "this server only reads"
    page = http.get("/apidocs").text
    assert "://" not in page
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"/apidocs/{name}" in page
        assert http.get(f"/apidocs/{name}").status_code == 200
    assert http.get("/apidocs/..%2F__init__.py").status_code == 404

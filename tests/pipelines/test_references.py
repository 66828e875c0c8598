"""References into the local and other databases, with the emulator: read, joined, written and read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import RunQueryRequest
from boiler_beam.connectors.firestore.values import fields_of, put_fields
from boiler_beam.values import Database
from tests.helpers.firestore import put
from tests.helpers.programs import Program
from tests.helpers.servers import wait_until
from tests.pipelines.reference_views import WriterRow
from tests.pipelines.test_command_line import CLI, MAIN, ROOT, run

VIEWS = "tests.pipelines.reference_views"


def documents(client: Client, collection: str) -> dict[str, Any]:
    """Returns the raw reference values and texts of the documents of a collection, by path."""
    request = RunQueryRequest(parent=client.root[:-1])
    request.structured_query.from_.add(collection_id=collection)
    found = [answer.document for answer in client.call("RunQuery", request) if answer.HasField("document")]
    return {client.path_of(one.name): one for one in found}


@pytest.fixture
def client(firestore_emulator: str, project: str) -> Client:
    one = Client(f"{project}/main")
    root, away = one.root, f"projects/{project}/databases/(default)/documents/"
    put(
        one,
        {
            "writers/w": {"name": "Ann"},
            "posts/a": {"author": {"referenceValue": "writers/w"}, "other": {"referenceValue": f"{away}writers/w"}},
            "posts/b": {"author": f"{root}writers/w"},
            "posts/c": {"author": "writers/w"},
            "posts/d": {"author": "w"},
            "posts/e": {"author": {"referenceValue": f"{away}writers/w"}},
        },
    )
    return one


@pytest.mark.parametrize("mode", ["backfill", "stream"])
def test_rows_in_another_database_refer_to_where_the_documents_are(client: Client, tmp_path: Path, mode: str) -> None:
    project, source = client.location.project, f"firestore:{client.location.project}/main"
    rows = Client(f"{project}/rows")
    command = [*MAIN, "--views", VIEWS, "--source", source, "--sink", f"firestore:{project}/rows", "--row_seconds", "0"]
    if mode == "backfill":
        done = run(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    else:
        with (tmp_path / "log").open("wb") as log:
            stream = Program([*command, "--mode", "stream"], tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}, log)
        wait_until(lambda: len(documents(rows, "post_rows")) == 5 and bool(documents(rows, "writer_rows")), "all rows")
        stream.terminate()
        assert stream.wait(60) == 0
    fields = {path: one.fields for path, one in documents(rows, "post_rows").items()}
    links = {path: [value.reference_value for value in one["links"].array_value.values] for path, one in fields.items()}
    here, away = f"{client.root}writers/w", f"projects/{project}/databases/(default)/documents/writers/w"
    assert links == {
        "post_rows/a": [here, away], "post_rows/b": [here, ""], "post_rows/c": [here, ""], "post_rows/d": [here, ""],
        "post_rows/e": [away, ""],
    }  # fmt: skip
    names = {path: one["name"].string_value for path, one in fields.items()}
    assert names == {f"post_rows/{name}": "" if name == "e" else "Ann" for name in "abcde"}
    (number,) = [one.fields["number"].integer_value for one in documents(rows, "writer_rows").values()]
    assert number == 4
    if mode == "backfill":
        assert " 0 writes, 0 deletes: " in run(tmp_path, *command).stdout, "what was written is read as it was computed"


def test_one_row_finds_all_that_refers_to_its_document(client: Client) -> None:
    assert WriterRow.get("w", source=f"firestore:{client.location.project}/main") == {"number": 4}


def test_documents_keep_references_to_where_they_lead(client: Client) -> None:
    found = documents(client, "posts")["posts/e"]
    data = fields_of(found)
    away = Database(client.location.project).root
    assert msgspec.json.decode(data) == {"author": {"referenceValue": f"{away}writers/w"}}
    copied = type(found)()
    put_fields(copied.fields, bytes(data), client.root)
    assert copied.fields["author"].reference_value == found.fields["author"].reference_value


def test_a_file_and_the_database_that_it_is_of(tmp_path: Path) -> None:
    line = '{"path": "%s", "version": 1, "fields": %s}\n'
    refer = '{"author": {"referenceValue": "projects/%s/databases/%s/documents/writers/w"}}'
    text = line % ("writers/w", '{"name": "Ann"}')
    for name, project, database in (("a", "p", "(default)"), ("b", "q", "(default)"), ("c", "p", "other")):
        text += line % (f"posts/{name}", refer % (project, database))
    (tmp_path / "documents.jsonl").write_text(text)
    command = [*MAIN, "--views", f"{VIEWS}:PostRow", "--source", "file:documents.jsonl", "--sink", "jsonl:rows.jsonl"]
    for options, local in (((), "ab"), (("--project", "p"), "a"), (("--database", "other"), "c")):
        assert run(tmp_path, *command, *options).returncode == 0
        rows = [msgspec.json.decode(one) for one in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert {row["path"][-1] for row in rows if row["fields"]["name"] == "Ann"} == set(local), options
    assert run(tmp_path, *command, BOILER_BEAM_PROJECT="q").returncode == 0
    checked = run(tmp_path, *CLI, "check", "--views", VIEWS, "--source", "file:documents.jsonl", "--project", "p")
    assert "2 x foreign_reference: author leads into another database, whose documents are not read" in checked.stdout

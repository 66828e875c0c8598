"""The two views in Pathway, kept up to date: the same joins as in the backfill, over a source that is pushed to.

    python benchmarks/peers/pathway_stream.py SNAPSHOT_FOLDER CHANGES_FILE OUTPUT_FOLDER

Pathway commits every 100 ms, and so gathers changes as it likes. One source gives the documents of all collections, in
the order of the stream; each collection is a filter of it.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pathway as pw
from pathway_views import meeting_rows, organization_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clock import Clock

COMMIT_MILLISECONDS = 100
IDLE_SECONDS = 1.0


class Document(pw.Schema):
    """The fields of all collections; None where a collection has no such field."""

    path: str = pw.column_definition(primary_key=True)
    kind: str
    name: str | None
    organization: str | None
    hearingAidRequested: bool | None  # noqa: N815
    latitude: float | None
    longitude: float | None
    address: str | None
    user: str | None
    attendance: bool | None
    location: str | None
    status: str | None
    members: list[tuple[str, str]] | None


NOTHING = dict.fromkeys(Document.column_names())
OF_TICKETS = "user", "attendance"
OF_LOCATIONS = "latitude", "longitude", "address"


def document(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A document as a row of the source."""
    kind = path[: path.index("/")]
    found = {**NOTHING, "path": path, "kind": kind}
    if kind == "tickets":
        found |= {name: fields[name] for name in OF_TICKETS}
    elif kind == "users":
        found |= {"name": f"{fields['firstName']} {fields['lastName']}", "organization": fields["organization"]}
        found["hearingAidRequested"] = fields["hearingAidRequested"]
    elif kind == "locations":
        found |= {name: fields[name] for name in OF_LOCATIONS}
    else:
        tickets = fields["tickets"]
        found |= {"location": fields["location"], "status": fields["status"]}
        found["members"] = [(user, tickets.get(user[6:], "")) for user in fields["users"]]
    return found


class Changes(pw.io.python.ConnectorSubject):
    """The snapshot; and when its rows are written, the changes."""

    def __init__(self, snapshot: Path, changes: Path, output: Path) -> None:
        super().__init__(session_type="upsert")
        self.snapshot, self.changes, self.output = snapshot, changes, output
        self.clock = Clock(output)
        self.number = 0

    def run(self) -> None:
        """Pushes all of it."""
        for file in sorted(self.snapshot.iterdir()):
            self._push(file)
        self.commit()
        self._wait()
        self.clock.loaded()
        self.number = self._push(self.changes)

    def _push(self, file: Path) -> int:
        number = 0
        loads = orjson.loads
        with file.open("rb") as lines:
            for line in lines:
                change = loads(line)
                number += 1
                if change["fields"] is None:
                    self.delete(**{**NOTHING, "path": change["path"], "kind": ""})
                else:
                    self.next(**document(change["path"], change["fields"]))
        return number

    def _wait(self) -> None:
        """Until the outputs have not grown for a while: Pathway does not say when it is done with what it was given."""
        size, pause = -1, threading.Event()
        while (found := sum(file.stat().st_size for file in self.output.glob("*s.jsonl"))) != size or not found:
            size = found
            pause.wait(IDLE_SECONDS)


def main(snapshot: Path, changes: Path, output: Path) -> None:
    """Builds the graph and runs it."""
    subject = Changes(snapshot, changes, output)
    documents = pw.io.python.read(subject, schema=Document, autocommit_duration_ms=COMMIT_MILLISECONDS)

    def collection(kind: str, *names: str) -> Any:
        found = documents.filter(pw.this.kind == kind)
        return found.select(pw.this.path, **{name: pw.unwrap(pw.this[name]) for name in names})

    users = collection("users", "name", "organization", "hearingAidRequested")
    locations = collection("locations", *OF_LOCATIONS)
    tickets = collection("tickets", *OF_TICKETS).filter(pw.this.attendance)
    meetings = collection("meetings", "location", "status", "members")
    pw.io.jsonlines.write(meeting_rows(meetings, locations, users, tickets), output / "meeting_sessions.jsonl")
    pw.io.jsonlines.write(organization_rows(users, tickets), output / "organization_summaries.jsonl")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    subject.clock.stop(subject.number)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

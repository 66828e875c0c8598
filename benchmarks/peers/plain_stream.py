"""What a good programmer writes by hand to keep exactly these two views up to date: dicts, one process, orjson.

    python benchmarks/peers/plain_stream.py SNAPSHOT_FOLDER CHANGES_FILE OUTPUT_FOLDER

Changes are taken in batches of 1,000; a row that one of them touches is written once, if it differs.
"""

from __future__ import annotations

import gc
import sys
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clock import Clock

BATCH = 1_000
Fields = dict[str, Any]


class Meetings:
    """The rows of meetings: which documents each one shows, and what was written of it last."""

    def __init__(self, documents: dict[str, Fields], file: IO[bytes]) -> None:
        self.documents, self.file = documents, file
        self.shows: dict[str, list[str]] = {}
        self.shown_by: dict[str, set[str]] = {}
        self.rows: dict[str, bytes] = {}
        self.dirty: set[str] = set()

    def changed(self, path: str, fields: Fields | None) -> None:
        """A document has other fields, or none."""
        if path.startswith("meetings/"):
            for other in self.shows.pop(path, ()):
                self.shown_by[other].discard(path)
            if fields is not None:
                self.shows[path] = shows = [fields["location"], *fields["users"], *fields["tickets"].values()]
                for other in shows:
                    self.shown_by.setdefault(other, set()).add(path)
            self.dirty.add(path)
        elif path in self.shown_by:
            self.dirty |= self.shown_by[path]

    def write(self) -> None:
        """Writes the dirty rows that differ."""
        dumps, rows, write = orjson.dumps, self.rows, self.file.write
        for path in self.dirty:
            row = self._row(path)
            line = dumps({"path": f"meeting_sessions/{path[9:]}", "fields": row}, option=orjson.OPT_APPEND_NEWLINE)
            if line != rows.get(path) and (row is not None or path in rows):
                rows[path] = line
                write(line)
        self.dirty.clear()

    def _row(self, path: str) -> Fields | None:
        documents = self.documents
        meeting = documents.get(path)
        location = documents.get(meeting["location"]) if meeting is not None else None
        if meeting is None or location is None:
            return None
        attending, hearing_aids = [], 0
        if meeting["status"] != "not-started":
            held = meeting["tickets"]
            for user_path in sorted(meeting["users"]):
                user, ticket = documents.get(user_path), documents.get(held.get(user_path[6:]))
                if user is not None and ticket is not None and ticket["attendance"]:
                    hearing_aid = user["hearingAidRequested"]
                    hearing_aids += hearing_aid
                    name = f"{user['firstName']} {user['lastName']}"
                    attending.append(
                        {"name": name, "organization": user["organization"], "hearingAidRequested": hearing_aid}
                    )
        return {
            "latitude": location["latitude"],
            "longitude": location["longitude"],
            "address": location["address"],
            "inSession": meeting["status"] == "in-session",
            "attending": attending,
            "numHearingAidRequested": hearing_aids,
        }


class Organizations:
    """The rows of organizations: counts of users, of those who attend, and of hearing aids."""

    def __init__(self, documents: dict[str, Fields], file: IO[bytes]) -> None:
        self.documents, self.file = documents, file
        self.counts: dict[str, list[int]] = {}
        self.attending: dict[str, int] = {}
        self.rows: dict[str, bytes] = {}
        self.dirty: set[str] = set()

    def changed(self, path: str, old: Fields | None, new: Fields | None) -> None:
        """A document had other fields, or none."""
        if path.startswith("tickets/"):
            for ticket, sign in ((old, -1), (new, 1)):
                if ticket is not None and ticket["attendance"]:
                    user_path = ticket["user"]
                    self.attending[user_path] = self.attending.get(user_path, 0) + sign
                    user = self.documents.get(user_path)
                    if user is not None:
                        self._add(user["organization"], 0, sign, 0)
        elif path.startswith("users/"):
            attending = self.attending.get(path, 0)
            for user, sign in ((old, -1), (new, 1)):
                if user is not None:
                    self._add(user["organization"], sign, sign * attending, sign * user["hearingAidRequested"])

    def _add(self, name: str, users: int, attending: int, hearing_aids: int) -> None:
        counts = self.counts.setdefault(name, [0, 0, 0])
        counts[0] += users
        counts[1] += attending
        counts[2] += hearing_aids
        self.dirty.add(name)

    def write(self) -> None:
        """Writes the dirty rows that differ."""
        for name in self.dirty:
            users, attending, hearing_aids = self.counts[name]
            row = {"numUsers": users, "numAttending": attending, "numHearingAid": hearing_aids} if users else None
            line = {"path": f"organization_summaries/{name}", "fields": row}
            text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
            if text != self.rows.get(name):
                self.rows[name] = text
                self.file.write(text)
        self.dirty.clear()


def main(snapshot: Path, changes: Path, output: Path) -> None:
    """Reads the snapshot, writes both views, then follows the changes."""
    # Nothing here forms a cycle, and the collector would go through every document again and again.
    gc.disable()
    clock = Clock(output)
    documents: dict[str, Fields] = {}
    loads = orjson.loads
    with (
        (output / "meeting_sessions.jsonl").open("wb", 1 << 20) as meeting_file,
        (output / "organization_summaries.jsonl").open("wb", 1 << 20) as organization_file,
    ):
        meetings, organizations = Meetings(documents, meeting_file), Organizations(documents, organization_file)

        def take(lines: list[bytes]) -> None:
            for line in lines:
                change = loads(line)
                path, fields = change["path"], change["fields"]
                old = documents.get(path)
                if fields is None:
                    documents.pop(path, None)
                else:
                    documents[path] = fields
                meetings.changed(path, fields)
                organizations.changed(path, old, fields)
            meetings.write()
            organizations.write()

        for file in sorted(snapshot.iterdir()):
            with file.open("rb") as opened:
                while lines := list(islice(opened, BATCH)):
                    take(lines)
        meeting_file.flush()
        organization_file.flush()
        clock.loaded()
        number = 0
        with changes.open("rb") as opened:
            while lines := list(islice(opened, BATCH)):
                take(lines)
                number += len(lines)
        meeting_file.flush()
        organization_file.flush()
        clock.stop(number)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""Writes the benchmark's documents: meetings with a location, users and their tickets, and a history of changes.

    python benchmarks/workload.py FOLDER --size small

gives `FOLDER/snapshot/{users,locations,tickets,meetings}.jsonl` and `FOLDER/changes.jsonl`, all of them document files
(`{"path", "version", "fields"}` a line, `fields` null for a deletion). The same size and seed give the same bytes.

About 70 % of the changes toggle a ticket's attendance, 15 % change a user (half the hearing aid, half the
organization), 10 % a meeting's status, and 5 % who is a member of a meeting.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

FIRST_NAMES = [
    "Ann",
    "Bo",
    "Cy",
    "Di",
    "Ed",
    "Flo",
    "Gus",
    "Hal",
    "Ida",
    "Jo",
    "Kit",
    "Lou",
    "Max",
    "Ned",
    "Oda",
    "Pia",
    "Quin",
    "Rob",
    "Sue",
    "Tom",
    "Uma",
    "Vic",
    "Wes",
    "Xia",
    "Yan",
    "Zoe",
]
LAST_NAMES = [
    "Abel",
    "Baker",
    "Cole",
    "Dunn",
    "East",
    "Frost",
    "Gray",
    "Hill",
    "Ives",
    "Jones",
    "King",
    "Lane",
    "Moss",
    "Nash",
    "Oakes",
    "Park",
    "Quail",
    "Reed",
]
ROLES = ("Participant", "Organizer", "Speaker")
STATUSES = ("not-started", "in-session", "closed")
MEMBERS = 8
FIRST_VERSION = 1_700_000_000_000_000


@dataclass(frozen=True)
class Size:
    """The amount of generated documents; there are 11.1 documents for each meeting."""

    meetings: int
    changes: int


SIZES = {
    "small": Size(meetings=1_000, changes=20_000),
    "medium": Size(meetings=10_000, changes=200_000),
    "large": Size(meetings=50_000, changes=500_000),
    "huge": Size(meetings=180_500, changes=200_000),
}


class Collection:
    """The existing documents of one collection, with a uniform random choice."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self._drawn_from: list[str] = []

    def put(self, path: str, fields: dict[str, Any]) -> None:
        """Creates or replaces a document."""
        if path not in self.documents:
            self._drawn_from.append(path)
        self.documents[path] = fields

    def draw(self, rng: random.Random) -> str:
        """Returns the path of a random existing document."""
        while True:
            index = rng.randrange(len(self._drawn_from))
            path = self._drawn_from[index]
            if path in self.documents:
                return path
            # Deleted ones leave the list only when they are met, so that a deletion need not search it.
            self._drawn_from[index] = self._drawn_from[-1]
            self._drawn_from.pop()


class Workload:
    """The generator: first `snapshot`, then `changes`, which continue from it."""

    def __init__(self, meetings: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._version = FIRST_VERSION
        self._meeting_count, self._user_count = meetings, 2 * meetings
        self._location_count = max(5, meetings // 10)
        self._organization_count = max(10, self._user_count // 100)
        self._ticket_count = 0
        self._users, self._tickets, self._meetings = Collection(), Collection(), Collection()

    def snapshot(self, folder: Path) -> None:
        """Writes one file a collection."""
        folder.mkdir(parents=True)
        rng = self._rng
        with (folder / "users.jsonl").open("w") as file:
            for number in range(self._user_count):
                file.write(self._put(self._users, f"users/u{number}", self._new_user(number)))
        with (folder / "locations.jsonl").open("w") as file:
            for number in range(self._location_count):
                location = {
                    "latitude": round(rng.uniform(-90, 90), 6),
                    "longitude": round(rng.uniform(-180, 180), 6),
                    "address": f"{rng.randrange(1, 9999)} {rng.choice(LAST_NAMES)} Street",
                }
                file.write(self._line(f"locations/l{number}", location))
        with (folder / "tickets.jsonl").open("w") as tickets, (folder / "meetings.jsonl").open("w") as meetings:
            for number in range(self._meeting_count):
                members = [f"u{user}" for user in rng.sample(range(self._user_count), MEMBERS)]
                held = {}
                for member in members:
                    held[member], line = self._new_ticket(member)
                    tickets.write(line)
                meeting = {
                    "location": f"locations/l{rng.randrange(self._location_count)}",
                    "users": [f"users/{member}" for member in members],
                    "tickets": held,
                    "status": rng.choice(STATUSES),
                }
                meetings.write(self._put(self._meetings, f"meetings/m{number}", meeting))

    def changes(self) -> Iterator[str]:
        """Lines of changes without end."""
        kinds = (self._toggle_ticket, self._change_user, self._change_status, self._change_members)
        # A change of members is 1.95 lines on average, the others are one.
        weights = (70, 15, 10, 5 / 1.95)
        while True:
            (change,) = self._rng.choices(kinds, weights)
            yield from change()

    def _line(self, path: str, fields: dict[str, Any] | None) -> str:
        self._version += self._rng.randint(1, 2000)
        return json.dumps({"path": path, "version": self._version, "fields": fields}, separators=(",", ":")) + "\n"

    def _put(self, collection: Collection, path: str, fields: dict[str, Any]) -> str:
        collection.put(path, fields)
        return self._line(path, fields)

    def _delete(self, collection: Collection, path: str) -> str:
        del collection.documents[path]
        return self._line(path, None)

    def _new_user(self, number: int) -> dict[str, Any]:
        return {
            "firstName": self._rng.choice(FIRST_NAMES),
            "lastName": f"{self._rng.choice(LAST_NAMES)}{number}",
            "organization": self._organization(),
            "hearingAidRequested": self._rng.random() < 0.2,
        }

    def _organization(self) -> str:
        return f"org{self._rng.randrange(self._organization_count)}"

    def _new_ticket(self, user_id: str) -> tuple[str, str]:
        path = f"tickets/t{self._ticket_count}"
        self._ticket_count += 1
        ticket = {
            "user": f"users/{user_id}",
            "attendance": self._rng.random() < 0.5,
            "role": self._rng.choice(ROLES),
        }
        return path, self._put(self._tickets, path, ticket)

    def _toggle_ticket(self) -> Iterator[str]:
        path = self._tickets.draw(self._rng)
        ticket = self._tickets.documents[path]
        yield self._put(self._tickets, path, {**ticket, "attendance": not ticket["attendance"]})

    def _change_user(self) -> Iterator[str]:
        path = self._users.draw(self._rng)
        user = self._users.documents[path]
        if self._rng.random() < 0.5:
            changed = {"hearingAidRequested": not user["hearingAidRequested"]}
        else:
            changed = {"organization": self._organization()}
        yield self._put(self._users, path, {**user, **changed})

    def _change_status(self) -> Iterator[str]:
        path = self._meetings.draw(self._rng)
        meeting = self._meetings.documents[path]
        others = [status for status in STATUSES if status != meeting["status"]]
        yield self._put(self._meetings, path, {**meeting, "status": self._rng.choice(others)})

    def _change_members(self) -> Iterator[str]:
        path = self._meetings.draw(self._rng)
        meeting = self._meetings.documents[path]
        kind = self._rng.random()
        if kind < 0.48:
            yield from self._join(path, meeting)
        elif kind < 0.95 and meeting["tickets"]:
            # In a few the ticket goes first, so that for one line the meeting refers to a missing document.
            yield from self._leave(path, meeting, ticket_first=kind >= 0.85)
        else:
            yield self._delete(self._meetings, path)

    def _join(self, path: str, meeting: dict[str, Any]) -> Iterator[str]:
        user = self._users.draw(self._rng)
        while user in meeting["users"]:
            user = self._users.draw(self._rng)
        user_id = user.removeprefix("users/")
        ticket, line = self._new_ticket(user_id)
        yield line
        joined = {"users": [*meeting["users"], user], "tickets": {**meeting["tickets"], user_id: ticket}}
        yield self._put(self._meetings, path, {**meeting, **joined})

    def _leave(self, path: str, meeting: dict[str, Any], *, ticket_first: bool) -> Iterator[str]:
        tickets = dict(meeting["tickets"])
        user_id = self._rng.choice(list(tickets))
        ticket = tickets.pop(user_id)
        users = [user for user in meeting["users"] if user != f"users/{user_id}"]
        if ticket_first:
            yield self._delete(self._tickets, ticket)
        yield self._put(self._meetings, path, {**meeting, "users": users, "tickets": tickets})
        if not ticket_first:
            yield self._delete(self._tickets, ticket)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes the benchmark's document files.")
    parser.add_argument("folder", type=Path, help="where to; its folder snapshot/ must not be there yet")
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    workload = Workload(size.meetings, arguments.seed)
    workload.snapshot(arguments.folder / "snapshot")
    with (arguments.folder / "changes.jsonl").open("w") as file:
        file.writelines(islice(workload.changes(), size.changes))


if __name__ == "__main__":
    main()

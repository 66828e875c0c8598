"""The views of `examples/flights.py` by hand, with nothing but Python: the rows that the others are compared with.

python benchmarks/peers/plain_flights.py SNAPSHOT_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

Documents = dict[str, dict[str, Any]]


def _read(folder: Path) -> dict[str, Documents]:
    found = {}
    for path in folder.iterdir():
        with path.open() as file:
            found[path.stem] = {line["path"]: line["fields"] for line in map(json.loads, file)}
    return found


def _ref(value: dict[str, str] | None) -> str:
    return value["referenceValue"] if value else ""


def _mean(values: list[int]) -> float | None:
    return float(Fraction(sum(values), len(values))) if values else None


def _label(flight: dict[str, Any]) -> str:
    return f"{_ref(flight['carrier']).partition('/')[2]} {flight['number']}"


def _day(flight: dict[str, Any]) -> str:
    return str(flight["scheduledAt"]["timestampValue"][:10])


def rows(found: dict[str, Documents]) -> dict[str, dict[str, Any]]:
    """The fields of every row, by path."""
    by_day: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    by_plane: defaultdict[str, list[str]] = defaultdict(list)
    by_airline: defaultdict[str, list[str]] = defaultdict(list)
    flights, airports, airlines, planes = (found[name] for name in ("flights", "airports", "airlines", "planes"))
    for path, flight in flights.items():
        by_day[_ref(flight["origin"]), _day(flight)].append(path)
        by_plane[_ref(flight.get("plane"))].append(path)
        by_airline[_ref(flight["carrier"])].append(path)
    made: dict[str, dict[str, Any]] = {}
    for (origin, day), paths in by_day.items():
        some = [flights[path] for path in paths]
        late = [(-delay, path) for path in paths if (delay := flights[path]["departureDelay"]) is not None]
        ends = {_ref(flight["destination"]) for flight in some}
        made[f"airport_days/{quote(origin, safe='')},{day}"] = {
            "numFlights": len(some),
            "numCancelled": len(some) - len(late),
            "meanDelay": _mean([-delay for delay, _ in late]),
            "worst": [_label(flights[path]) for _, path in sorted(late)[:3]],
            "numAirlines": len({_ref(flight["carrier"]) for flight in some}),
            "destinations": sorted(airports[end]["name"] for end in ends if end in airports),
        }
    for path, plane in planes.items():
        own = by_plane.get(path, [])
        last = min(own, key=lambda one: (_descending(flights[one]["scheduledAt"]["timestampValue"]), one), default=None)
        flown_for = sorted({_ref(flights[one]["carrier"]) for one in own})
        made[f"plane_cards/{path.partition('/')[2]}"] = {
            "numFlights": len(own),
            "miles": sum(flights[one]["miles"] for one in own),
            "title": f"{plane['manufacturer']} {plane['model']}, {plane['seats']} seats",
            "airlines": [airlines[one]["name"] for one in flown_for if one in airlines],
            "lastFlight": None if last is None else f"{_label(flights[last])} on {_day(flights[last])}",
        }
    for path, airline in airlines.items():
        own = by_airline.get(path, [])
        flown = {plane for one in own if (plane := _ref(flights[one].get("plane"))) in planes}
        delays = [delay for one in own if (delay := flights[one]["arrivalDelay"]) is not None]
        made[f"airline_cards/{path.partition('/')[2]}"] = {
            "numFlights": len(own),
            "numPlanes": len(flown),
            "seats": sum(planes[plane]["seats"] for plane in flown),
            "meanArrivalDelay": _mean(delays),
            "name": airline["name"],
        }
    return made


def _descending(text: str) -> list[int]:
    return [-ord(letter) for letter in text]


def main() -> None:
    """The command line."""
    snapshot, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    with (output / "rows.jsonl").open("w") as file:
        for path, fields in rows(_read(snapshot)).items():
            file.write(json.dumps({"path": path, "fields": fields}) + "\n")


if __name__ == "__main__":
    main()

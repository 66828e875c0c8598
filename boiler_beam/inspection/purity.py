"""Whether rows are computed alike a second time: in another order of documents, and under another hash seed.

A getter that reads a clock or random numbers, or depends on the order of a set, returns other values on each worker and
in each backfill. Differences are reported by property.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from boiler_beam.engine.computed import ComputedView
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan, PlanName, ViewPlan, load_plan
from boiler_beam.plan.impure import Reachable, functions_of
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.values import Database

__all__ = ["Differing", "asks_seed", "differing", "sampled"]

SEEDS = ("1", "2", "3")
"""Hash seeds; several, because a set of two strings has the same order under half of them."""
_SECONDS, _NOT_IMPORTED = 120, 3
_HASHED = {"set", "frozenset", "hash", "id"}
Rows = dict[str, dict[str, Any]]
"""The fields of each row, by row path; the values as in JSON."""


class Differing(NamedTuple):
    """A property whose value differs.

    Attributes:
        where: `View.property`; `View.paths()` where there are other rows.
        rows: The number of rows of the sample in which it differs.
        example: The path of one of them.
        values: Its values, as JSON; None where there is none.
        is_by_seed: Whether another hash seed was needed.
    """

    where: str
    rows: int
    example: str
    values: tuple[str | None, str | None]
    is_by_seed: bool

    def __str__(self) -> str:
        one, other = ("none" if value is None else value[:80] for value in self.values)
        fix = "sort what comes out of a set" if self.is_by_seed else "compute it from documents alone"
        under = " under another hash seed" if self.is_by_seed else ""
        return (
            f"{self.where}: expected the same value whenever it is computed, got {one}, then {other}{under} "
            f"(in {self.rows:,} rows, e.g. {self.example}); fix: {fix}"
        )


def sampled(plan: Plan, versions: NewestVersions, most: int) -> list[Change]:
    """The documents that some rows of each view are made of."""
    found: dict[tuple[int, str], Change] = {}
    for planned in plan.planned_views:
        computed, left = ComputedView(planned, versions, lambda dead_letter: None), most
        for row_id in computed.row_ids():
            if not any(copy.fields is not None for copy in computed.copies(row_id)):
                continue
            documents = computed.documents(row_id)
            for edge in planned.view.edges:
                for path in documents(edge.name):
                    found[edge.type_index, path] = versions.types[edge.type_index].change_of(path)
            left -= 1
            if not left:
                break
    return list({(change.path, change.version): change for change in found.values()}.values())


def differing(
    plan: Plan, documents: Sequence[Change], *, seeds: Sequence[str] = SEEDS, first: Mapping[str, bytes] | None = None
) -> list[Differing]:
    """The properties whose values differ when the rows of some documents are computed again.

    Args:
        plan: The views.
        documents: The documents, each once.
        seeds: The hash seeds of other processes that compute them, too, where these can import the views.
        first: The rows by path, where they were computed already.
    """
    begin = _rendered(plan, documents) if first is None else _parsed(first)
    found = _compared(plan, begin, _rendered(plan, documents[::-1]), is_by_seed=False)
    known = {one.where for one in found}
    for seed in seeds:
        again = _rendered_under(plan, documents, seed)
        for one in _compared(plan, begin, again, is_by_seed=True) if again is not None else ():
            if one.where not in known:
                known.add(one.where)
                found.append(one)
    return found


def asks_seed(plan: Plan) -> bool:
    """Whether rows may depend on the hash seed: their code makes sets or asks for hashes."""
    for view in plan.views:
        reachable = Reachable(view, plan)
        for _, function in functions_of(view):
            for code, _ in reachable.codes(function):
                makes = any(isinstance(one, frozenset) for one in code.co_consts) or _makes_sets(code.co_code)
                if makes or not _HASHED.isdisjoint(code.co_names):
                    return True
    return False


def _makes_sets(code: bytes) -> bool:
    import dis

    made = {dis.opmap[name] for name in ("BUILD_SET", "SET_ADD", "SET_UPDATE") if name in dis.opmap}
    return not made.isdisjoint(code[::2])


def _rendered(plan: Plan, documents: Iterable[Change]) -> Rows:
    versions = NewestVersions(plan, lambda dead_letter: None)
    versions.add_all(documents)
    computed = [ComputedView(view, versions, lambda dead_letter: None) for view in plan.planned_views]
    rows = (row for view in computed for row in view.rows() if row.fields is not None)
    return _parsed({row.path: row.fields or b"{}" for row in rows})


def _parsed(rows: Mapping[str, bytes]) -> Rows:
    return {path: msgspec.json.decode(fields) for path, fields in rows.items()}


def _rendered_under(plan: Plan, documents: Sequence[Change], seed: str) -> Rows | None:
    """The rows as another process computes them; None where it can't import the views."""
    if any("<" in view.reference_name or view.model.__module__ == "__main__" for view in plan.views):
        return None
    request = msgspec.json.encode(
        (plan.name.views, plan.database, [(one.path, one.version, one.fields) for one in documents])
    )
    variables = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    done = subprocess.run(
        command, input=request, env=variables, capture_output=True, check=False, timeout=_SECONDS, cwd=os.getcwd()
    )
    if done.returncode == _NOT_IMPORTED:
        return None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BoilerBeamError(f"another process with PYTHONHASHSEED={seed}: expected rows, got {said}; fix: see there")
    found: Rows = msgspec.json.decode(done.stdout)
    return found


def main() -> None:
    """Another process: rows for the views and documents on stdin."""
    names, database, documents = msgspec.json.decode(
        sys.stdin.buffer.read(),
        type=tuple[tuple[str, ...], tuple[str | None, str], list[tuple[str, int, msgspec.Raw]]],
    )
    output, sys.stdout = sys.stdout.buffer, sys.stderr  # what views print is no row
    try:
        plan = load_plan(PlanName(names, Database(*database)))
    except (ImportError, UsageError):
        sys.exit(_NOT_IMPORTED)
    output.write(msgspec.json.encode(_rendered(plan, [Change(*one) for one in documents])))


def _compared(plan: Plan, first: Rows, second: Rows, *, is_by_seed: bool) -> list[Differing]:
    found: dict[str, list[tuple[str, str | None, str | None]]] = {}
    for path in sorted(first.keys() | second.keys()):
        view = next(view for view in plan.views if view.target.matches(path))
        if path not in first or path not in second:
            values = tuple(None if path not in rows else _json(rows[path]) for rows in (first, second))
            found.setdefault(f"{view.name}.paths()", []).append((path, *values))  # type: ignore[arg-type]
            continue
        for name in first[path].keys() | second[path].keys():
            one, other = _json(first[path].get(name)), _json(second[path].get(name))
            if one != other:
                found.setdefault(_property(view, name), []).append((path, one, other))
    return [
        Differing(where, len(some), some[0][0], (some[0][1], some[0][2]), is_by_seed)
        for where, some in sorted(found.items())
    ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _property(view: ViewPlan, stored: str) -> str:
    return f"{view.name}.{next((name for name, written in view.fields if written == stored), stored)}"

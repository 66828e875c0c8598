"""docs/dataflow.md: commands, options, roles and costs are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipelines.cli import _cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "dataflow.md").read_text()


def options(command: click.Command) -> set[str]:
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    own = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")}
    return own.union(*map(options, inner)) if inner else own


def test_the_options_of_its_commands_exist() -> None:
    """Those of `boiler-beam`, also where a line is continued, or only names an option of deploy."""
    lines = re.sub(r"\\\n\s*", "", PAGE)
    checked = 0
    for command, rest in re.findall(r"boiler-beam ([a-z-]+)((?: [^`\n]*)?)", lines):
        assert command in _cli.commands, command
        known = options(_cli.commands[command]) | (options(_cli.commands["run"]) if command == "schedule" else set())
        for name in re.findall(r"(?<![\w-])--[a-z][a-z_]+", rest):
            assert name in known, f"boiler-beam {command} {name}"
            checked += 1
    assert checked > 30


def test_parameters_that_it_names_exist() -> None:
    from pipelines.deploy.parameters import KINDS, metadata

    known = {one["name"] for kind in KINDS for one in metadata(kind, "x")["parameters"]}
    named = re.findall(r"--parameter ([a-z_]+)=", PAGE)
    assert len(named) > 4
    assert set(named) <= known


def test_it_names_every_role_and_every_alert() -> None:
    accounts = (ROOT / "dataflow" / "terraform" / "accounts.tf").read_text()
    section = PAGE.partition("## Roles")[2].partition("\n## ")[0]
    workers = {role for account, role in re.findall(r'account = "(\w+)".*?role = "roles/([\w.]+)"', accounts)}
    assert [role for role in workers if f"`{role}`" not in section] == []
    fixes = re.findall(r"docs/dataflow.md, Symptoms: ([^\"]+)", (ROOT / "dataflow/terraform/monitoring.tf").read_text())
    assert len(fixes) == 5
    assert [one for one in fixes if f"**{one}**" not in PAGE] == []


def test_every_file_that_it_names_is_there() -> None:
    for path in re.findall(r"`?((?:dataflow|benchmarks)/[\w./]+\w)", PAGE):
        assert (ROOT / path).exists(), path
    targets = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{name}:", targets, re.MULTILINE) for name in re.findall(r"`make ([a-z-]+)`", PAGE))


@pytest.mark.slow
def test_the_table_of_costs_is_what_the_simulation_prints(tmp_path: Path) -> None:
    folder = tmp_path / "meetings"
    subprocess.run(
        [sys.executable, "benchmarks/workload.py", folder, "--size", "small"], cwd=ROOT, check=True, capture_output=True
    )
    lines = (folder / "changes.jsonl").read_text().splitlines(keepends=True)[:4000]
    (folder / "some.jsonl").write_text("".join(lines))
    command = [sys.executable, "-m", "benchmarks.simulate_scale", "--views", "benchmarks.views", "--documents"]
    done = subprocess.run(
        [*command, folder / "snapshot", "--changes", folder / "some.jsonl"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    printed = {
        row[0]: row[1:]
        for row in (re.split(r"\s*\|\s*", line.strip()) for line in done.stdout.splitlines())
        if len(row) == 4
    }
    rows = re.findall(r"^\| ([\w/ ,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for name, *numbers in rows:
        assert printed[name.removesuffix(", USD")] == numbers, name
    assert "the busiest gets 22.6 times the mean" in done.stdout


def test_figures_of_two_changes_by_hand() -> None:
    """A user of two tickets changes: what each step gets, and the rows that follow."""
    import msgspec

    from benchmarks.simulate_scale import measure, monthly, skew
    from boiler_beam.events import Change
    from boiler_beam.plan import compile_plan
    from tests.pipelines.streaming_views import Card, Table

    def change(path: str, version: int, fields: object) -> Change:
        return Change(path, version, msgspec.Raw(json.dumps(fields).encode()))

    snapshot = [change("teams/t1", 1, {"name": "a"})]
    snapshot += [change(f"players/p{one}", 2, {"team": "teams/t1", "points": 1}) for one in range(5)]
    figures = measure(compile_plan([Card, Table]), snapshot, [change("teams/t1", 3, {"name": "b"})])
    assert figures.changes == 1
    assert figures.fan_out == [6], "five cards and the team's table"
    assert figures.messages["Card/Row"] == 5
    assert sum(figures.bytes.values()) > figures.change_bytes
    ratio, hottest = skew(figures, 1)
    assert ratio == 1.0
    assert hottest[0][2] >= 1
    costs = monthly(figures, 100)
    assert costs["Firestore writes"] == pytest.approx(100 * 730 * 3600 * figures.written * 0.09 / 1e5)
    assert monthly(figures, 200)["Pub/Sub"] == pytest.approx(2 * costs["Pub/Sub"])

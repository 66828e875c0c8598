"""Backfills on a schedule: what is printed runs, and never two at once."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from boiler_beam.connectors.locks import Lock
from boiler_beam.errors import UsageError
from pipelines.deploy.schedule import Schedule, cron_job, cron_line, cron_of, systemd_units
from tests.helpers import programs

ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, "-m", "pipelines.cli"]
RUN = ("run", "--views", "boiler_beam.samples.meeting", "--source", "sample:", "--sink", "jsonl:the rows 100%.jsonl")


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run([*CLI, *arguments], folder, {**os.environ, "PYTHONPATH": str(ROOT)})


def test_times() -> None:
    assert [cron_of(every, "x", "03:40") for every in ("15m", "1h", "6h", "1d")] == [
        "*/15 * * * *", "40 * * * *", "40 */6 * * *", "40 3 * * *",
    ]  # fmt: skip
    assert re.fullmatch(r"40 3 \* \* [0-6]", cron_of("1w", "x", "03:40"))
    assert cron_of("1d", "shop") == cron_of("1d", "shop") != cron_of("1d", "inbox")
    for every in ("2d", "7h", "1m", "daily", "0h", ""):
        with pytest.raises(UsageError, match=f"--every {every}: expected 5m to 30m or 1h to 12h"):
            cron_of(every, "x")
    with pytest.raises(UsageError, match="--at 3pm: expected HH:MM in UTC"):
        cron_of("1d", "x", "3pm")


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    schedule = Schedule("1w", "03:40", "shop", RUN, str(tmp_path / "lock"), program="/bin/true", folder=str(tmp_path))
    units = systemd_units(schedule)
    (command,) = re.findall("^ExecStart=(.*)$", units["shop.service"], re.MULTILINE)
    assert re.findall(r"(?<!%)%(?!%)", command) == [], "systemd reads a single % as a specifier"
    assert shlex.split(command.replace("%%", "%")) == list(schedule.words)
    assert re.search(r"^OnCalendar=\w{3} \*-\*-\* 03:40:00 UTC$", units["shop.timer"], re.MULTILINE)
    if shutil.which("systemd-analyze") is None:
        return  # the text above is what it would read
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_line_of_cron_runs(tmp_path: Path) -> None:
    """By a shell, as cron does: a % that is not escaped ends the command there."""
    line = cli(tmp_path, "schedule", "--every", "1d", "--at", "03:40", "--form", "cron", "--name", "shop", *RUN[1:])
    assert line.returncode == 0, line.stderr
    time, command = line.stdout.strip().split(" cd ", 1)
    assert time == "40 3 * * *"
    assert re.findall(r"(?<!\\)%", command) == []
    words = ("cd " + command).replace(r"\%", "%").replace(re.search(r"&& (\S+)", command)[1], shlex.join(CLI), 1)  # type: ignore[index]
    done = subprocess.run(
        ["sh", "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "the rows 100%.jsonl").exists()
    assert not (tmp_path / "shop.lock").exists()


def test_kubernetes_runs_one_at_a_time() -> None:
    import yaml

    schedule = Schedule("6h", "00:10", "shop", RUN, "/tmp/shop", image="host/shop:1")
    manifest = yaml.safe_load(cron_job(schedule))
    spec = manifest["spec"]
    assert (manifest["kind"], spec["schedule"], spec["concurrencyPolicy"]) == ("CronJob", "10 */6 * * *", "Forbid")
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == ("host/shop:1", list(schedule.words))
    with pytest.raises(UsageError, match="--image: expected the image"):
        cron_job(Schedule("6h", "", "shop", RUN, "/tmp/shop"))


def test_two_backfills_never_overlap(tmp_path: Path) -> None:
    with closing(Lock("lock", str(tmp_path / "lock"))):
        done = cli(tmp_path, "once", "lock", *RUN)
        assert (done.returncode, done.stdout) == (75, "")
        assert done.stderr == "lock: skipped, because another program still runs with this lock\n"
        assert not (tmp_path / "the rows 100%.jsonl").exists()
    done = cli(tmp_path, "once", "lock", *RUN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "the rows 100%.jsonl").exists()
    failed = cli(tmp_path, "once", "lock", "run", "--views", "nothing", "--source", "sample:")
    assert failed.returncode == 2
    assert not (tmp_path / "lock.lock").exists(), "it is released when the command fails, too"


def test_a_wrong_option_is_refused_before_the_first_night(tmp_path: Path) -> None:
    done = cli(tmp_path, "schedule", "--every", "1d", "--views", "v", "--prune", "some")
    assert done.returncode == 2
    assert "--prune" in done.stderr


def test_cron_line_says_the_folder() -> None:
    schedule = Schedule("1d", "03:40", "x", RUN, "/l", folder="/srv/my views")
    assert cron_line(schedule).startswith("40 3 * * * cd '/srv/my views' && boiler-beam once /l run")

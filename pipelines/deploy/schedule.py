r"""Backfills on a schedule: a systemd timer, a cron line or a Kubernetes CronJob that runs `boiler-beam once LOCK ...`.

>>> print(cron_line(Schedule("1d", "03:40", "backfill", ("run", "--views", "shop.views"), "/var/lib/shop/backfill")))
40 3 * * * boiler-beam once /var/lib/shop/backfill run --views shop.views
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass

from boiler_beam.errors import UsageError

__all__ = ["Schedule", "cron_job", "cron_line", "cron_of", "systemd_units"]

_EVERY = re.compile(r"(\d+)([mhdw])")
_AT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True)
class Schedule:
    """When a command runs.

    Attributes:
        every: `15m`, `6h`, `1d`, `1w`.
        at: `HH:MM` in UTC; empty: a time that follows from the name, so that not all jobs of an hour begin at once.
        name: The name of the units.
        command: The command of boiler-beam, `run --views ...`.
        lock: The path of the lock.
        program: How boiler-beam is called.
        image: The image of Kubernetes' job.
        folder: The working folder, in which views are found; empty: the program's own.
    """

    every: str
    at: str
    name: str
    command: tuple[str, ...]
    lock: str
    program: str = "boiler-beam"
    image: str = ""
    folder: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The command line."""
        return (self.program, "once", self.lock, *self.command)


def _time_of(every: str, name: str, at: str) -> tuple[int, str, int, int, int]:
    """Returns number, unit, minute, hour and day of the week of a schedule.

    Raises:
        UsageError: It is not one that all schedulers have.
    """
    found = _EVERY.fullmatch(every)
    number, unit = (int(found[1]), found[2]) if found else (0, "")
    wholes = {"m": 60, "h": 24, "d": 1, "w": 1}
    if not number or wholes[unit] % number or (unit == "m" and number < 5):
        raise UsageError(
            f"--every {every}: expected 5m to 30m or 1h to 12h, by which an hour or a day can be divided, 1d or 1w, "
            "got another time; fix: write 1d"
        )
    chance = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    minute, hour, day = chance % 60, chance // 60 % 24, chance // 1440 % 7
    if at:
        clock = _AT.fullmatch(at)
        if clock is None:
            raise UsageError(f"--at {at}: expected HH:MM in UTC, got another time; fix: write 03:00")
        hour, minute = int(clock[1]), int(clock[2])
    return number, unit, minute, hour, day


def cron_of(every: str, name: str, at: str = "") -> str:
    """Returns a schedule as cron, Kubernetes and Cloud Scheduler write it.

    >>> cron_of("6h", "shop", "00:10"), cron_of("15m", "shop"), cron_of("1d", "shop", "03:40")
    ('10 */6 * * *', '*/15 * * * *', '40 3 * * *')

    Raises:
        UsageError: It is not one that all schedulers have.
    """
    number, unit, minute, hour, day = _time_of(every, name, at)
    if unit == "m":
        return f"*/{number} * * * *"
    if unit == "h":
        return f"{minute} {'*' if number == 1 else f'*/{number}'} * * *"
    return f"{minute} {hour} * * {'*' if unit == 'd' else day}"


def cron_line(schedule: Schedule) -> str:
    """Returns the line for `crontab -e`; the machine's clock is taken to be in UTC."""
    command = shlex.join(schedule.words).replace("%", r"\%")  # cron takes a % for the end of the line
    if schedule.folder:
        command = f"cd {shlex.quote(schedule.folder)} && {command}"
    return f"{cron_of(schedule.every, schedule.name, schedule.at)} {command}"


def _calendar(schedule: Schedule) -> str:
    number, unit, minute, hour, day = _time_of(schedule.every, schedule.name, schedule.at)
    if unit == "m":
        return f"*-*-* *:00/{number}:00 UTC"
    if unit == "h":
        return f"*-*-* {'*' if number == 1 else f'00/{number}'}:{minute:02}:00 UTC"
    return f"{_DAYS[day] + ' ' if unit == 'w' else ''}*-*-* {hour:02}:{minute:02}:00 UTC"


def systemd_units(schedule: Schedule) -> dict[str, str]:
    """Returns the files for `/etc/systemd/system` (or `~/.config/systemd/user`), by their names."""
    command = " ".join(_quoted(word) for word in schedule.words)
    folder = f"WorkingDirectory={schedule.folder}\n" if schedule.folder else ""
    return {
        f"{schedule.name}.service": f"""\
[Unit]
Description=Backfill of views ({schedule.name})
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
{folder}ExecStart={command}
# 75: another backfill holds the lock; this one did nothing.
SuccessExitStatus=75
""",
        f"{schedule.name}.timer": f"""\
[Unit]
Description=Backfill of views every {schedule.every} ({schedule.name})

[Timer]
OnCalendar={_calendar(schedule)}
# What was missed while the machine was off runs once when it is on again.
Persistent=true
AccuracySec=1m

[Install]
WantedBy=timers.target
""",
    }


def _quoted(word: str) -> str:
    """Returns a word as systemd reads it: quotes and backslashes escaped, and its own signs $ and % doubled."""
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cron_job(schedule: Schedule) -> str:
    """Returns the manifest of a Kubernetes CronJob.

    Raises:
        UsageError: There is no image.
    """
    if not schedule.image:
        raise UsageError(
            "--image: expected the image in which boiler-beam and the views are, got none; fix: add --image"
        )
    command = "".join(f"\n                - {json.dumps(word)}" for word in schedule.words)
    folder = f"\n              workingDir: {json.dumps(schedule.folder)}" if schedule.folder else ""
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {schedule.name}
spec:
  schedule: {json.dumps(cron_of(schedule.every, schedule.name, schedule.at))}
  timeZone: Etc/UTC
  # One backfill at a time; the lock in the command holds it, too, for jobs that are started by hand on one volume.
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  jobTemplate:
    spec:
      backoffLimit: 1
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: backfill
              image: {json.dumps(schedule.image)}{folder}
              command:{command}
"""

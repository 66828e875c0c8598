"""`tests.helpers.programs`: a program that is forked does what one does that Python starts from nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import programs
from tests.helpers.programs import Program

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import os, sys
print(os.getcwd(), sys.argv[1:], os.environ["WORD"], __name__, sys.path[0] == os.getcwd(), "pytest" in sys.modules)
print("apache_beam" in sys.modules, "google.cloud.firestore" in sys.modules)
print("beside it", file=sys.stderr)
sys.stdout.flush()
"""
ENDS = {
    "its end": ("", 0),
    "a code": ("sys.exit(7)", 7),
    "no code": ("sys.exit()", 0),
    "a message": ("sys.exit('what went wrong')", 1),
    "an error": ("raise ValueError('what went wrong')", 1),
    "a signal": ("os.kill(os.getpid(), 15)", -15),
    "text that was not flushed": ("sys.stdout.write('x' * 100_000); sys.exit(3)", 3),
    "a thread": (
        "import threading as t; t.Thread(target=lambda: [t.main_thread().join(), print('late')]).start(); sys.exit(4)", 4,
    ),
    "what was registered": ("import atexit; atexit.register(print, 'bye'); sys.exit(5)", 5),
}  # fmt: skip


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_what_it_says_and_how_it_ends(end: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(f"{PROBE}{end}\n")
    command = [sys.executable, "-m", "probe", "a", "b c"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "WORD": "word"}
    plain = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    forked = programs.run(command, tmp_path, variables)
    assert (forked.returncode, forked.stdout) == (plain.returncode, plain.stdout)
    assert forked.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    assert forked.returncode == code
    assert forked.stdout.startswith(f"{tmp_path} ['a', 'b c'] word __main__ True False\nFalse False\n")


def test_it_is_killed_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("import signal\nprint('here', flush=True)\nsignal.pause()\n")
    program = Program([sys.executable, "-m", "probe"], tmp_path)
    assert program.stdout is not None
    assert program.stdout.readline() == "here\n"
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0)
    assert program.poll() is None
    program.send_signal(signal.SIGKILL)
    assert program.communicate() == ("", "")
    assert (program.poll(), program.wait()) == (-9, -9)


def test_it_is_unbuffered_where_the_environment_says_so(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("import signal\nprint('here')\nsignal.pause()\n")
    program = Program([sys.executable, "-m", "probe"], tmp_path, {**os.environ, "PYTHONUNBUFFERED": "1"})
    assert program.stdout is not None
    assert program.stdout.readline() == "here\n"
    program.kill()
    assert program.communicate() == ("", "")


def test_other_commands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected .* -m MODULE, got another command; fix: use subprocess"):
        programs.run(["sh", "-c", "true"], tmp_path)

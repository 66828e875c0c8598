"""Makes `.venv` in stages, without anything but Python: `python3 scripts/stage.py base|serve|beam|dev`.

Each finished stage leaves a file with a digest of its inputs: an interrupted stage is repeated, a finished one
is not. pip's output is written to `.venv/STAGE.log`; its last lines are shown if the stage fails.

`python3 scripts/stage.py quiet LOG COMMAND...` runs a command whose stderr goes to `.venv/LOG`, shown when it fails.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
OLDEST, NEWEST = (3, 10), (3, 13)
WANTED = {"base": "-e.", "serve": "-e.[serve]", "beam": "-e.[beam]", "dev": "-e.[all]"}
NOTES = {
    "base": "installing boiler_beam into .venv (a few seconds)",
    "serve": "installing what a server needs into .venv (some seconds, the first time)",
    "beam": "installing Apache Beam into .venv (a few minutes and 800 MB, the first time)",
    "dev": "installing the development tools into .venv (a minute or two, the first time)",
}
SHOWN_LINES = 15


def fail(message):
    """Prints one line, and exits with 2."""
    sys.stderr.write("error: " + message + "\n")
    sys.exit(2)


def tail(path):
    """Returns the last lines of a log."""
    with open(path, errors="replace") as log:
        return "".join(log.readlines()[-SHOWN_LINES:])


def digest(stage):
    """Returns a digest of the inputs of a stage."""
    found = hashlib.sha256((stage + sys.version + VENV).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def make_venv():
    """Creates the environment if it does not exist."""
    stamp = os.path.join(VENV, "venv.stamp")
    if os.path.exists(stamp):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    except OSError as error:
        fail("%s: expected a folder that can be written, got: %s; fix: free space or rights" % (VENV, error))
    if made.returncode:
        said = (made.stdout + made.stderr).strip().splitlines() or ["nothing"]
        if any("ensurepip" in line or "No module named venv" in line for line in said):
            fix = "install it (Debian: apt-get install python3-venv), or name another: make PYTHON=python3.12 meeting"
            fail("%s: expected Python's venv module with pip, got none; fix: %s" % (sys.executable, fix))
        fail("%s: expected to make %s, got: %s; fix: free space or rights" % (sys.executable, VENV, said[-1]))
    open(stamp, "w").close()


def install(stage):
    """Runs pip for a stage, unless the stage is finished."""
    stamp = os.path.join(VENV, stage + ".stamp")
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == digest(stage):
                return
        os.unlink(stamp)
    print(NOTES[stage] + " ...")
    sys.stdout.flush()
    path = os.path.join(VENV, stage + ".log")
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if stage in ("base", "serve"):
        command.append("--no-compile")  # a third of the time; Python compiles what is imported, once
    command += ["--constraint", os.path.join(ROOT, "constraints.txt"), WANTED[stage]]
    with open(path, "w") as log:
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        said = tail(path)
        sys.stderr.write(said)
        if "No space left" in said or "File too large" in said:
            fail("%s: expected room on the disk, got none; fix: free space and run make again" % VENV)
        if "Failed to establish a new connection" in said or "No matching distribution" in said or "Network" in said:
            fail("pip: expected to reach a package index, got no answer; fix: check the network, then run make again")
        fail("pip failed, see %s; fix: run make again, it resumes where it was" % os.path.relpath(path, ROOT))
    with open(stamp, "w") as file:
        file.write(digest(stage))


def quiet(log_name, command):
    """Runs a command; its stderr is shown only when it fails."""
    path = os.path.join(VENV, log_name)
    with open(path, "w") as log:
        done = subprocess.run(command, cwd=ROOT, stderr=log)
    if done.returncode:
        sys.stderr.write(tail(path))
    return done.returncode


def main():
    """The command line."""
    if sys.argv[1] == "quiet":
        sys.exit(quiet(sys.argv[2], sys.argv[3:]))
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = "%d.%d" % sys.version_info[:2]
        fail("%s: expected Python 3.10 to 3.13, got %s; fix: make PYTHON=python3.12 meeting" % (sys.executable, found))
    try:
        make_venv()
        for stage in sys.argv[1:]:
            install(stage)
    except OSError as error:
        fail("%s: expected to write there, got: %s; fix: free space or rights, then run make again" % (VENV, error))
    except KeyboardInterrupt:
        fail("interrupted; fix: run make again, it resumes where it was")


if __name__ == "__main__":
    main()

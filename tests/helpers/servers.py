"""Servers for tests: each is started once per run, by the first test that needs it, and stopped at the end of the run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "BOILER_BEAM_TEST_SERVERS"
"""The environment variable that names the folder in which the workers of one run find the servers."""
READY_SECONDS = 180
EMULATORS = {
    "firestore": ["gcloud", "emulators", "firestore", "start", "--quiet"],
    "pubsub": ["gcloud", "beta", "emulators", "pubsub", "start", "--quiet", "--project=boiler-beam-tests"],
}
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Of the emulators, which live for minutes: compiling their code well would cost more than it saves."""

NO_PRISM = (
    "no prism on the PATH or in BOILER_BEAM_PRISM: go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
)


def prism() -> str | None:
    """Prism's binary: named by BOILER_BEAM_PRISM, or on the path."""
    return os.environ.get("BOILER_BEAM_PRISM") or shutil.which("prism")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_until(
    is_so: Callable[[], bool], what: str | Callable[[], str], seconds: float = READY_SECONDS, pause: float = 0.02
) -> None:
    """Polls a condition; fails if it takes too long.

    Args:
        is_so: The condition.
        what: What is waited for; a function is called when it took too long, to say what is missing then.
        seconds: How long it may take.
        pause: The seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what() if callable(what) else what}: not within {seconds} s"
        time.sleep(pause)


def patience(what: str, seconds: float = READY_SECONDS) -> Iterator[None]:
    """A deadline for a loop that waits for something: fails if it takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        yield
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"


def answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def emulator(name: str) -> str:
    """Returns the address of a running emulator, `127.0.0.1:PORT`; skips the test without gcloud or Java."""
    if shutil.which("gcloud") is None or shutil.which("java") is None:
        pytest.skip(f"needs the {name} emulator: install the Google Cloud SDK (gcloud) and Java")
    port = free_port()
    return _once(name, f"127.0.0.1:{port}", [*EMULATORS[name], f"--host-port=127.0.0.1:{port}"], lambda: answers(port))


def program_server(name: str, modules: Sequence[str]) -> str:
    """The socket of a running `tests.helpers.program_server` that has imported some modules."""
    path = Path(os.environ[FOLDER], f"{name}.socket")
    command = [sys.executable, "-m", "tests.helpers.program_server", str(path), *modules]
    return _once(name, str(path), command, path.is_socket)


def _once(name: str, address: str, command: Sequence[str], is_ready: Callable[[], bool]) -> str:
    """The address of a server: the one given, if this starts it, else that of the one which another test started."""
    folder = Path(os.environ[FOLDER])
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known, said = folder / f"{name}.json", folder / f"{name}.log"
        if not known.exists():
            options = f"{JAVA_OPTIONS} {os.environ.get('JAVA_TOOL_OPTIONS', '')}"
            with said.open("wb") as log:
                started = subprocess.Popen(
                    command, cwd=ROOT, env={**os.environ, "JAVA_TOOL_OPTIONS": options.strip()},
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            known.write_text(json.dumps({"address": address, "group": started.pid}))
            wait_until(lambda: is_ready() or started.poll() is not None, f"{command} ({said})")
            assert started.poll() is None, said.read_text()[-2000:]
            started.returncode = 0  # the end of the run waits for it: this object need not complain
        found: str = json.loads(known.read_text())["address"]
    return found


def begin() -> None:
    """Prepares a run: its workers find the folder by the environment."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="boiler_beam_tests_")


def end() -> None:
    """Ends a run: stops every server that it started."""
    folder = Path(os.environ.pop(FOLDER))
    for known in folder.glob("*.json"):
        stop_group(json.loads(known.read_text())["group"])
    shutil.rmtree(folder)


def stop_group(group: int) -> None:
    """Stops the processes of a group, and waits until they have ended."""
    with contextlib.suppress(ProcessLookupError):  # it died, and tests have reported that
        os.killpg(group, signal.SIGTERM)
    wait_until(lambda: not _lives(group), f"the end of process group {group}", 20)


@contextlib.contextmanager
def begun() -> Iterator[None]:
    """The servers of a script: those of the run that started it, else its own, which end with it."""
    if FOLDER in os.environ:
        yield
        return
    begin()
    try:
        yield
    finally:
        end()


def _lives(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # another process of the run started it
        os.waitpid(group, os.WNOHANG)
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

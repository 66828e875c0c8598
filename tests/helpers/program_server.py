"""Starts programs without the second or more that Python takes to import what they need.

    python -m tests.helpers.program_server SOCKET MODULE...

imports the modules once, then forks a process for every request on the socket, which becomes `python -m NAME ARGUMENT...`
in a folder, with an environment, and with its own stdout and stderr. `tests.helpers.programs` asks.

A request is one line of JSON, `{"module", "arguments", "folder", "environment"}`, sent with the descriptors of stdout and
stderr. Answers are two lines: the process's id, and when it ended its exit code as `subprocess` tells it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from typing import Any

__all__ = ["main"]

_OWN_PATH = os.environ.get("PYTHONPATH", "")


def main() -> None:
    """Serves until it is ended by a signal. Returns in no process: in those that it forks, the program's end is its end."""
    address, *modules = sys.argv[1:]
    for name in modules:
        with contextlib.suppress(ImportError):  # an extra that is not installed: a program that needs it says so
            importlib.import_module(name)
    if "apache_beam" in sys.modules:
        importlib.import_module("tests.helpers.beam").quicken()
    gc.freeze()  # so that collections in the forked processes do not copy what they share
    _run_module(*_next_program(address))


def _run_module(module: str, arguments: list[str]) -> None:
    """As `python -m module` does."""
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # else it is executed beside the one that was imported, with a warning
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        _leave(ended.code)


def _leave(code: int) -> None:
    """Ends as Python does, but does not take all modules apart first: that would copy the memory which is shared."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _next_program(address: str) -> tuple[str, list[str]]:
    """Serves requests; returns in each forked process, with what it is to run."""
    woken, waker = os.pipe()
    for one in (woken, waker):
        os.set_blocking(one, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    waiting: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(f"{address}.new")
        listener.listen(64)
        os.rename(f"{address}.new", address)  # where it is found it answers
        selector.register(listener, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not listener:
                    os.read(woken, 4096)
                    _tell_ends(waiting)
                    continue
                connection, _ = listener.accept()
                request, streams = _received(connection)
                process = os.fork()
                if not process:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (woken, waker):
                        os.close(one)
                    for other in (connection, *waiting.values()):
                        other.close()
                    return _become(request, streams)
                for stream in streams:
                    os.close(stream)
                waiting[process] = connection
                connection.sendall(b"%d\n" % process)


def _received(connection: socket.socket) -> tuple[Any, list[int]]:
    """A request and the descriptors that came with it."""
    data, streams, _, _ = socket.recv_fds(connection, 1 << 16, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 16)
    return json.loads(data), streams


def _tell_ends(waiting: dict[int, socket.socket]) -> None:
    """Tells who asked of every process that ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            process, status = ended
            with waiting.pop(process) as connection, contextlib.suppress(OSError):  # the test ended before
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(request: Any, streams: list[int]) -> tuple[str, list[str]]:
    """Makes of this process one that `python -m` could have started."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))  # type: ignore[union-attr]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [one for one in sys.path[1:] if one not in _OWN_PATH.split(os.pathsep)]
    sys.path[:] = [os.getcwd(), *filter(None, given), *rest]
    importlib.invalidate_caches()
    return request["module"], request["arguments"]


if __name__ == "__main__":
    main()

"""Command lines, and the runs that they start.

| module | holds |
| --- | --- |
| `cli`, `main`, `meeting`, `demo` | the commands that a person types |
| `options`, `views`, `command` | options, view classes by name, exit codes |
| `run`, `stream`, `beam`, `streaming` | a backfill and a stream, in this process and on Beam |
| `show`, `finish`, `metrics` | what a run prints and serves |
| `check`, `doctor`, `init`, `relay` | the other commands |
"""

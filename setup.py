"""What Beam's `--setup_file` takes: it builds the source distribution that workers install.

Everything that a worker needs is declared in pyproject.toml, which setuptools reads: the base dependencies and the
packages `boiler_beam`, `transforms` and `pipelines`. Beam itself is there already, in the worker's image.
"""

from setuptools import setup

setup()

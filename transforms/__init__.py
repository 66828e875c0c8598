"""Transforms for Apache Beam: the names of `boiler_beam.beam`, where their code is.

Import from `boiler_beam.beam` if your program has another module that is named `transforms`.
"""

from boiler_beam.beam import *  # noqa: F403
from boiler_beam.beam import __all__ as __all__

"""The steps of a stream for many machines: stages, each with what it keeps at one key as bytes.

| module | |
| --- | --- |
| `posting` | which stage and key a message goes to |
| `stages` | the stages of a view in their order |
| `stage`, `edges`, `rows` | a stage: takes a message, keeps a head and logs |
| `logs`, `tiers` | collections that are added to without being read |
| `wire` | changes, messages and rows as bytes |
"""

from boiler_beam.steps.keyed.stage import Cell, Output, Stage
from boiler_beam.steps.keyed.stages import stages

__all__ = ["Cell", "Output", "Stage", "stages"]

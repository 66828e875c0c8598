"""The oracle: a naive computation of all rows, without state or indexes, that defines which rows are right (S4 to S6).

The tests compare every executor with it. It shares two things with them: the functions that read one document
(`steps.functions`) and the rendering of a row (`steps.row.render`). It has its own code for choosing the newest version
of a document and for comparing values.
"""

from boiler_beam.oracle.rows import Truth, compute

__all__ = ["Truth", "compute"]

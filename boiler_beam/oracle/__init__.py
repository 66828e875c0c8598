"""The oracle: the rows by definition, computed from scratch and without an index (S4 to S6). The only naive code.

Every executor is compared with it. It shares with them what a document says (`steps.functions`) and how a row's getters
are run (`steps.row.render`); which version stands and how values are compared it decides by itself.
"""

from boiler_beam.oracle.rows import Truth, compute

__all__ = ["Truth", "compute"]

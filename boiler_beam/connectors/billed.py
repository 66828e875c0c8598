"""Counts what Firestore bills, documents read, written and deleted, and estimates the price.

Source of the prices: https://cloud.google.com/firestore/pricing (Standard edition, beyond the free quota).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRICES", "PRICES_OF", "Billed"]

PRICES_OF = "2025-06"
"""The month of the price list."""

PRICES = {"one region": (0.03, 0.09, 0.01), "multi-region": (0.06, 0.18, 0.02)}
"""USD for 100,000 reads, writes and deletes: us-central1, and nam5. Other regions cost up to twice as much."""


@dataclass
class Billed:
    """Counters of billed operations.

    Attributes:
        reads: Documents that were read; a query without a result counts as one.
        writes: Documents that were written.
        deletes: Documents that were deleted.
    """

    reads: int = 0
    writes: int = 0
    deletes: int = 0

    def add(self, other: Billed) -> None:
        """Adds the counts of another object."""
        self.reads += other.reads
        self.writes += other.writes
        self.deletes += other.deletes

    def usd(self, prices: tuple[float, float, float]) -> float:
        """Returns the price in USD."""
        return (
            sum(one * price for one, price in zip((self.reads, self.writes, self.deletes), prices, strict=True)) / 1e5
        )

    def __str__(self) -> str:
        """Returns one line for people.

        >>> print(Billed(200_000, 100_000, 0))
        200,000 reads, 100,000 writes, 0 deletes: about 0.1500 USD (one region), 0.3000 USD (multi-region), 2025-06
        """
        costs = ", ".join(f"{self.usd(prices):.4f} USD ({where})" for where, prices in PRICES.items())
        return f"{self.reads:,} reads, {self.writes:,} writes, {self.deletes:,} deletes: about {costs}, {PRICES_OF}"

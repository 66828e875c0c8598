"""The pure functions that every executor shares: no Beam, no I/O, no clock."""

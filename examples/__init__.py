"""Applications declared with boiler_beam: each has its documents beside it, a test and a page in the documentation."""

"""Applications declared with boiler_beam. Each has sample documents, a test and a page in the documentation."""

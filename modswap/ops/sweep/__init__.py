"""The trials of a sweep: one site, one new module, its cost and what can be recovered of it."""

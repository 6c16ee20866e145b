"""The commands' jobs: replace, check, repair, lock, tree, starter recipe."""

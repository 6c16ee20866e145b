"""Inputs made at random: changed sound files, and those that a coverage-guided fuzzer finds."""

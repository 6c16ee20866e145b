"""Refused calls of the command, of many kinds."""

from itertools import chain

from tests.fixes import of_fit, of_options, of_words

CASES = tuple(
    chain(
        of_words.patterns(),
        of_words.names(),
        of_words.arguments(),
        of_fit.shapes(),
        of_fit.inputs(),
        of_fit.heads(),
        of_fit.insertions(),
        of_fit.examined(),
        of_options.options(),
        of_options.files(),
    )
)

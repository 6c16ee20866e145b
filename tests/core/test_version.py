"""The version of the package, which the build reads from its file."""

import re
import runpy

import modswap
from modswap.core import version


def test_version_is_three_numbers_in_a_file_that_needs_nothing_else() -> None:
    assert version.__file__ is not None
    read = runpy.run_path(version.__file__)["__version__"]

    assert read == modswap.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", read)

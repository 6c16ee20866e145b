"""The instructions for a new module."""

from dataclasses import replace

import pytest

from modswap.core.decided.blueprint import Adaptation, Blueprint

PLAIN = Blueprint("ECA", {"channels": 8}, layout="NCHW", wants="NCHW")


@pytest.mark.parametrize(
    ("blueprint", "fits"),
    [
        (PLAIN, True),
        (replace(PLAIN, layout=None), True),
        (replace(PLAIN, wants=None), True),
        (replace(PLAIN, wants="NHWC"), False),
        (replace(PLAIN, ignores=("mask",)), False),
        (replace(PLAIN, keyword="x"), False),
        (replace(PLAIN, repeats=("1",)), False),
        (replace(PLAIN, adaptation=Adaptation(8, 16)), False),
    ],
)
def test_module_fits_its_site_only_without_an_adapter(blueprint: Blueprint, *, fits: bool) -> None:
    assert blueprint.fits is fits

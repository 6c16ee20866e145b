"""Names of dtypes, as torch calls them."""

import pytest
import torch

from modswap.io.recognise.dtypes import dtype_of


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("Float", "float32"), ("BF16", "bfloat16"), ("F8_E4M3", "float8_e4m3fn"), ("int64", "int64")],
)
def test_dtype_has_the_name_of_torch(name: str, dtype: str) -> None:
    assert dtype_of(name) == dtype
    assert isinstance(getattr(torch, dtype), torch.dtype)


def test_unknown_dtype_keeps_its_name() -> None:
    assert dtype_of("F4") == "F4"

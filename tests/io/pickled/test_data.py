"""Numbers and names in pickles that are read as data.

Covers: names.
"""

import struct

import pytest
from torch import _utils

from modswap.io.pickled.data import Name, UnreadableError, read_pickle

RENAMED = [
    *_utils.NAME_MAPPING,
    *((module, "thing") for module in _utils.IMPORT_MAPPING),
    ("torch.nn", "Linear"),
]


@pytest.mark.parametrize(("module", "attribute"), RENAMED)
def test_name_is_the_one_that_torch_takes_it_for(module: str, attribute: str) -> None:
    old = (_utils.IMPORT_MAPPING.get(module, module), attribute)
    expected = _utils.NAME_MAPPING.get((module, attribute), old)

    assert str(Name(module, attribute)) == ".".join(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x8b" + struct.pack("<i", 2077) + b"\1" * 2077 + b".",
        b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu\x8a\x09" + b"\1" * 9 + b"tQ.",
    ],
    ids=["whole number", "elements of a storage"],
)
def test_number_of_thousands_of_digits_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"whole number of 2,077 bytes|no storage"):
        read_pickle(data)


def test_whole_number_of_four_bytes_of_size_is_read() -> None:
    assert read_pickle(b"\x80\x02\x8b\x02\0\0\0\0\1.")[0] == 256

"""Files of torch.save with modswap's own records beside the pickle."""

from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.io.formats.reading import read
from modswap.io.formats.writing import write
from modswap.io.rewriting import Records

PLAIN = Policy()
RECIPE = "replace: [a recipe of an earlier swap]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of a module that holds the records of a swap."""
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    container = read(tmp_path / "net.pt", PLAIN)
    values = [slot.value for slot in container.slots]
    records = Records(RECIPE, "{}")
    write(container, values, tmp_path / "out.pt", records=records, force=False)
    return tmp_path / "out.pt"


def test_records_beside_a_module_are_read(file: Path) -> None:
    found = read(file, PLAIN)

    assert (found.recipe, found.receipt) == (RECIPE, "{}")


def test_record_with_a_flipped_bit_is_an_error(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data.replace(RECIPE.encode(), RECIPE.replace("earlier", "earlies").encode()))

    with pytest.raises(CheckpointError, match=r"it is damaged: .*recipe\.yaml") as caught:
        read(file, PLAIN)

    assert caught.value.where == str(file)
    assert caught.value.fix == "save or download it again"

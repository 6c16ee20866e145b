"""The table of checkpoint formats, in the order in which a file is recognised.

To add a format, write its folder or file with a row, and put the row here. The first row is the
format of a model in memory that is written to a file without an ending.
"""

from modswap.io.formats.distributed import DISTRIBUTED
from modswap.io.formats.exported import EXPORTED
from modswap.io.formats.folder import FOLDER
from modswap.io.formats.format import Format
from modswap.io.formats.safetensors import SAFETENSORS
from modswap.io.formats.torch import TORCH, TORCH_LEGACY

FORMATS: tuple[Format, ...] = (
    TORCH, TORCH_LEGACY, SAFETENSORS, EXPORTED, DISTRIBUTED, FOLDER,
)  # fmt: skip

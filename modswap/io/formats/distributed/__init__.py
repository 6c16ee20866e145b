"""Folders of `torch.distributed.checkpoint`."""

from modswap.io.formats.distributed.metadata import is_distributed
from modswap.io.formats.distributed.outline import distributed_outline, distributed_survey
from modswap.io.formats.format import Format, Lazy

DISTRIBUTED = Format(
    name="distributed",
    recognise=is_distributed,
    load=Lazy(f"{__name__}.load:load"),
    outline=distributed_outline,
    survey=distributed_survey,
    contents=Lazy(f"{__name__}.contents:distributed_contents"),
    rewrite=Lazy(f"{__name__}.load:rewrite"),
    folder=True,
    always_summed=True,
    known=Lazy(f"{__name__}.checksums:distributed_checksums"),
    left_out="only the models' weights are written, not the folder's other contents",
)

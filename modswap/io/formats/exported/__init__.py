"""Archives of `torch.export`."""

from modswap.io.formats.format import Format, Lazy
from modswap.io.formats.torch import TORCH
from modswap.io.recognise.look import is_exported

EXPORTED = Format(
    name="torch.export",
    recognise=is_exported,
    load=Lazy(f"{__name__}.load:load"),
    save=Lazy(f"{__name__}.load:save"),
    contents=Lazy(f"{__name__}.contents:exported_contents"),
    endings=(".pt2",),
    writes_as=TORCH.name,
    traced=True,
    always_summed=True,
    known=Lazy("modswap.io.raw.checksums:zip_checksums"),
)

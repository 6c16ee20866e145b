"""Files of `torch.save`: zips, and those from before torch 1.6."""

from modswap.io.formats.format import Format, Lazy
from modswap.io.formats.torch.outline import torch_survey
from modswap.io.pickled.outline import torch_outline
from modswap.io.recognise.look import is_torch_legacy, is_torch_zip

TORCH = Format(
    name="torch",
    recognise=is_torch_zip,
    load=Lazy(f"{__name__}.load:load"),
    save=Lazy(f"{__name__}.save:save"),
    outline=torch_outline,
    survey=torch_survey,
    contents=Lazy(f"{__name__}.contents:torch_contents"),
    rewrite=Lazy(f"{__name__}.save:rewrite"),
    endings=(".pt", ".pth", ".ckpt", ".bin", ".tar"),
    checksums=True,
    known=Lazy(f"{__name__}.checksums:torch_checksums"),
)
TORCH_LEGACY = Format(
    name="torch (legacy)",
    recognise=is_torch_legacy,
    load=TORCH.load,
    save=TORCH.save,
    outline=torch_outline,
    survey=torch_survey,
    contents=Lazy(f"{__name__}.contents:torch_contents"),
    rewrite=TORCH.rewrite,
    writes_as=TORCH.name,
)

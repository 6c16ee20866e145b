"""Files of the safetensors format: named tensors and a dictionary of strings."""

from modswap.io.formats.format import Format, Lazy
from modswap.io.formats.safetensors.outline import safetensors_outline, safetensors_survey
from modswap.io.recognise.look import is_safetensors

SAFETENSORS = Format(
    name="safetensors",
    recognise=is_safetensors,
    load=Lazy(f"{__name__}.load:load"),
    save=Lazy(f"{__name__}.save:save"),
    outline=safetensors_outline,
    survey=safetensors_survey,
    contents=Lazy(f"{__name__}.contents:safetensors_contents"),
    rewrite=Lazy(f"{__name__}.save:rewrite"),
    endings=(".safetensors",),
    weights_only=True,
    known=Lazy(f"{__name__}.digests:file_checksums"),
)

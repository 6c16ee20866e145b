"""safetensors: named tensors and a dictionary of strings, nothing that could run."""

from safetensors import SafetensorError, safe_open

from modswap.core.asked.job import Policy
from modswap.io.formats.container import Container, find_slots
from modswap.io.formats.safetensors.header import RECEIPT, RECIPE, read_header
from modswap.io.recognise.look import Look, header_of_safetensors


def load(look: Look, policy: Policy) -> Container:
    """Read a safetensors file, its tensors mapped and not copied; ties come back as ties."""
    del policy  # nothing in such a file can run
    header_of_safetensors(look)
    try:
        with safe_open(look.file, framework="pt", device="cpu") as opened:
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dictionary
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        what = f"it is damaged or cut short: {' '.join(str(error).split())[:160]}"
        raise look.error(what, "save or download it again") from None
    if not weights:
        raise look.error("it holds no tensors", "save or download it again")
    header = read_header(look)
    weights |= {alias: weights[name] for alias, name in header.ties.items()}
    own = {name: text for name, text in header.metadata.items() if name not in header.ties}
    recipe, receipt = own.pop(RECIPE, None), own.pop(RECEIPT, None)
    slots = find_slots(weights, look.file)
    return Container("safetensors", look.file, weights, slots, own, recipe, receipt)

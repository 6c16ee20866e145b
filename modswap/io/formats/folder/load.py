"""Read folders of weights, sharded or not, as `save_pretrained` writes them."""

from typing import Any

import torch

from modswap.core.asked.job import Policy
from modswap.io.formats.container import Container, find_slots
from modswap.io.formats.folder.checksums import shard_checksums
from modswap.io.formats.folder.rewrite import FolderRewriting
from modswap.io.formats.folder.shards import Shards, read_shards, records_in
from modswap.io.formats.format import Swap, Swaps
from modswap.io.formats.safetensors.load import load as load_safetensors
from modswap.io.formats.safetensors.save import rewrite_known
from modswap.io.formats.torch.load import load as load_torch
from modswap.io.formats.torch.save import rewrite as rewrite_torch
from modswap.io.pickled.optimizers import Parameters
from modswap.io.recognise.look import Look, is_safetensors, look_at
from modswap.io.rewriting import Rewriting


def load(look: Look, policy: Policy) -> Container:
    """Read a folder's weights, mapped and not copied.

    Raises:
        CheckpointError: If a shard is damaged, or index and shards disagree.
        UnsafeError: If a shard would have to build a class that is not allowed.
    """
    shards = read_shards(look)
    weights: dict[str, torch.Tensor] = {}
    for name, shard in shards.looks.items():
        held = (load_safetensors if is_safetensors(shard) else load_torch)(shard, policy).payload
        _check(name, held, weights, look)
        missing = [n for n, place in shards.places.items() if place == name and n not in held]
        if missing:
            what = f"{missing[0]!r} is not in {name!r}, where its index has it"
            raise look.error(what, "save or download it again")
        weights.update(held)
    own = records_in(look.file)
    slots = find_slots(weights, look.file)
    return Container("folder", look.file, weights, slots, {}, own.get("recipe"), own.get("receipt"))


def _check(name: str, held: Any, known: Any, look: Look) -> None:
    if not isinstance(held, dict) or not all(torch.is_tensor(value) for value in held.values()):
        raise look.error(f"its file {name!r} holds more than named tensors", "name that file")
    double = next((tensor for tensor in held if tensor in known), None)
    if double is not None:
        raise look.error(f"two of its files hold {double!r}", "save or download it again")


def rewrite(container: Container, swaps: Swaps, policy: Policy) -> Rewriting:
    """Prepare the same folder with other tensors in it."""
    shards = read_shards(look_at(container.file))
    (swap,) = swaps.slots
    homes = _homes(shards, swap)
    files: dict[str, Rewriting] = {}
    known = dict(shard_checksums(shards))
    for name, shard in shards.looks.items():
        inside = tuple(m for m, home in zip(swap.modules, homes, strict=True) if home == name)
        # the old tensors of a module may be in several files; the new ones are in the first
        part = Swap(swap.slot, inside, swap.removal, swap.names)
        one = Container("", shard.file, None, (swap.slot,))
        new = Swaps((part,), Parameters((), (), ()))
        files[name] = (
            rewrite_known(one, new, policy, shard, known[name])
            if is_safetensors(shard)
            else rewrite_torch(one, new, policy)
        )
    return FolderRewriting(shards, files, swaps.changes)


def _homes(shards: Shards, swap: Swap) -> list[str]:
    """Return the file for each new module: the file of the first tensor it replaces."""
    last = list(shards.looks)[-1]
    homes = []
    for paths, module in swap.modules:
        own = Swap(swap.slot, ((paths, module),), names=swap.names)
        gone = own.removal
        found = [name for name in shards.places if name in gone]
        if swap.names is not None:  # those of all modules: the nearest to the new ones comes first
            new = list(own.weights)
            found.sort(key=lambda name: -max((_shared(name, n) for n in new), default=0))
        homes.append(shards.places[found[0]] if found else last)
    return homes


def _shared(a: str, b: str) -> int:
    """Return the length of the beginning that two names share."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (x, y) in pairs if x != y), min(len(a), len(b)))

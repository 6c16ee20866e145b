"""Read the weights of a module in another checkpoint, a donor."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.rules.starts import Donor
from modswap.core.errors import RecipeError
from modswap.core.words.nearest import did_you_mean
from modswap.io.formats.reading import read
from modswap.io.raw.held import holding
from modswap.live_values import module_paths
from modswap.ops.load.checksums import intact


@contextmanager
def donated(
    donor: Donor, folder: str, policy: Policy, where: str, *, values: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """Give the weights of a donor by their names in its module, within a block.

    The file is read as any input is: nothing in it is executed, and `policy` names the classes that
    it may build. Without `values` the tensors may have no data.

    Raises:
        CheckpointError: If the file cannot be read, or changes within the block.
        UnsafeError: If it would have to build a class that is not allowed.
        RecipeError: If it has no module of that path.
    """
    file = Path(folder, donor.file)
    with holding(file) as held:
        container = read(file, replace(policy, most=None if values else 0))
        if values:
            intact(Subject(file, policy))
        value = container.slots[0].value
        state, paths = (_of_model if isinstance(value, nn.Module) else _of_weights)(value)
        start = f"{donor.path}." if donor.path else ""
        found = {n.removeprefix(start): t for n, t in state.items() if n.startswith(start)}
        if not found:
            known = donor.path in paths
            what = (
                f"{donor.path!r} in it has no weights"
                if known
                else f"no module {donor.path!r} in it"
            )
            near = did_you_mean(donor.path, sorted(paths)) or "run `modswap tree` on it"
            raise RecipeError(f"{donor.file}: {what}", where, near)
        yield found
        held.refuse_change()


def _of_model(model: nn.Module) -> tuple[dict[str, torch.Tensor], set[str]]:
    state = {n: t for n, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    return state, {place.path for place in module_paths(model)}


def _of_weights(weights: Mapping[str, object]) -> tuple[dict[str, torch.Tensor], set[str]]:
    state = {n: t for n, t in weights.items() if isinstance(t, torch.Tensor)}
    paths = {name.rpartition(".")[0] for name in state}
    parents = {path.rsplit(".", count)[0] for path in paths for count in range(path.count(".") + 1)}
    return state, paths | parents

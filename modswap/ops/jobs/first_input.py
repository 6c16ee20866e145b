"""Find a dummy input that a model takes, from its first layers."""

import inspect
from collections.abc import Iterator

from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import UsageError
from modswap.ops.run.inputs import Case, DummyCall, example_calls
from modswap.ops.trace.passes import Trace, trace

# tried in this order where no input is given
IMAGE_SIZES = (224, 256, 128, 64, 32, 512, 384, 448, 640)
MAX_INPUTS = 4  # of one call


def first_pass(model: nn.Module, subject: Subject) -> tuple[Trace, DummyCall]:
    """Return the first pass that runs, and its input: the subject's, the model's own, or a guess.

    Raises:
        UsageError: If none runs.
    """
    own = [call.described() for call in example_calls(model)]
    calls = [DummyCall(subject.inputs, {})] if subject.inputs else [*own, *_guesses(model)]
    failed: Trace | None = None
    for call in calls:
        traced = trace(model, Case(call), unreal=True)
        if traced.cause is not None:
            traced = trace(model, Case(call))
        if traced.cause is None:
            return traced, call
        failed = failed or traced
    tried = ", ".join(map(str, calls)) or "none, since no layer shows the shape of an input"
    why = f"; the first was refused: {failed.seen.error}" if failed else ""
    what = f"no dummy input fits; tried: {tried}{why}"
    fix = "give one: `--input 1,3,224,224`, once for each tensor of the call"
    raise UsageError(what, str(subject.file), fix)


def _guesses(model: nn.Module) -> Iterator[DummyCall]:
    """Yield calls with as many tensors as the model needs, of shapes that its layers accept."""
    count = _needed(model)
    of_children = [found for child in model.children() if (found := _accepted(child))]
    choices = [[_accepted(model)] * count]
    if count > 1:
        choices.append((of_children * count)[:count])
    for choice in choices:
        yield from (DummyCall(tensors, {}) for tensors in zip(*choice, strict=False))


def _needed(model: nn.Module) -> int:
    """Return the number of inputs without a default of a model's forward, at least one."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    needed = [one for one in parameters if one.kind in kinds and one.default is one.empty]
    return max(1, min(len(needed), MAX_INPUTS))


def _accepted(model: nn.Module) -> list[TensorInput]:
    """Return tensors that the first layer of a module accepts."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            channels = module.in_channels
            return [TensorInput(shape=(1, channels, size, size)) for size in IMAGE_SIZES]
        if isinstance(module, nn.Embedding):
            return [TensorInput(shape=(1, 16), dtype="int64")]
        if isinstance(module, nn.Linear):
            features = module.in_features
            return [TensorInput(shape=(1, 16, features)), TensorInput(shape=(1, features))]
    return []

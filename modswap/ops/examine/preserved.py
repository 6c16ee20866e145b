"""Compare a model whose new modules are behind gates of 0 with the original, bit for bit."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from modswap.core.decided.cost import count_text
from modswap.core.finding import Finding
from modswap.live_values import live_tensors
from modswap.nn.inserted_site import inserted_names, take_out
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.build.fit import Built
from modswap.ops.examine.alone import bounds
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import one_line
from modswap.ops.run.devices import autocast_type, device_of
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import one_thread, set_mode
from modswap.ops.run.model_copy import copied_model, in_float32, too_large
from modswap.ops.run.random_weights import UnfitError
from modswap.ops.write.prove import same_bits
from modswap.seeds import seeded

MAX_MACS = 20_000_000_000  # of a run of the model, without --thorough
NO_GRADIENT = (
    "the first backward pass gives it a gradient of 0, since what follows multiplies by 0, as a "
    "batch norm of weight 0 does: it opens once that has moved"
)
_VARIES = "the original differs from itself from run to run"
_FIX = "report this with the model: a gate of 0 should change no bit"


def preserved(bench: Bench) -> Iterator[Finding]:
    """Compare outputs and gradients of kept parameters, with all gates at 0, with the original's.

    They are equal in every bit, in evaluation, in training and under autocast, on copies of the
    model: with its own weights, or with random ones where they are not to be read. The first
    backward pass gives each gate a gradient that is not 0, or the finding says so.
    """
    gated = [built for built in bench.prepared.built if _gate(built) is not None]
    if not gated:
        return
    try:
        why = too_large(bench.model) or _too_long(bench)
        runs = None if why else _Runs(bench, gated)
    except UnfitError as error:
        why, runs = str(error), None
    if runs is not None:
        yield from runs.compared()
        return
    what = f"whether outputs stay the same in every bit was not tried: {why}"
    yield Finding("preserved", "", "skipped", what)


def _gate(built: Built) -> nn.Parameter | None:
    return built.module.gate if isinstance(built.module, Insertion) else None


def _too_long(bench: Bench) -> str:
    macs = bounds.model_macs(bench)
    if macs <= MAX_MACS or bench.thorough:
        return ""
    return f"a run takes {count_text(round(macs))} multiplications, `--thorough` takes that time"


@dataclass(frozen=True, slots=True)
class _Result:
    """Outputs of a run, and the gradients of parameters by name."""

    outputs: Sequence[torch.Tensor]
    gradients: Mapping[str, torch.Tensor | None]


class _Runs:
    """A copy of the swapped model, and one without the new modules, on the same inputs."""

    def __init__(self, bench: Bench, gated: Sequence[Built]) -> None:
        self.bench = bench
        self.gated = gated
        prepared = bench.prepared
        case = prepared.cases[0]
        model = copied_model(bench.model, unreal=prepared.unreal, seed=prepared.seed)
        for module in model.modules():
            if isinstance(module, Insertion) and module.gate is not None:
                module.gate.data.zero_()  # also of a copy with random weights
        self.swapped, self.dtype = in_float32(model, case)
        self.original = copy.deepcopy(self.swapped)
        for path in (path for built in gated for path in built.paths):
            around, _, name = path.rpartition(".")
            site = module_at(self.original, around)
            if name in inserted_names(site):
                take_out(site, name)

    def compared(self) -> Iterator[Finding]:
        """Yield a finding for the model, and one for each gate that gets no gradient."""
        case = self.bench.prepared.cases[0]
        tried, varying = [], []
        for words, training, autocast in (
            ("evaluation", False, False),
            ("autocast", False, True),
            ("training", True, False),
        ):
            run = partial(self._run, case=case, training=training, autocast=autocast)
            before, after = run(self.original), run(self.swapped)
            if isinstance(before, Exception):
                continue  # the original does not run so
            if isinstance(after, Exception):
                yield self._failed(f"in {words} it raises {one_line(after)}")
                return
            wrong = _difference(before, after) and self._again(run)
            if wrong == _VARIES:
                varying.append(words)
                continue
            if wrong:
                yield self._failed(f"in {words} {wrong}")
                return
            tried.append(words)
            if training:
                yield from self._without_gradient(after.gradients)
        what = f"equal in every bit in {', '.join(tried)}" if tried else "the original does not run"
        if varying:
            what = f"equal in every bit in {', '.join(tried)}; " if tried else ""
            what += f"not compared in {', '.join(varying)}, where {_VARIES}"
        yield Finding("preserved", "", "passed" if tried else "skipped", what)

    def _again(self, run: Callable[[nn.Module], _Result | Exception]) -> str:
        """Return in words what differs on one thread; `_VARIES` if the original does by itself.

        With several threads, sums of some of the host's operators vary from run to run.
        """
        with one_thread():
            models = (self.original, self.swapped, self.original)
            copies = map(copy.deepcopy, models)  # so that all begin with the same state
            ran = [one for one in map(run, copies) if isinstance(one, _Result)]
        if len(ran) < len(models):
            return _VARIES  # it ran before
        before, after, again = ran
        wrong = _difference(before, after)
        return _VARIES if wrong and _difference(before, again) else wrong

    def _failed(self, why: str) -> Finding:
        return Finding("preserved", "", "failed", f"with all gates at 0 {why}", _FIX)

    def _without_gradient(self, gradients: Mapping[str, torch.Tensor | None]) -> Iterator[Finding]:
        for built in self.gated:
            path = built.paths[0]
            found = gradients.get(f"{path}.gate")
            if found is None or not bool((found != 0).any()):
                yield Finding("preserved", path, "passed", NO_GRADIENT)

    def _run(
        self, model: nn.Module, case: Case, *, training: bool, autocast: bool
    ) -> _Result | Exception:
        """Return the outputs of a run, and in training the gradients of a sum of them."""
        seed = self.bench.prepared.seed
        device = device_of(model)
        set_mode(model, training=training)
        model.zero_grad(set_to_none=True)
        kind = autocast_type(device)
        with seeded(seed), torch.set_grad_enabled(training):
            try:
                args, kwargs = case.call.live(seed, self.dtype, device)
                with torch.autocast(kind, torch.bfloat16, enabled=autocast):
                    outputs = live_tensors(model(*args, **kwargs))
                if training:
                    _backward(outputs)
            except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
                return error
        named = model.named_parameters() if training else ()
        return _Result([t.detach() for t in outputs], {name: p.grad for name, p in named})


def _backward(outputs: Sequence[torch.Tensor]) -> None:
    """Go backward from a sum of all outputs, each number with a weight of its own."""
    parts = [
        (output * torch.randn_like(output)).sum()
        for output in outputs
        if output.requires_grad and output.is_floating_point()
    ]
    if parts:
        torch.stack([part.float() for part in parts]).sum().backward()


def _difference(before: _Result, after: _Result) -> str:
    """Return in words the first difference of two runs; empty for none."""
    if not _equal(before.outputs, after.outputs):
        return "its outputs are others"
    wrong = _changed_gradient(before.gradients, after.gradients)
    return f"the gradient of {wrong} is another" if wrong else ""


def _equal(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    return len(before) == len(after) and all(map(same_bits, before, after))


def _changed_gradient(
    before: Mapping[str, torch.Tensor | None], after: Mapping[str, torch.Tensor | None]
) -> str:
    """Return the first parameter of the original whose gradient is another; empty for none."""
    for name, was in before.items():
        now = after.get(name)
        if (was is None) != (now is None) or (
            was is not None and now is not None and not torch.equal(was, now) and _finite(was)
        ):
            return name
    return ""


def _finite(gradient: torch.Tensor) -> bool:
    return bool(torch.isfinite(gradient).all())

"""Cost of a model or a site: sizes as people write them, before against after, limits."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from modswap.core.asked.recipe import MEMORY, Limits
from modswap.core.finding import Finding

_STEPS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, slots=True)
class PassCost:
    """The cost of a pass over an input; memory in bytes."""

    params: int  # parameter elements, shared ones once
    # floating-point operations of an inference pass, two for each multiplication with its addition,
    # as torch's FlopCounterMode counts them
    flops: int
    activation_bytes: int  # tensors that autograd keeps for the backward pass, parameters left out
    # peak of a pass without gradients: weights, input, output and all tensors between them
    peak_inference: int
    # peak of a forward and a backward pass, with gradients and without an optimizer's state
    peak_training: int


def parse_size(text: str | int) -> int:
    """Return the number of bytes of a size such as `8GiB` or `500 MB`.

    Its unit is B, KB, MB, GB, TB (powers of 1000) or KiB … TiB (of 1024); a number alone is bytes.

    Raises:
        ValueError: If it is no size.
    """
    if isinstance(text, int) or (text.isascii() and text.isdigit()):
        return int(text)
    if not re.match(MEMORY, text):
        raise ValueError(f"{text!r:.40} is no size, expected one such as 8GiB or 500MB")
    number, prefix, binary = re.findall(r"([0-9.]+)\s*([KMGT]?)(i?)B", text)[0]
    return int(float(number) * (1024 if binary else 1000) ** _STEPS[prefix])


def size_text(nbytes: int) -> str:
    """Return bytes for people, such as `1.4 GiB`."""
    return _scaled(nbytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def count_text(count: int) -> str:
    """Return a number for people, such as `1.2 G`."""
    return _scaled(count, 1000, ("", "k", "M", "G", "T"))


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while power + 1 < len(units) and abs(value) >= step * 0.9995:
        value, power = value / step, power + 1
    digits = f"{value:.0f}" if power == 0 or value >= 99.95 else f"{value:.1f}"
    return f"{digits} {units[power]}".rstrip()


def compared(before: PassCost, after: PassCost) -> str:
    """Return in one line how a cost changed."""
    parts = [
        f"FLOPs {_change(before.flops, after.flops, count_text)}",
        f"activations {_change(before.activation_bytes, after.activation_bytes, size_text)}",
        f"inference peak {_change(before.peak_inference, after.peak_inference, size_text)}",
        f"training peak {_change(before.peak_training, after.peak_training, size_text)}",
    ]
    return ", ".join(parts)


def _change(old: int, new: int, said: Any) -> str:
    if old == new:
        return f"{said(new)}, kept"
    share = f" ({100 * (new - old) / old:+.0f} %)" if old else ""
    return f"{said(old)} → {said(new)}{share}"


def cost_finding(path: str, before: PassCost, after: PassCost) -> Finding:
    """Return the finding on the cost of a site, or of the model."""
    data = {"before": asdict(before), "after": asdict(after)}
    return Finding("cost", path, "passed", compared(before, after), data=data)


_WORDS = {
    "params": ("parameters", "smaller modules: fewer channels or heads in `args`"),
    "flops": ("floating-point operations", "cheaper modules, or a smaller input"),
    "memory": ("training peak", "a smaller batch or input, or a module that keeps less"),
    "latency": ("milliseconds of one pass", "cheaper modules, or a smaller input"),
    "kept": ("share of the parameters kept", "fewer sites: a narrower `match`"),
    "drift": ("distance of the outputs", "fewer sites, or modules that start near the old ones"),
}


def limits_of(limits: Limits) -> dict[str, float]:
    """Return the limits that are set, by the name of what they bound."""
    found: dict[str, float] = {}
    for name in Limits.model_fields:
        value = getattr(limits, name)
        if value is not None:
            short = name.removeprefix("max_").removeprefix("min_")
            found[short] = parse_size(value) if short == "memory" else value
    return found


def judge_limits(
    limits: Limits, known: Mapping[str, float], unknown: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield a finding for each limit that is set.

    `known` has values of the swapped model by the names that `limits_of` gives, `unknown` the
    reasons why the others are not known.
    """
    for name, limit in limits_of(limits).items():
        yield _judged(name, limit, known.get(name), unknown.get(name, ""))


def _judged(name: str, limit: float, value: float | None, why: str) -> Finding:
    words, change = _WORDS[name]
    # JSON has no infinity
    finite = value if value is None or isfinite(value) else None
    data = {"limit": limit, "value": finite, "of": name}
    if value is None:
        return Finding("limits", "", "skipped", f"{words}: {why}", data=data)
    least = name == "kept"
    held = value >= limit if least else value <= limit
    shown = f"{words} {_said(name, value)}, limit {_said(name, limit)}"
    if held:
        return Finding("limits", "", "passed", shown, data=data)
    key = f"verify.limits.{'min' if least else 'max'}_{name}"
    side = "below" if least else "above"
    what = f"{words} {_said(name, value)}, {side} {key} {_said(name, limit)}"
    raised = "lower" if least else "raise"
    return Finding("limits", "", "failed", what, f"{change}; or {raised} `{key}`", data)


def _said(name: str, value: float) -> str:
    if name == "memory":
        return size_text(int(value))
    if name in {"params", "flops"}:
        return f"{value:,}"
    return f"{value:.3g}" if name != "kept" else f"{value:.6g}"  # mostly near 1


def too_much(nbytes: int, limit: int, source: str, case: str) -> str:
    """Return the sentence for a pass that would take more bytes than its `source` allows."""
    return f"the pass {case} would take {size_text(nbytes)}, {source} is {size_text(limit)}"

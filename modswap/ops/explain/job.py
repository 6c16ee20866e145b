"""The job of `modswap explain`, and of its call from Python."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn

from modswap.core.errors import ExplainError
from modswap.core.explained.record import Explained
from modswap.core.progress import Progress, silent
from modswap.ops.explain.explain import ExplainRequest, explained
from modswap.ops.explain.passes import Forward
from modswap.ops.explain.routing import is_routed, refuse_unrouted, routed_windows
from modswap.ops.explain.subject import Asked, found
from modswap.ops.run.without_compiler import without_compiler


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """The options of an explanation, as `ExplainRequest` has them."""

    depth: int | None = None
    plain: bool | None = None
    times: bool = True
    routed: bool = False  # whether the routing is read too
    routed_where_any: bool = False  # the same, of a module that has one


class Answer(NamedTuple):
    """An explanation, and the picture that the model was given, as PNG."""

    explained: Explained
    png: bytes | None


def explain_asked(asked: Asked, options: ExplainOptions, progress: Progress = silent) -> Answer:
    """Return the explanation of the module that a command names, with its routing if asked.

    Raises:
        ModswapError: If there is no such module, its file cannot be loaded, its input does not
            fit, or it cannot be explained.
    """
    with without_compiler():
        one = found(asked, progress)
        if options.routed:
            refuse_unrouted(one.forward.module, one.title)
        progress("running it line by line")
        wanted = ExplainRequest(one.title, options.depth, options.plain, options.times, one.args)
        result = explained(one.forward, wanted)
        routed = options.routed or (options.routed_where_any and is_routed(one.forward.module))
        routing = routed_windows(one.forward, one.size) if routed else None
    notes = (*result.notes, *one.notes)
    return Answer(replace(result, notes=notes, routing=routing), one.png)


def explain_module(
    module: Any, inputs: tuple[Any, ...], named: Mapping[str, Any], options: ExplainOptions
) -> Explained:
    """Return the explanation of a call of a module in memory, which stays as it is.

    Raises:
        ExplainError: If it is no module, or cannot be explained.
    """
    if not isinstance(module, nn.Module):
        lambda_ = getattr(module, "__name__", "") == "<lambda>"
        what = f"{'a lambda' if lambda_ else type(module).__name__} is no torch.nn.Module"
        raise ExplainError(what, "explain", "give a module and its inputs")
    wanted = ExplainRequest(type(module).__name__, options.depth, options.plain, options.times)
    return explained(Forward(module, inputs, named), wanted)

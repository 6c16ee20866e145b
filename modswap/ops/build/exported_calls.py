"""Check that the calls of modules in graphs of torch.export are known."""

from collections.abc import Iterable, Mapping

from torch import nn

from modswap.core.decided.plan import Plan
from modswap.core.errors import ShapeError, together
from modswap.core.seen.site import Site
from modswap.core.seen.values import TensorInfo
from modswap.io.formats.exported.program import export_of, is_stand_in


def check_calls(model: nn.Module, plan: Plan) -> tuple[str, ...]:
    """Refuse sites whose calls an archive does not record; return notes on the others.

    Where it holds no call signature of a module, torch calls the module at that path with the
    tensors that the graph needs, in an order of its own, without keywords and constants: a site
    that takes or returns anything but a single tensor is refused.
    """
    how = export_of(model)
    if how is None:
        return ()
    modules = dict(model.named_modules(remove_duplicate=False))
    sites = [site for step in plan.steps for site in step.sites]
    sites = [site for site in sites if is_stand_in(modules[site.path])]
    refusals = [_refusal(site, modules, how.signed) for site in sites]
    if refused := list(filter(None, refusals)):
        raise together(refused)
    return tuple(
        f"the archive does not say how {site.path!r} is called: the new module is given its one "
        "tensor, without any keywords or constants that the old one may have had"
        for site in sites
        if site.path not in how.signed
    )


def _refusal(site: Site, paths: Iterable[str], signed: Mapping[str, int]) -> ShapeError | None:
    if site.path in signed:
        return _handed_more(site, signed[site.path])
    fix = (
        "export the eager model again with "
        f"`preserve_module_call_signature=({site.path!r},)`, or swap in the eager model"
    )
    if "@" in site.path or any(path.startswith(f"{site.path}@") for path in paths):
        what = "it is called several times, and the archive holds a graph of its own for each call"
        return ShapeError(what, site.path, fix)
    for call in site.calls:
        if len(call.inputs) != 1 or not isinstance(call.output, TensorInfo):
            what = (
                "the archive does not say in which order and by which names it is given its "
                f"inputs, nor which constants: the graph has {call}"
            )
            return ShapeError(what, site.path, fix)
    return None


def _handed_more(site: Site, count: int) -> ShapeError | None:
    """Return the error for a site to which the graph passes more inputs than its code has."""
    for call in site.calls:
        if len(call.inputs) != count:
            what = f"its code was given {count} inputs, the graph passes further inputs: {call}"
            return ShapeError(what, site.path, "swap in the eager model, and export that")
    return None

"""Make the records of a swap that reports print."""

from collections.abc import Sequence

from torch import nn

from modswap.core.decided.verdict import Verdict
from modswap.core.errors import ShapeError, together
from modswap.core.kept.growth import growth_notes
from modswap.core.kept.outcome import SiteOutcome
from modswap.core.seen.site import Site
from modswap.nn.adapters import SiteAdapter
from modswap.ops.build.fit import Built
from modswap.ops.run.describe import class_name
from modswap.ops.swap import Prepared


def failure(verdict: Verdict) -> ShapeError:
    """Return the error for a verdict that does not hold, the first divergence first."""
    return together([ShapeError.of(problem) for problem in verdict.problems])


def site_outcomes(prepared: Prepared) -> tuple[SiteOutcome, ...]:
    """Return the record of every site, for the report."""
    return tuple(_site_outcome(built, site) for built in prepared.built for site in built.sites)


def _site_outcome(built: Built, site: Site) -> SiteOutcome:
    others = tuple(other.path for other in built.sites if other is not site)
    there = site.beside or site
    own, named = built.sites[0].path, dict(built.module.named_parameters())
    return SiteOutcome(
        path=there.path,
        aliases=there.aliases,
        rule=built.step.where,
        old_class=there.class_name,
        old_params=there.params,
        new_class=_new_class(built),
        new_params=sum(p.numel() for p in built.module.parameters()),
        args=built.blueprint.args,
        calls=site.calls,
        layout=built.blueprint.layout,
        start=built.step.rule.start,
        shared_with=others,
        choices=built.blueprint.choices,
        notes=(*_adapted(built.layer), *built.notes),
        mapped=tuple(built.started.mapped.items()),
        fresh=tuple(n for n in built.module.state_dict() if n not in built.started.mapped),
        place=site.joint.place if site.joint is not None else "",
        new_path=site.path,
        parameters=tuple(f"{own}.{name}" for name in named if name not in built.started.mapped),
    )


def _new_class(built: Built) -> str:
    """Return the class that the rule names, without the adapter around it."""
    if ":" in built.blueprint.module:
        return built.blueprint.module.replace(":", ".")
    module = built.layer
    return class_name(module.module if isinstance(module, SiteAdapter) else module)


def _adapted(module: nn.Module) -> tuple[str, ...]:
    if not isinstance(module, SiteAdapter):
        return ()
    parts = []
    if module.layout != module.wants:
        parts.append(f"turns {module.layout} into {module.wants} and back")
    if module.stride != (1, 1):
        parts.append(f"pools by {module.stride[0]}x{module.stride[1]}")
    if module.project is not None:
        into = module.project.out_channels
        parts.append(f"projects {module.project.in_channels} channels to {into}")
    if module.length:
        parts.append(f"gives a tuple of {module.length}, all None but the first")
    return (f"an adapter around it {', '.join(parts)}",) if parts else ()


def swap_notes(
    verdict: Verdict, prepared: Prepared, sites: Sequence[SiteOutcome]
) -> tuple[str, ...]:
    """Return notes on outputs that changed, and on sites that became much larger."""
    return (*_changed_outputs(verdict, prepared), *growth_notes(sites, verdict.findings))


def _changed_outputs(verdict: Verdict, prepared: Prepared) -> tuple[str, ...]:
    """Return notes on the model's outputs that have another size, where rules say that they may."""
    found = dict.fromkeys(sentence for case in verdict.cases for sentence in case.changed)
    if not found:
        asked = any(built.step.rule.output == "changed" for built in prepared.built)
        return ("no output of the model has another size than before",) if asked else ()
    return (f"outputs changed, as the rule says: {'; '.join(found)}; no other output did",)


def count_params(model: nn.Module) -> int:
    """Return the number of parameter elements, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())

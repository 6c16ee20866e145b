"""The records of new modules whose layers were folded."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.plan import Step
from modswap.core.decided.started import Started
from modswap.core.kept.receipt import SiteRecord
from modswap.core.seen.site import Site
from modswap.ops.apply import module_at
from modswap.ops.build.fit import Built
from modswap.ops.build.folding.new_modules import FoldedModule, inner_of
from modswap.ops.run.describe import class_name


def ended_and_folded(built: Built, folded: FoldedModule) -> Built:
    """Return the record of a module whose gate ended, with its layers folded."""
    mapped = _sources(folded, built.started.mapped, built.sites[0].path)
    blueprint = replace(built.blueprint, folds=(*built.blueprint.folds, *folded.folds))
    notes, started = (*built.notes, folded.note), replace(built.started, mapped=mapped)
    return replace(built, blueprint=blueprint, module=folded.module, notes=notes, started=started)


def folded_alone(model: nn.Module, record: SiteRecord, folded: FoldedModule) -> Built:
    """Return the record of a module of a model that is otherwise as its receipt says."""
    path, joint = record.paths[0], record.joint
    old = module_at(model, path)
    elements = sum(parameter.numel() for parameter in old.parameters())
    site = Site(path, class_name(inner_of(old)), aliases=record.paths[1:], params=elements)
    if joint is not None:
        around = path.rpartition(".")[0]
        beside = Site(around, class_name(module_at(model, around)))
        site = replace(site, beside=beside, joint=joint)
    rule = Rule.model_validate({"match": "**", "with": record.module, "start": "preserve"})
    step = Step(rule, ("replace", 0), "", (site,))
    blueprint = replace(record.blueprint(), folds=(*record.folds, *folded.folds))
    known = {name: f"{path}.{name}" for name in old.state_dict()}
    started = Started("preserve", _sources(folded, known, path))
    return Built(step, (site,), blueprint, folded.module, (folded.note,), started)


def _sources(folded: FoldedModule, known: Mapping[str, str], path: str) -> dict[str, str]:
    """Return from where each tensor is; a new bias is that of the batch norm in it."""
    made = {}
    for name in folded.module.state_dict():
        norms = [
            f"{path}.{name.removesuffix(f'{fold.layer}.bias')}{fold.norms[0]}.bias"
            for fold in folded.folds
            if fold.norms and f".{name}".endswith(f".{fold.layer}.bias")
        ]
        made[name] = known.get(name) or next(iter(norms), f"{path}.{name}")
    return made

"""The steps of a swap for callers from Python, with a model in memory in place of a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.permissions import first_flaw
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.renames import Rename, stripped
from modswap.core.asked.used_paths import OUT, UsedPath, recipe_files
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import UsageError
from modswap.core.kept.outcome import Outcome, Written
from modswap.core.kept.receipt import Receipt, record
from modswap.core.words.nearest import did_you_mean
from modswap.core.words.python_spelling import as_python, for_python
from modswap.io.formats.writing import blank, write
from modswap.io.raw.held import holding
from modswap.io.raw.places import refuse_overlap
from modswap.io.recipe.reader import write_recipe
from modswap.io.rewriting import Records
from modswap.live_values import named_tensors
from modswap.ops.apply import module_at
from modswap.ops.build.starts.start import Starts
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.first_input.find import Found, find_for
from modswap.ops.heal.data.taker import Taker
from modswap.ops.heal.run import HealingWishes, Result, heal_models
from modswap.ops.heal.sites import sites_to_heal
from modswap.ops.load.checksums import intact
from modswap.ops.outcomes import count_params, failure, site_outcomes, swap_notes
from modswap.ops.reopen import reopen
from modswap.ops.rule_call import Inputs, recipe_of_call
from modswap.ops.run.inputs import calls_of
from modswap.ops.swap import Making, apply_recipe, prepare, verified
from modswap.ops.write.prove import mapped_names, model_changes, tensor_ledger
from modswap.ops.write.receipt import effective, make_receipt

# the files that models in memory were loaded from
_sources: WeakKeyDictionary[nn.Module, Path] = WeakKeyDictionary()


class _Swaps(NamedTuple):
    """The swaps that were made in a model in memory."""

    recipe: str  # of the last of them
    receipt: Receipt  # of all of them
    # the class of each module that they record, by its path
    kinds: dict[str, type[nn.Module] | None]


_swaps: WeakKeyDictionary[nn.Module, _Swaps] = WeakKeyDictionary()

__all__ = ["apply_recipe", "heal", "insert", "load", "replace", "save"]


@for_python
def load(  # noqa: PLR0913 - an argument for each option of the commands
    file: str | Path,
    model: str | None = None,
    *,
    allow: Sequence[str] = (),
    alias: Sequence[tuple[str, str]] = (),
    trust: bool = False,
    checksum: bool = True,
    rename: Sequence[tuple[str, str]] = (),
    strip_prefix: str = "",
) -> nn.Module:
    """Return the model of a file, ready to run, swapped or not.

    Nothing in the file is executed. It can build torch's own layers, modswap's and the classes in
    `allow`.

    Args:
        file: A checkpoint of any format that modswap reads.
        model: `package.module:callable` or `file.py:callable` that builds the model, for files
            that hold weights without code; ignored if the file holds a whole module.
        allow: Classes that a pickled file may build, `package.module.Class`; `package.*` means
            the layers and plain data of a package.
        alias: Classes that moved since the file was written, (old, new).
        trust: Whether to run torch's full unpickler, which can execute any code in the file.
        checksum: Whether to compare the file's bytes with its checksums, where it has any.
        rename: Beginnings of the file's names that are others in the model, (old, new); parts
            inside names where both begin and end with a dot.
        strip_prefix: The beginning of the file's names that the model does not have.

    Raises:
        CheckpointError: If the file cannot be read, or is damaged.
        UnsafeError: If loading the file needs classes that are not allowed.
        UsageError: If the file holds weights and `model` is missing or does not fit them, or if
            `allow` or `alias` holds what is no dotted name and no package.

    Examples:
        >>> import torch
        >>> torch.save(torch.nn.Sequential(torch.nn.Linear(4, 2)), "net.pt")
        >>> modswap.load("net.pt")
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
        )
    """
    if flaw := first_flaw(allow, alias):
        raise UsageError(flaw[1], flaw[0], flaw[2])
    policy = Policy(tuple(allow), tuple(alias), trust, checksum)
    first = (stripped(strip_prefix),) if strip_prefix else ()
    renames = (*first, *(Rename(old, new) for old, new in rename))
    subject = Subject(Path(file), policy, model, renames=renames)
    with holding(subject.file) as held:
        loaded = reopen(subject)
        intact(subject)
        held.refuse_change()
    _sources[loaded.model] = subject.file.absolute()
    if text := loaded.container.recipe:
        known = loaded.receipt or make_receipt(None, text, source=None, earlier=None)
        _remember(loaded.model, text, known.model_copy(update={"digests": {}}))
    return loaded.model


@for_python
def replace(
    model: nn.Module,
    recipe: Recipe | None = None,
    *,
    match: str | Sequence[str] | None = None,
    with_: str | None = None,
    inputs: Inputs = (),
    **rule: Any,
) -> Outcome:
    """Swap modules in a model in place, verify the swap and examine it as `verify` says.

    Args:
        model: The model, changed in place; left unchanged if the swap does not hold.
        recipe: The rules, and the dummy inputs that verify them.
        match: In place of a recipe, patterns of the modules to replace.
        with_: With `match`, the new module: a catalogue name, or `package.module:Class`.
        inputs: With `match`, a shape for each call of the model, or a mapping as in a recipe; found
            where neither says it.
        rule: With `match`, other keys of a rule: `args`, `exclude`, `class_`, `expect`, `adapt`,
            `share`, `start` and so on.

    Raises:
        ModswapError: If the recipe or its input does not fit the model, or the swap does not hold.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
        >>> outcome = modswap.replace(model, match="1", with_="ECA", inputs=[(1, 3, 16, 16)])
        >>> outcome.ok, type(model[1]).__name__
        (True, 'ECA')

        By a recipe:

        >>> from pathlib import Path
        >>> text = "{version: 1, replace: [{match: '2', with: ACmix}]}"
        >>> _ = Path("swap.yaml").write_text(text)
        >>> modswap.replace(model, modswap.read_recipe("swap.yaml")).ok
        True
    """
    asked = {"match": match, "with_": with_, **rule}
    return _swapped(model, _recipe(recipe, asked, inputs))


@for_python
def insert(
    model: nn.Module,
    *,
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    around: str | Sequence[str] | None = None,
    with_: str,
    inputs: Inputs = (),
    **rule: Any,
) -> Outcome:
    """Put modules in beside others, in place; behind gates of 0 the model computes what it did.

    No tensor changes its name: the new parameters are under the module's own path, as
    `outcome.fresh_parameters()` lists them.

    Args:
        model: The model, changed in place; left unchanged if the swap does not hold.
        after: Patterns of modules whose output the new module takes.
        before: Patterns of modules whose input it takes.
        around: Patterns of modules to which it is a parallel branch.
        with_: The new module: a catalogue name, or `package.module:Class`.
        inputs: A shape for each call of the model, or a mapping as in a recipe; found if empty.
        rule: Other keys of a rule: `args`, `name`, `input`, `output`, `start` and so on.

    Raises:
        ModswapError: If the rule does not fit the model, or the swap does not hold.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
        >>> outcome = modswap.insert(model, after="1", with_="ECA")
        >>> outcome.fresh_parameters()
        ('1.eca.gate', '1.eca.module.conv.weight')
        >>> len(model)
        3
    """
    asked = {"after": after, "before": before, "around": around, "with_": with_, **rule}
    return _swapped(model, recipe_of_call(asked, inputs))


def _refuse_shared(result: Result, model: nn.Module, against: nn.Module) -> None:
    """Refuse to change a tensor of the original, which the model may hold too."""
    own = {id(tensor) for tensor in named_tensors(against).values()}
    for path in result.changed:
        if any(id(one) in own for one in named_tensors(module_at(model, path)).values()):
            what = f"the model shares {path!r} with the original, which would change too"
            raise UsageError(what, "against", "give a copy of the original: copy.deepcopy(model)")


def _any_rule(inputs: Inputs) -> Recipe:
    """Return a recipe with these inputs; its rule is of no account."""
    return recipe_of_call({"match": "**", "with_": "ECA"}, inputs)


def _recipe(recipe: Recipe | None, asked: Mapping[str, Any], inputs: Inputs) -> Recipe:
    """Return the recipe that was given, or that of a rule.

    Raises:
        UsageError: If both are given.
    """
    given = [name for name, value in asked.items() if value is not None]
    if recipe is None:
        return recipe_of_call(asked, inputs)
    if given or inputs:
        what = f"a recipe and {', '.join(given) or 'inputs'} exclude each other"
        raise UsageError(what, "recipe", "put them into the recipe, or leave it out")
    return recipe


def _swapped(model: nn.Module, recipe: Recipe) -> Outcome:
    """Swap in place, verify and examine; return the outcome."""
    first = None if recipe.inputs else find_for(model, "inputs")
    found, calls = (None, ()) if first is None else (first.record, first.calls)
    starts = Starts(policy=Policy(allow=recipe.allow))
    prepared = prepare(model, recipe, calls, making=Making(starts=starts))
    params, known = count_params(model), _known(model)
    before = named_tensors(model)
    with verified(model, prepared, lambda _: None) as standing:
        thorough = recipe.verify.thorough
        bench = Bench(model, prepared, standing.after, standing.old, recipe, thorough=thorough)
        verdict = _spelled(examined(standing.verdict, bench))
        if not verdict.ok:
            raise failure(verdict)
        ledger = tensor_ledger(
            before, named_tensors(model), model_changes(prepared), where="the model", compare=True
        ).with_mapped(mapped_names(prepared))
    text = write_recipe(_said(recipe, first))
    earlier = None if known is None else known.receipt
    _remember(model, text, make_receipt(prepared, text, source=None, earlier=earlier))
    sites = site_outcomes(prepared)
    notes = () if found is None else (found.note,)
    return Outcome(
        command="replace",
        checkpoint="",
        recipe=recipe.source.name,
        plan=prepared.plan,
        sites=sites,
        verdict=verdict,
        ledger=ledger,
        params_before=params,
        params_after=count_params(model),
        notes=(*notes, *prepared.notes, *swap_notes(verdict, prepared, sites)),
        found_input=found,
    )


def _said(recipe: Recipe, first: Found | None) -> Recipe:
    """Return a recipe as it was carried out, with the input that was found."""
    inputs = recipe.inputs if first is None else first.record.inputs
    return effective(recipe).model_copy(update={"inputs": inputs})


@for_python
def heal(
    model: nn.Module,
    *,
    against: nn.Module,
    data: Any,
    inputs: Inputs = (),
    **wishes: Any,
) -> Outcome:
    """Bring the swapped modules of a model back to what the original computes, without labels.

    Args:
        model: The swapped model; its weights change in place.
        against: The model before the swap.
        data: Inputs to learn from: an iterable of batches, a path, or `none` for drawn ones.
        inputs: A shape for each call of the model, or a mapping as in a recipe; found where it is
            left out.
        wishes: Other fields of `HealingRequest`: `stages`, `damp`, `until`, `steps`, `minutes`,
            `metric`, `samples`, `size`, `bypass` and so on.

    Returns:
        The outcome; its `healing` has the agreements before, after each stage and after all.

    Raises:
        ModswapError: If no module is swapped, or the data or a wish cannot be used.
        KeyboardInterrupt: After Ctrl-C; the model has the best state so far.

    Examples:
        >>> import copy, torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8))
        >>> other = copy.deepcopy(net)
        >>> _ = modswap.replace(other, match="1", with_="ACmix", inputs=[(1, 3, 16, 16)])
        >>> data = [torch.randn(64, 3, 16, 16)]
        >>> outcome = modswap.heal(other, against=net, data=data, stages=("inherit",))
        >>> outcome.healing.after.error < 1e-6
        True
    """
    known = {one.name for one in dataclasses.fields(HealingRequest)}
    if unknown := sorted(wishes.keys() - known):
        what = f"there is no wish {unknown[0]!r}"
        raise UsageError(what, "heal", did_you_mean(unknown[0], known))
    swaps = _known(model)
    sites = sites_to_heal(against, model, swaps.receipt.sites if swaps is not None else ())
    request = HealingRequest(**{"chosen": "stages" in wishes, **wishes})
    calls = calls_of(_any_rule(inputs).inputs) if inputs else find_for(against, "inputs").calls
    result = heal_models(Taker(against, calls[0]), model, sites, HealingWishes(data, request))
    _refuse_shared(result, model, against)
    params = count_params(model)
    result.put_into(model)
    beside = [record(one.paths, one.blueprint) for one in result.put_beside(model)]
    if swaps is not None and beside:
        receipt = swaps.receipt.model_copy(update={"sites": (*swaps.receipt.sites, *beside)})
        _remember(model, swaps.recipe, receipt)
    if result.healing.interrupted:
        raise KeyboardInterrupt
    return Outcome(
        command="heal",
        checkpoint="",
        recipe="",
        params_before=params,
        params_after=count_params(model),
        healing=result.healing,
    )


@for_python
def save(
    model: nn.Module, file: str | Path, *, recipe: Recipe | None = None, force: bool = False
) -> Written:
    """Write a model to a file; its ending picks the format.

    `.safetensors` holds the weights; `.pt`, `.pth`, `.ckpt` and `.bin` hold the whole module.

    Args:
        model: The model.
        file: Where to write.
        recipe: The recipe that the model was swapped with, which is stored inside the file; that
            of the last `replace` or `insert`, or of the file that `load` read, where it is left
            out. None is stored where a module of these has been exchanged since.
        force: Whether an existing file may be replaced.

    Raises:
        CheckpointError: If the file cannot be written, or is the one that the model was loaded from
            or a file that the recipe names.

    Examples:
        >>> from torch import nn
        >>> written = modswap.save(nn.Linear(4, 2), "out.safetensors")
        >>> written.file.name, written.format
        ('out.safetensors', 'safetensors')
    """
    out = Path(file)
    refuse_overlap(UsedPath(OUT, out), _used(model, recipe))
    container, value = blank(model, out)
    known = _known(model)
    text = known.recipe if known is not None else ""
    if recipe is not None:
        text = write_recipe(effective(recipe))
    receipt = known.receipt if known else make_receipt(None, text, source=None, earlier=None)
    records = Records(text, receipt.text()) if text else Records()
    return write(container, [value], out, records=records, force=force)


def _remember(model: nn.Module, recipe: str, receipt: Receipt) -> None:
    """Keep the swaps of a model, which `save` writes beside it."""
    _swaps[model] = _Swaps(recipe, receipt, _kinds(model, receipt))


def _known(model: nn.Module) -> _Swaps | None:
    """Return the swaps of a model; None where a module of theirs has been exchanged since."""
    known = _swaps.get(model)
    if known is None or known.kinds != _kinds(model, known.receipt):
        return None
    return known


def _kinds(model: nn.Module, receipt: Receipt) -> dict[str, type[nn.Module] | None]:
    """Return the class of each module that a receipt records, by its path; None for none."""
    there = {path: type(module) for path, module in model.named_modules(remove_duplicate=False)}
    return {path: there.get(path) for site in receipt.sites for path in site.paths}


def _spelled(verdict: Verdict) -> Verdict:
    """Return a verdict whose findings name arguments and not options."""
    findings = (
        dataclasses.replace(one, what=as_python(one.what), fix=as_python(one.fix))
        for one in verdict.findings
    )
    return dataclasses.replace(verdict, findings=tuple(findings))


def _used(model: nn.Module, recipe: Recipe | None) -> list[UsedPath]:
    """Return the file that a model was loaded from, and the files that its recipe names."""
    source = _sources.get(model)
    loaded = [UsedPath("the file that the model was loaded from", source)] if source else []
    return [*loaded, *(recipe_files(recipe) if recipe is not None else ())]

"""The steps of a swap for callers from Python, with a model in memory in place of a file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.permissions import first_flaw
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.renames import Rename, stripped
from modswap.core.asked.used_paths import OUT, UsedPath, recipe_files
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import UsageError
from modswap.core.kept.outcome import Outcome, Written
from modswap.core.words.python_spelling import as_python, for_python
from modswap.io.formats.writing import blank, write
from modswap.io.raw.held import holding
from modswap.io.raw.places import refuse_overlap
from modswap.io.recipe.reader import write_recipe
from modswap.io.rewriting import Records
from modswap.live_values import named_tensors
from modswap.ops.build.starts.start import Starts
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.load.checksums import intact
from modswap.ops.outcomes import count_params, failure, site_outcomes, swap_notes
from modswap.ops.reopen import reopen
from modswap.ops.swap import Making, apply_recipe, prepare, verified
from modswap.ops.write.prove import mapped_names, model_changes, tensor_ledger
from modswap.ops.write.receipt import effective, make_receipt

# the files that models in memory were loaded from
_sources: WeakKeyDictionary[nn.Module, Path] = WeakKeyDictionary()

__all__ = ["apply_recipe", "load", "replace", "save"]


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
    return loaded.model


@for_python
def replace(model: nn.Module, recipe: Recipe) -> Outcome:
    """Swap modules in a model in place, verify the swap and examine it as `verify` says.

    Args:
        model: The model, changed in place; left unchanged if the swap does not hold.
        recipe: The rules, and the dummy inputs that verify them.

    Raises:
        ModswapError: If the recipe or its input does not fit the model, or the swap does not hold.

    Examples:
        >>> from pathlib import Path
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
        >>> rules = "replace: [{match: '1', with: ECA}]"
        >>> text = f"{{version: 1, inputs: [{{shape: [1, 3, 16, 16]}}], {rules}}}"
        >>> _ = Path("swap.yaml").write_text(text)
        >>> outcome = modswap.replace(model, modswap.read_recipe("swap.yaml"))
        >>> outcome.ok, type(model[1]).__name__
        (True, 'ECA')
    """
    starts = Starts(policy=Policy(allow=recipe.allow))
    prepared = prepare(model, recipe, making=Making(starts=starts))
    params = count_params(model)
    before = named_tensors(model)
    with verified(model, prepared, lambda _: None) as standing:
        thorough = recipe.verify.thorough
        bench = Bench(model, prepared, standing.after, standing.old, recipe, thorough=thorough)
        verdict = _spelled(examined(standing.verdict, bench))
        if not verdict.ok:
            raise failure(verdict)
        after = named_tensors(model)
        found = tensor_ledger(
            before, after, model_changes(prepared), where="the model", compare=True
        ).with_mapped(mapped_names(prepared))
    sites = site_outcomes(prepared)
    return Outcome(
        command="replace",
        checkpoint="",
        recipe=recipe.source.name,
        plan=prepared.plan,
        sites=sites,
        verdict=verdict,
        ledger=found,
        params_before=params,
        params_after=count_params(model),
        notes=(*prepared.notes, *swap_notes(verdict, prepared, sites)),
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
        recipe: The recipe that the model was swapped with; it is stored inside the file.
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
    text = write_recipe(effective(recipe)) if recipe is not None else ""
    receipt = make_receipt(None, text, source=None, earlier=None).text() if recipe else ""
    return write(container, [value], out, records=Records(text, receipt), force=force)


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

"""Make the swap of a recipe, or read that inside a file, as far as its source change needs it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.job import CodeJob, Job, Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.scripts.needed import is_script
from modswap.core.asked.scripts.script import Script, load_script, script_of
from modswap.core.errors import UsageError
from modswap.core.progress import Progress
from modswap.io.formats.outline import outline
from modswap.io.raw.held import Held
from modswap.io.recipe.embedded import embedded_recipe
from modswap.ops.build.starts.start import Starts
from modswap.ops.code.building.builder import Builder, builder_of_class, named_builder, shapes_of
from modswap.ops.code.building.source import file_of, is_own
from modswap.ops.code.building.wanted import NewModule, wanted_of_receipt, wanted_of_swap
from modswap.ops.first_input.find import find_input, settled
from modswap.ops.load.allowed import with_recipe
from modswap.ops.load.model import Loaded
from modswap.ops.outcomes import failure
from modswap.ops.reopen import reopen
from modswap.ops.run.inputs import DummyCall, calls_of
from modswap.ops.swap import Making, prepare, verified

MAIN = "__main__."
NO_CLASS = "see `--standalone FILE`, or `--for HOST` for models of a library"


@dataclass(frozen=True, slots=True)
class Swapped:
    """A swapped model, its new modules, and how the model before is built.

    Args:
        model: The model, swapped.
        subject: The request, with the aliases of scripts.
        loaded: The file that it is from.
        wanted: The new modules.
        builder: The call that builds the model before the swap; None if none is known.
        scripts: Files of code of which only some names are used.
        calls: Dummy calls.
        shapes: Shapes of the state before the swap, less that of `without`.
        without: Paths whose old state is not known.
        seed: The recipe's.
        notes: Sentences for the report.
        recorded: Whether the file itself holds the swap.
    """

    model: nn.Module
    subject: Subject
    loaded: Loaded
    wanted: tuple[NewModule, ...]
    builder: Builder | None
    scripts: tuple[Script, ...]
    calls: tuple[DummyCall, ...]
    shapes: Mapping[str, Any]
    without: tuple[str, ...] = ()
    seed: int = 0
    notes: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def named_builder(self) -> Builder:
        """Return the builder.

        Raises:
            UsageError: If none is known.
        """
        if self.builder is None:
            return _of_class(self.model, str(self.subject.file))
        return self.builder

    @property
    def sites(self) -> tuple[str, ...]:
        """Return every path of a new module."""
        return tuple(path for new in self.wanted for path in new.paths)


def swapped(job: CodeJob, held: Held, progress: Progress) -> Swapped:
    """Return the swapped model of a file, which is held.

    Raises:
        ModswapError: If the file cannot be loaded, the swap does not hold, or no swap is known.
    """
    subject, recipe = job.subject, job.recipe
    subject = with_recipe(subject, recipe) if recipe is not None else subject
    named = named_builder(subject, recipe)
    progress(f"loading {subject.file}")
    subject, scripts = with_scripts(subject, named)
    loaded = reopen(subject, recipe)
    loaded = replace(loaded, container=replace(loaded.container, held=held))
    builder = named or _builder_of_class(loaded.model, str(subject.file))
    if recipe is None:
        return _recorded(subject, loaded, builder, scripts)
    return _made(Job(subject, recipe), loaded, builder, scripts, progress)


def _made(
    job: Job,
    loaded: Loaded,
    builder: Builder | None,
    scripts: tuple[Script, ...],
    progress: Progress,
) -> Swapped:
    """Swap by a recipe, and verify the swap."""
    model = loaded.model
    shapes = shapes_of(model)
    given = settled(job, loaded, progress)
    recipe = given.job.recipe
    making = Making(starts=Starts(policy=job.subject.policy))
    prepared = prepare(model, recipe, given.calls, progress=progress, making=making)
    with verified(model, prepared, progress) as standing:
        if not standing.verdict.ok:
            raise failure(standing.verdict)
    return Swapped(
        model,
        job.subject,
        loaded,
        wanted_of_swap(prepared),
        builder,
        scripts,
        tuple(given.calls) or calls_of(recipe.inputs),
        shapes,
        seed=recipe.seed,
        notes=given.notes,
    )


def _recorded(
    subject: Subject, loaded: Loaded, builder: Builder | None, scripts: tuple[Script, ...]
) -> Swapped:
    """Return the swap that a written file records."""
    where, receipt = str(subject.file), loaded.receipt
    if receipt is None or not receipt.sites:
        what = "no swap is known: the file records none, and there is no recipe"
        raise UsageError(what, where, "add `-c RECIPE`, or --match PATTERN --with MODULE")
    text = loaded.container.recipe
    recipe = embedded_recipe(text, where) if text else None
    wanted = wanted_of_receipt(receipt.sites, loaded.model, recipe)
    without = tuple(path for new in wanted for path in new.paths)
    calls = _calls(subject, recipe, loaded, where)
    shapes = shapes_of(loaded.model, without)
    return Swapped(
        loaded.model,
        subject,
        loaded,
        wanted,
        builder,
        scripts,
        calls,
        shapes,
        without,
        recorded=True,
    )


def _calls(
    subject: Subject, recipe: Recipe | None, loaded: Loaded, where: str
) -> tuple[DummyCall, ...]:
    if subject.inputs:
        return (DummyCall(subject.inputs, {}),)
    if recipe is not None and recipe.inputs and not subject.find_input:
        return calls_of(recipe.inputs)
    return find_input(loaded, where).calls


def _builder_of_class(model: nn.Module, where: str) -> Builder | None:
    try:
        return _of_class(model, where)
    except UsageError:
        return None


def _of_class(model: nn.Module, where: str) -> Builder:
    """Return the builder that calls a model's own class; refuse a class that is not the user's."""
    cls = type(model)
    file = file_of(cls)
    if not is_own(file):
        kind = "no source file" if not file.endswith(".py") else "no source of your own"
        what = f"its source cannot be shown: {cls.__name__} has {kind}"
        raise UsageError(what, where, NO_CLASS)
    return builder_of_class(model, where)


def with_scripts(subject: Subject, builder: Builder | None) -> tuple[Subject, tuple[Script, ...]]:
    """Load the scripts that hold classes of the model, only what these need; never as a whole.

    Classes of `__main__` are looked for in the file that the builder names.
    """
    aliases = dict(subject.policy.aliases)
    main = [one for one in _main_classes(subject) if MAIN + one not in aliases]
    made = _script_of(builder) if builder is not None else None
    there = _defined(made, main) if made is not None else []
    own = {}
    if made is not None:
        made = replace(made, names=(*made.names, *there))
        load_script(made)
        own = {MAIN + one: f"{made.module}.{one}" for one in there}
    further = _aliased_scripts(aliases)
    for one in further:
        load_script(one, where="--alias")
    policy = replace(
        subject.policy,
        aliases=(*aliases.items(), *own.items()),
        allow=tuple(dict.fromkeys((*subject.policy.allow, *own.values()))),
    )
    return replace(subject, policy=policy), (*([made] if made is not None else []), *further)


def _script_of(builder: Builder) -> Script | None:
    """Return the script that a builder is in: a file that it names, or a module that does work."""
    module, name = builder.parts
    first = name.split(".")[0]
    if module.endswith(".py"):
        return script_of(Path(builder.folder, module), (first,))
    file = Path(builder.folder, f"{module}.py")
    if "." in module or module in sys.modules or not is_script(file):
        return None
    return Script(str(file), (first,), module)


def _main_classes(subject: Subject) -> list[str]:
    """Return the classes of `__main__` that a file names."""
    tree = outline(subject.file) if subject.file.exists() else None
    rows = tree.rows if tree is not None else ()
    names = dict.fromkeys(row.class_name or "" for row in rows)
    return [name.removeprefix(MAIN) for name in names if name.startswith(MAIN)]


def _defined(script: Script, names: Sequence[str]) -> list[str]:
    """Return the names that a script's text has as classes."""
    try:
        text = Path(script.file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [name for name in names if f"class {name}" in text]


def _aliased_scripts(aliases: Mapping[str, str]) -> list[Script]:
    """Return the scripts to which classes of `__main__` are aliased, with these names."""
    found: dict[str, list[str]] = {}
    for old, new in aliases.items():
        module, _, name = new.rpartition(".")
        if old.startswith(MAIN) and module and "." not in module:
            found.setdefault(module, []).append(name)
    files = {module: Path.cwd() / f"{module}.py" for module in found if module not in sys.modules}
    return [
        Script(str(file), tuple(found[module]), module)
        for module, file in files.items()
        if file.is_file()
    ]

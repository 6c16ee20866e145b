"""The change of a model's own source that makes a swap, with its proof."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from modswap.core.asked.job import CodeJob
from modswap.core.errors import ModswapError, UsageError
from modswap.core.kept.code_change import CodeChange, StandaloneFile
from modswap.core.progress import Progress, silent
from modswap.io.raw.held import Held, holding
from modswap.ops.code.building.builder import Builder, refuse_other, shapes_of
from modswap.ops.code.building.record import Recording, record
from modswap.ops.code.building.source import Sources
from modswap.ops.code.building.swapped import Swapped, swapped
from modswap.ops.code.editing.edit import Editor
from modswap.ops.code.editing.locate import Locator
from modswap.ops.code.editing.rename import (
    every_instance,
    rename_modules,
    renamed_module,
    renamed_path,
    renamed_source,
)
from modswap.ops.code.hosts.builders import library_builder
from modswap.ops.code.hosts.libraries import HOSTS
from modswap.ops.code.hosts.parts import HostFile, refuse_unlike
from modswap.ops.code.proof.prove import Proof, changed_texts, prove, runs_of
from modswap.ops.code.standalone.prove import proved_standalone, refuse_exported
from modswap.ops.code.standalone.write import Standalone, standalone
from modswap.ops.code.write import refuse_changes, write_configured, write_renamed
from modswap.ops.run.without_compiler import without_compiler
from modswap.seeds import seeded


def code_change(job: CodeJob, progress: Progress = silent) -> CodeChange:
    """Return the change of source after which the model's builder builds the swapped model.

    Raises:
        ModswapError: If the swap does not hold, a site is made by no code of the user's own, or
            the change is not proved.
    """
    with _held(job) as held:
        progress = held.watched(progress)
        made = swapped(job, held, progress)
        builder = made.named_builder
        locator = _locator(made, builder, progress)
        files, sites = Editor(locator).changes()
        proof = Proof(made.model, made.sites, builder, made.scripts, made.calls, made.seed)
        if names := every_instance(locator.recording.model, job.names):
            proof = replace(proof, runs=runs_of(proof))  # its own forward has the old names
            files = renamed_source(locator, files, names)
            rename_modules(made.model, names)
        wanted = tuple(renamed_module(new, names) for new in made.wanted)
        made = replace(made, wanted=wanted)
        progress("proving the change in a fresh process")
        proved = prove(replace(proof, sites=made.sites), changed_texts(files))
        written = ""
        if job.out is not None:
            progress(f"writing {job.out}")
            refuse_changes(files)  # its names would fit no source
            written = write_renamed(made, job.out, force=job.force)
    sites = tuple(replace(one, path=renamed_path(one.path, names)) for one in sites)
    order = {path: number for number, path in enumerate(made.sites)}
    places = tuple(sorted(sites, key=lambda one: order.get(one.path, 0)))
    return CodeChange(
        files, places, str(builder), proved.apart, proved.modules, made.notes, written
    )


def standalone_file(job: CodeJob, progress: Progress = silent) -> StandaloneFile:
    """Return one file of code that builds the swapped model and loads it, without modswap.

    Where the change of the user's own source is known, and proved in it, the file has the changed
    classes; else the new modules are put in behind the call that builds the model. A file that
    holds the whole module needs no such call.

    Raises:
        ModswapError: If the swap does not hold, no call builds the model, or the file is not
            proved.
    """
    with _held(job) as held:
        progress = held.watched(progress)
        made = swapped(job, held, progress)
        refuse_exported(made)
        try:
            files, _ = Editor(_locator(made, made.named_builder, progress)).changes()
            progress("proving the file in a fresh process")
            written = standalone(made, changed_texts(files), made.builder, edited=True)
            return proved_standalone(made, written, whole=False)
        except ModswapError as error:
            builder = _usable(made, error)
        progress("proving lines behind the call in a fresh process")
        written = standalone(made, {}, builder, edited=False)
        return proved_standalone(made, written, whole=builder is None)


def host_lines(job: CodeJob, host: str, progress: Progress = silent) -> StandaloneFile:
    """Return the lines that build and load the swapped model in its own library.

    Raises:
        ModswapError: If the swap does not hold, the model is of another library, or the lines are
            not proved.
    """
    with _held(job) as held:
        progress = held.watched(progress)
        made = swapped(job, held, progress)
        if not made.recorded:
            what = "it is not swapped yet, and the lines load the swapped file"
            fix = "swap it first: modswap replace FILE -c RECIPE -o OUT"
            raise UsageError(what, str(made.subject.file), fix)
        file = HostFile(made)
        text = HOSTS[host](file)
        if text.fresh is not None:
            refuse_unlike(made, text.fresh, "--for")
        imports = "\n".join((*text.imports, *file.names.added))
        written = Standalone(f"{imports}\n\n\n{text.body}", (), ())
        progress("proving the lines in a fresh process")
        proved = proved_standalone(made, written, whole=False)
        if job.out is not None:
            write_configured(made, text.config, job.out, force=job.force)
        return proved


@contextmanager
def _held(job: CodeJob) -> Iterator[Held]:
    """Hold the file, and compare it with what it was at the end."""
    with holding(job.subject.file) as held, without_compiler():
        yield held
        held.refuse_change()


def _usable(made: Swapped, error: ModswapError) -> Builder | None:
    """Return the builder whose model takes the weights; None if there is none, and no need.

    Where the user named none, it is the call of the model's library.
    """
    found = library_builder(made.model, str(made.subject.file))
    for builder in (one for one in (made.builder, found) if one is not None):
        try:
            recorded(made, builder, Sources())
        except ModswapError:
            continue
        return builder
    if made.loaded.container.slots[0].kind == "weights":
        raise error from None
    return None


def _locator(made: Swapped, builder: Builder, progress: Progress) -> Locator:
    """Return what looks for the sites in the source that builds the model."""
    progress("recording how the model is built")
    sources = Sources()
    recording = recorded(made, builder, sources)
    roots = (type(recording.model).__qualname__.split(".")[0], builder.name.split(".")[0])
    return Locator(recording, sources, made.wanted, roots)


def recorded(made: Swapped, builder: Builder, sources: Sources) -> Recording:
    """Return the model as its builder makes it, with the calls that made each module.

    Raises:
        UsageError: If the builder makes a model of other names or shapes.
    """
    with seeded(0):
        recording = record(builder, sources)
    refuse_other(shapes_of(recording.model, made.without), builder, made.shapes)
    return recording

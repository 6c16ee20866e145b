"""The change of a model's own source that makes a swap, with its proof."""

from modswap.core.asked.job import CodeJob
from modswap.core.kept.code_change import CodeChange
from modswap.core.progress import Progress, silent
from modswap.io.raw.held import holding
from modswap.ops.code.building.builder import refuse_other, shapes_of
from modswap.ops.code.building.record import Recording, record
from modswap.ops.code.building.source import Sources
from modswap.ops.code.building.swapped import Swapped, swapped
from modswap.ops.code.editing.edit import Editor
from modswap.ops.code.editing.locate import Locator
from modswap.ops.code.proof.prove import Proof, changed_texts, prove
from modswap.ops.run.without_compiler import without_compiler
from modswap.seeds import seeded


def code_change(job: CodeJob, progress: Progress = silent) -> CodeChange:
    """Return the change of source after which the model's builder builds the swapped model.

    Raises:
        ModswapError: If the swap does not hold, a site is made by no code of the user's own, or
            the change is not proved.
    """
    with holding(job.subject.file), without_compiler():
        made = swapped(job, progress)
        progress("recording how the model is built")
        sources = Sources()
        recording = recorded(made, sources)
        roots = (type(recording.model).__qualname__.split(".")[0], made.builder.name.split(".")[0])
        files, sites = Editor(Locator(recording, sources, made.wanted, roots)).changes()
        progress("proving the change in a fresh process")
        proof = Proof(made.model, made.sites, made.builder, made.scripts, made.calls, made.seed)
        proved = prove(proof, changed_texts(files))
    order = {path: number for number, path in enumerate(made.sites)}
    places = tuple(sorted(sites, key=lambda one: order.get(one.path, 0)))
    return CodeChange(files, places, str(made.builder), proved.apart, proved.modules, made.notes)


def recorded(made: Swapped, sources: Sources) -> Recording:
    """Return the model as its builder makes it, with the calls that made each module.

    Raises:
        UsageError: If the builder makes a model of other names or shapes.
    """
    with seeded(0):
        recording = record(made.builder, sources)
    refuse_other(shapes_of(recording.model, made.without), made.builder, made.shapes)
    return recording

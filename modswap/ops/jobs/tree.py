"""Read a checkpoint's module tree, without torch where no model has to be built."""

from modswap.core.asked.job import ALL_SHAPES, Layers, Subject
from modswap.core.progress import Progress, silent
from modswap.core.seen.tree import Tree
from modswap.io.formats.outline import outline


def read_tree(subject: Subject, progress: Progress = silent, layers: Layers = ALL_SHAPES) -> Tree:
    """Return the module tree of a file; with dummy inputs, given or looked for, it has shapes.

    Without inputs, factory or `trust` the file is read as data: neither its classes nor torch are
    needed, and a note names the classes that loading it needs. Otherwise the file is loaded. With
    `layers` the values that these modules put out are described, on real weights.

    Raises:
        CheckpointError: If the file cannot be read, or the outputs cannot be written.
        UnsafeError: If loading the file needs classes that are not allowed.
        UsageError: If `inputs` are given and the file holds weights without a factory.
        InputError: If the input does not fit the model.
    """
    shaped = subject.inputs or subject.find_input or subject.input_files
    if not (shaped or subject.factory or subject.policy.trust or subject.renames):
        progress(f"reading {subject.file}")
        tree = outline(subject.file)
        if tree is not None:
            return tree
    from modswap.ops.jobs.model_tree import build_tree

    return build_tree(subject, progress, layers)

"""Read a checkpoint's module tree, without torch where no model has to be built."""

from modswap.core.asked.job import Subject
from modswap.core.progress import Progress, silent
from modswap.core.seen.tree import Tree
from modswap.io.formats.outline import outline


def read_tree(subject: Subject, progress: Progress = silent) -> Tree:
    """Return the module tree of a file; with dummy inputs, given or looked for, it has shapes.

    Without dummy inputs, factory or `trust` the file is read as data: neither its classes nor torch
    are needed, and a note names the classes that loading it needs. Otherwise the file is loaded.

    Raises:
        CheckpointError: If the file cannot be read.
        UnsafeError: If loading the file needs classes that are not allowed.
        UsageError: If `inputs` are given and the file holds weights without a factory.
        InputError: If the dummy input does not fit the model.
    """
    shaped = subject.inputs or subject.find_input
    if not (shaped or subject.factory or subject.policy.trust or subject.renames):
        progress(f"reading {subject.file}")
        tree = outline(subject.file)
        if tree is not None:
            return tree
    from modswap.ops.jobs.model_tree import build_tree

    return build_tree(subject, progress)

"""Reading a checkpoint's module tree; without torch where nothing has to be built."""

from collections.abc import Callable

from modswap.core.asked.job import Subject
from modswap.core.seen.tree import Tree
from modswap.io.formats.outline import outline


def read_tree(subject: Subject, progress: Callable[[str], None] = lambda _: None) -> Tree:
    """Return the module tree of a file.

    Without dummy inputs, factory or `trust` the file is read as data: neither its classes nor torch
    are needed, and what would have to be allowed to load it is told. Else it is loaded.

    Args:
        subject: The file; its `inputs` ask for shapes.
        progress: Told what is being done.

    Raises:
        CheckpointError: If the file cannot be read.
        UnsafeError: If it would have to build what is not allowed.
        UsageError: If shapes are asked for and nobody says how to build the model.
        InputError: If the dummy input does not fit the model.
    """
    if not (subject.inputs or subject.factory or subject.policy.trust):
        progress(f"reading {subject.file}")
        found = outline(subject.file)
        if found is not None:
            return found
    from modswap.ops.jobs.built_tree import build_tree

    return build_tree(subject, progress)

"""The request of a command, before any file is read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modswap.core.asked.renames import Rename

if TYPE_CHECKING:
    from modswap.core.asked.healing import HealingRequest
    from modswap.core.asked.recipe import Recipe, TensorInput
    from modswap.core.swept.choice import ChoiceRequest


PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
ARRAY = ".npy"


def is_input_file(text: str) -> bool:
    """Return whether the text of an input names a file, `photo.jpg:224x224`, and not a shape."""
    return Path(text.partition(":")[0]).suffix.lower() in (*PICTURES, ARRAY)


@dataclass(frozen=True, slots=True)
class Policy:
    """The permissions for building a checkpoint's objects."""

    # classes or functions, `package.module.Class` or `package.module.*`
    allow: tuple[str, ...] = ()
    # classes that moved since the file was written, (old, new)
    aliases: tuple[tuple[str, str], ...] = ()
    trust: bool = False  # whether torch's full unpickler may run any code that the file holds
    # whether a file's bytes are compared with its checksums before they are used
    checksum: bool = True
    # most bytes of weights to read from a file that cannot be mapped: of larger weights only the
    # shapes are read; None: no limit
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that a command works on."""

    file: Path
    policy: Policy = Policy()  # permissions for building its objects
    # `package.module:callable` or `file.py:callable` from the command line, or None
    factory: str | None = None
    # one dummy call from the command line; empty: the recipe's
    inputs: "tuple[TensorInput, ...]" = ()
    # names of the file that are others in the model, each renaming applied in turn
    renames: tuple[Rename, ...] = ()
    find_input: bool = False  # whether a dummy input is looked for, also where the recipe has one
    # files of one real call, pictures or arrays; empty for a dummy one
    input_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layers:
    """The modules whose outputs are described on a real input, and where they are written.

    Args:
        wanted: Return whether a module's path is one of them; None for shapes alone.
        out: The safetensors file for the outputs; None for none.
        force: Whether it may exist.
    """

    wanted: Callable[[str], bool] | None = None
    out: Path | None = None
    force: bool = False


ALL_SHAPES = Layers()


@dataclass(frozen=True, slots=True)
class Rework:
    """A file to be written again with the modules of earlier swaps otherwise, without a recipe."""

    subject: Subject
    out: Path | None = None  # file or folder to write; None for a dry run
    force: bool = False  # whether an existing `out` may be replaced
    partial: bool = False  # whether sites that cannot be changed may stay as they are
    at_one: bool = False  # whether gates that are not 1 count as 1
    # whether batch norms and branches of new modules go into the layers before and beside them
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A swap to be done or checked."""

    subject: Subject
    recipe: "Recipe"
    out: Path | None = None  # file or folder to write; None for a check or a dry run
    force: bool = False  # whether an existing `out` may be replaced
    # whether everything is examined, as `verify.thorough` in the recipe says
    thorough: bool = False
    fast: bool = False  # whether the passes alone are run, and nothing is examined
    # bytes that a dummy pass may take by prediction; None: the memory of the machine
    max_memory: int | None = None
    strict: bool = False  # whether what is only warned of fails
    # what the new modules learn from before they are written, as `modswap heal` takes it; empty for
    # a swap alone
    heal: str = ""
    healing: "HealingRequest | None" = None  # what is asked of it; None for nothing
    view: bool = False  # whether the outcome has the modules before and after, for pages
    image: Path | None = None  # a picture over which a page draws the routing of new modules
    # where a check reads the weights and runs; empty or `meta`: on shapes alone
    device: str = ""


@dataclass(frozen=True, slots=True)
class CodeJob:
    """A swap whose change of the model's own source is asked for."""

    subject: Subject
    recipe: "Recipe | None" = None  # None: the swap that the file records inside
    names: tuple[tuple[str, str], ...] = ()  # paths of modules, and the names that they get
    out: Path | None = None  # file to write with these names
    force: bool = False  # whether an existing `out` may be replaced


@dataclass(frozen=True, slots=True)
class HealJob:
    """A swapped file whose new modules are to compute what the old ones of another file did.

    Args:
        subject: The swapped file.
        against: The file before the swap.
        data: What the samples are read from: a folder, a file, `file.py:callable` or `none`.
        request: What is asked of the healing.
        out: File or folder to write; None for a dry run.
        force: Whether an existing `out` may be replaced.
        resume: Whether to go on where a run was broken off, by the file that it left beside `out`.
        view: Whether the outcome has what pages show.
        image: A picture over which a page draws the routing of new modules; None for a sample.
    """

    subject: Subject
    against: Path
    data: str
    request: "HealingRequest"
    out: Path | None = None
    force: bool = False
    resume: bool = False
    view: bool = False
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class SweepJob:
    """A file in which new modules are tried at every site of a rule, one at a time.

    Args:
        subject: The file.
        data: What the samples are read from: a folder, a file, `file.py:callable` or `none`.
        recipe: A recipe of one rule, which selects the sites.
        request: The wishes about samples, and about the healing of the best trials.
        modules: Names of the new modules.
        grid: The options that are varied, each with its values.
        choice: How many sites are to be chosen, under which budgets; None for none.
        resume: The file that keeps the results, also of an earlier run; None for none.
        jobs: The most processes to run at once.
        heal_best: How many trials with the smallest errors are healed.
        ray: Address of the Ray cluster that runs the trials; empty for none.
    """

    subject: Subject
    data: str
    recipe: "Recipe"
    request: "HealingRequest"
    modules: tuple[str, ...] = ()
    grid: "tuple[tuple[str, tuple[Any, ...]], ...]" = ()
    choice: "ChoiceRequest | None" = None
    resume: Path | None = None
    jobs: int = 1
    heal_best: int = 0
    ray: str = ""

"""Check recipes: one in this process, several in worker processes; torch is imported only there."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.renames import Rename
from modswap.core.asked.source import RuleText
from modswap.core.asked.used_paths import INPUT, UsedPath, recipe_files
from modswap.core.errors import BugError, CheckpointError, ModswapError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.core.raised import error_of_model
from modswap.ops.jobs.workers import Event, Task, Workers, cores

if TYPE_CHECKING:
    from modswap.core.asked.recipe import Recipe, TensorInput


@dataclass(frozen=True, slots=True)
class Request:
    """A recipe to be checked."""

    recipe: str  # the recipe's file, or `-` for standard input
    file: Path | None = None  # the checkpoint; None for the checkpoint that the recipe names
    policy: Policy = field(default_factory=Policy)  # classes that the checkpoint may build
    factory: str | None = None  # callable that builds the model, from the command line, or None
    # the dummy call from the command line; empty for the recipe's own
    inputs: "tuple[TensorInput, ...]" = ()
    renames: tuple[Rename, ...] = ()  # names of the file that are others in the model
    thorough: bool = False  # whether examinations run without bounds on their work
    fix: bool = False  # whether to edit the recipe where a small edit makes the check pass
    max_memory: int | None = None  # bytes that a dummy pass may take
    strict: bool = False  # whether warnings fail
    rule: RuleText | None = None  # the recipe of the command line, in place of a file
    fast: bool = False  # whether the passes alone are run
    find_input: bool = False  # whether a dummy input is looked for, also where the recipe has one
    view: bool = False  # whether the outcome has the modules before and after, for pages
    device: str = ""  # where the weights are read and run; empty or `meta`: on shapes alone


def job_of(request: Request) -> Job:
    """Read the recipe of a request and return the check to run.

    Raises:
        ModswapError: If the recipe cannot be read, is wrong, or neither it nor the request names a
            checkpoint.
    """
    from modswap.ops.recipes import read_recipe, recipe_of_options

    rule = request.rule
    recipe = read_recipe(request.recipe) if rule is None else recipe_of_options(rule)
    file = request.file or _own_checkpoint(recipe)
    subject = Subject(
        file,
        request.policy,
        request.factory,
        request.inputs,
        request.renames,
        request.find_input,
    )
    return Job(
        subject,
        recipe,
        thorough=request.thorough,
        fast=request.fast,
        max_memory=request.max_memory,
        strict=request.strict,
        view=request.view,
        device=request.device,
    )


def _own_checkpoint(recipe: "Recipe") -> Path:
    name = recipe.source.name
    if recipe.checkpoint is None:
        fix = f"add `checkpoint: …` to it, or call `modswap check FILE -c {name}`"
        raise UsageError("the recipe names no checkpoint", name, fix)
    return Path(recipe.source.folder, recipe.checkpoint)


def paths_of(requests: Sequence[Request]) -> Iterator[UsedPath]:
    """Yield the files that checks will read, as far as their recipes can be read."""
    from modswap.io.recipe.reader import read_recipe

    for request in requests:
        if not Path(request.recipe).is_file():
            continue  # a pipe can be read once
        with suppress(ModswapError):  # the check itself reports it
            recipe = read_recipe(request.recipe)
            yield from recipe_files(recipe)
            if request.file is None:
                yield UsedPath(INPUT, _own_checkpoint(recipe))


def check_one(request: Request, progress: Progress) -> Outcome:
    """Check a recipe in this process; an error that stops the check is the outcome's `error`."""
    from modswap.ops.jobs.repair import check_and_repair

    checkpoint = str(request.file or "")
    try:
        job = job_of(request)
        checkpoint = str(job.subject.file)
        return check_and_repair(job, progress, fix=request.fix)
    except ModswapError as error:
        return Outcome("check", checkpoint, request.recipe, error=error)
    except (Exception, SystemExit) as error:
        of_model = error_of_model(error, checkpoint)
        if of_model is None:
            raise
        return Outcome("check", checkpoint, request.recipe, error=of_model)


def check_many(requests: Sequence[Request], jobs: int, progress: Progress) -> tuple[Outcome, ...]:
    """Check recipes in at most `jobs` processes at once; return the outcomes in the order given.

    If the process of a recipe dies, or a bug stops it, that recipe has failed and the others go on.
    When this function returns or raises, no worker process and no temporary file of one is left.
    """
    size = min(jobs, len(requests))
    # Python imports a name once, so recipes of two folders would share one `nets.py`
    tasks = [Task(one, str(Path(one.recipe).resolve().parent)) for one in requests]
    outcomes: dict[int, Outcome] = {}
    work = partial(_check_in_worker, max(1, cores() // size))
    with Workers(work, tasks, size) as workers:
        for event in workers.events():
            request = requests[event.task]
            if event.kind == "progress":
                progress(f"{request.recipe}: {event.content}")
            elif event.kind == "done":
                outcomes[event.task] = event.content
            else:
                error = _bug(request, event) if event.kind == "bug" else _lost(request, event, size)
                checkpoint = str(request.file or "")
                outcomes[event.task] = Outcome("check", checkpoint, request.recipe, error=error)
    return tuple(outcomes[index] for index in range(len(requests)))


def _check_in_worker(threads: int, request: Request, progress: Progress) -> Outcome:
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    return check_one(request, progress)


def _bug(request: Request, event: Event) -> BugError:
    exception = event.content.rstrip().rpartition("\n")[2]
    fix = "report it with the traceback, the command and the recipe"
    error = BugError(f"a bug of modswap: {exception}", request.recipe, fix)
    error.traceback = event.content
    return error


def _lost(request: Request, event: Event, size: int) -> CheckpointError:
    """Return the error of a recipe whose process died."""
    reason = f"its process {event.content}"
    fix = f"check it alone to see why: `modswap check {request.recipe}`"
    if reason.endswith("SIGKILL"):
        reason += ", as the system does where memory runs out"
        fix = "check fewer at once: `--jobs 1`" if size > 1 else "give it more memory"
    return CheckpointError(reason, request.recipe, fix)

"""`modswap heal`: new modules learn to compute what the old ones did, without labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli import healing, options
from modswap.cli.outcomes import finish
from modswap.cli.session import Session
from modswap.core.asked.healing import GOAL, HealingRequest, stages_of
from modswap.core.asked.used_paths import RESUME, UsedPath, healing_files, resume_file
from modswap.core.healed.healing import STAGES

if TYPE_CHECKING:
    from modswap.core.asked.job import HealJob

Against = Annotated[
    Path,
    typer.Option(
        "--against", metavar="ORIGINAL", help="The file before the swap.", show_default=False
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="D",
        help="Inputs to learn from, no labels: a folder of pictures, .npy, .npz, .safetensors, "
        ".txt, file.py:callable; none draws pictures.",
        show_default=False,
    ),
]
Stages = Annotated[
    str | None,
    typer.Option(
        "--stages",
        metavar="NAMES",
        help=f"Run these alone: {','.join(STAGES)}. Without it the last two run only where "
        "the agreement is short of the goal.",
        show_default=False,
    ),
]
Damp = Annotated[
    float,
    typer.Option(
        "--damp",
        metavar="S",
        min=1.0,
        help="Make a new module's own mechanism S times weaker beside the linear map in it: "
        "nearer to the old module, and less of the new one.",
    ),
]
Until = Annotated[
    float,
    typer.Option("--until", metavar="A", min=0.0, max=1.0, help="The agreement to reach."),
]
Metric = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="top-1, dice, iou, boxes, cosine or error; chosen by the outputs if left out.",
        show_default=False,
    ),
]
Evaluate = Annotated[
    str,
    typer.Option(
        "--evaluate",
        metavar="FILE.py:CALLABLE",
        help="Your own metric, called with each model; reported, and no stage goes by it.",
        show_default=False,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        metavar="M",
        min=0.0,
        help="End the fitted stages in time; such a run does not repeat to the same bits.",
        show_default=False,
    ),
]
Everything = Annotated[
    bool,
    typer.Option("--all", help="Let the last stage change all weights, others at a small rate."),
]
Room = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="The most memory, 8GiB or 500MB, in which a fit keeps inputs and targets of a site; "
        "more goes to a temporary file. A quarter of the free memory if left out.",
        show_default=False,
    ),
]
Shard = Annotated[
    bool,
    typer.Option(
        "--shard",
        help="Under torchrun: let each process hold a part alone of the weights, gradients and "
        "moments of the stage `end`.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where a run was broken off, by OUT.resume that it left."),
]


def heal(
    context: typer.Context,
    file: options.File,
    against: Against,
    data: Data,
    output: options.Output = None,
    stages: Stages = None,
    damp: Damp = 1.0,
    until: Until = GOAL,
    steps: healing.Steps = None,
    minutes: Minutes = None,
    everything: Everything = False,
    metric: Metric = "",
    evaluate: Evaluate = "",
    samples: healing.Samples = 1024,
    seed: healing.Seed = 0,
    size: healing.Size = None,
    mean: healing.Mean = None,
    std: healing.Std = None,
    bypass: healing.Bypass = False,
    batch: healing.Batch = 32,
    device: healing.Device = "cpu",
    max_memory: Room = None,
    shard: Shard = False,
    resume: Resume = False,
    inputs: options.Input = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    no_checksum: options.NoChecksum = False,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    image: options.Image = None,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Bring swapped modules back to what the old ones computed, without labels."""
    from modswap.report import REPORTS

    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, [], model, output)
    session.reads += _read(data, against, evaluate, output)
    options.check_format(session, form, REPORTS)
    options.refuse_idle(output, dry_run=dry_run)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    subject = options.subject(file, policy, model, inputs, options.renames_of(rename, strip_prefix))
    request = HealingRequest(
        stages=STAGES if stages is None else stages_of(stages),
        chosen=stages is not None,
        damp=damp,
        until=until,
        steps=steps,
        minutes=minutes,
        everything=everything,
        metric=metric,
        evaluate=evaluate,
        samples=samples,
        seed=seed,
        batch=batch,
        device=device,
        max_memory=options.memory_of(max_memory),
        bypass=bypass,
        shard=shard,
        **healing.of_pictures(size, mean, std),
    )

    from modswap.core.asked.job import HealJob

    shown = options.wants_view(session), options.note_image(session, image)
    out = None if dry_run else output
    _run(session, HealJob(subject, against, data, request, out, force, resume, *shown))


def _run(session: Session, job: "HealJob") -> None:
    options.look_at_paths(session, force=job.force, writes=job.out is not None)

    from modswap.ops.jobs.heal import heal_file

    with session.guarded() as progress:
        outcome = heal_file(job, progress)
    finish(session, [outcome])


def _read(data: str, against: Path, evaluate: str, output: Path | None) -> list[UsedPath]:
    """Return the files that a healing reads beside its own."""
    found = list(healing_files(data, against, evaluate))
    return [*found, *([UsedPath(RESUME, resume_file(output))] if output is not None else [])]

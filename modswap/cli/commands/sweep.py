"""`modswap sweep`: where in a model which new module pays."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import completion, healing, one_rule, options
from modswap.cli.sweeping import WITH, asked_of, finish_sweep
from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.used_paths import healing_files
from modswap.core.errors import UsageError

Match = Annotated[
    list[str] | None,
    typer.Option(
        "--match",
        metavar="PATTERN",
        help="Modules to replace, one at a time; may be repeated.",
        show_default=False,
    ),
]
With = Annotated[
    list[str] | None,
    typer.Option(
        WITH,
        metavar="MODULE",
        help="The new module: a name of `modswap catalogue`, or package.module:Class; may be "
        "repeated.",
        show_default=False,
        autocompletion=completion.modules,
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="OPTION=A,B",
        help="An argument of the new module and its values to try; may be repeated.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="D",
        help="Inputs to learn from, no labels, as `modswap heal` takes them.",
        show_default=False,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="START",
        help="How the new weights begin: fresh or inherit.",
        show_default=False,
        autocompletion=lambda incomplete: completion.starts(incomplete)[:2],
    ),
]
Choose = Annotated[
    str | None,
    typer.Option(
        "--choose",
        metavar="K",
        help="Choose K sites, or K+ for K or more, one trial each, with the least sum of errors.",
        show_default=False,
    ),
]
MaxFlops = Annotated[
    str | None,
    typer.Option(
        "--max-flops",
        metavar="N",
        help="With --choose: the most FLOPs of a pass of the swapped model, 4.1G.",
        show_default=False,
    ),
]
MaxParams = Annotated[
    str | None,
    typer.Option(
        "--max-params",
        metavar="N",
        help="With --choose: the most parameters of the swapped model, 25M.",
        show_default=False,
    ),
]
MaxLatency = Annotated[
    float | None,
    typer.Option(
        "--max-latency",
        metavar="MS",
        min=0.0,
        help="With --choose: the most milliseconds of a pass, as the sum over the sites.",
        show_default=False,
    ),
]
SaveRecipe = Annotated[
    Path | None,
    typer.Option(
        "--save-recipe",
        metavar="FILE",
        help="With --choose: write the recipe of the chosen sites.",
        show_default=False,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.svg",
        help="Draw the errors against a cost, and the trials that no other one beats in both.",
        show_default=False,
    ),
]
PlotCost = Annotated[
    str,
    typer.Option("--plot-cost", metavar="NAME", help="flops, params, memory or latency."),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="FILE",
        help="Keep the results there, and do not run again what it holds.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int,
    typer.Option("-j", "--jobs", metavar="N", min=1, help="The most processes to run at once."),
]
Ray = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run the trials on this Ray cluster: HOST:PORT, or auto for that of this machine.",
        show_default=False,
    ),
]
HealBest = Annotated[
    int,
    typer.Option(
        "--heal-best",
        metavar="K",
        min=0,
        help="Heal the K trials with the smallest errors, and report the agreement.",
    ),
]


def sweep(
    context: typer.Context,
    file: options.File,
    match: Match = None,
    with_: With = None,
    data: Data = None,
    settings: one_rule.Settings = None,
    grid: Grid = None,
    exclude: one_rule.Exclude = None,
    classes: one_rule.Classes = None,
    expect: one_rule.Expect = None,
    adapt: one_rule.Adapt = False,
    start: Start = None,
    choose: Choose = None,
    max_flops: MaxFlops = None,
    max_params: MaxParams = None,
    max_latency: MaxLatency = None,
    save_recipe: SaveRecipe = None,
    heal_best: HealBest = 0,
    steps: healing.Steps = None,
    plot: Plot = None,
    plot_cost: PlotCost = "flops",
    resume: Resume = None,
    jobs: Jobs = 1,
    ray: Ray = "",
    samples: healing.Samples = 512,
    seed: healing.Seed = 0,
    size: healing.Size = None,
    mean: healing.Mean = None,
    std: healing.Std = None,
    batch: healing.Batch = 32,
    device: healing.Device = "cpu",
    inputs: options.Input = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    no_checksum: options.NoChecksum = False,
    form: options.FormatOrPage = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Try new modules at every site, one at a time: what each costs, and what it recovers."""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, [], model)
    options.check_format(session, form, ("table", "json", "html"))
    session.by_options = True
    # by `asked_of`
    del (match, with_, settings, exclude, classes, expect, adapt, start, grid, choose, max_flops,
         max_params, max_latency, save_recipe, plot, plot_cost)  # fmt: skip
    asked = asked_of(context.params)
    asked.texts.note(session, resume)
    if data is None:
        what = "there are no data to learn from"
        raise UsageError(what, "--data", "name a folder or a file; `--data none` draws them")
    session.reads += healing_files(data)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(file, policy, model, inputs, renames)
    numbers = healing.of_pictures(size, mean, std)
    request = HealingRequest(
        samples=samples, seed=seed, batch=batch, device=device, steps=steps, **numbers
    )
    options.look_at_paths(session)

    from modswap.core.asked.job import SweepJob
    from modswap.ops.jobs.sweep import sweep_file

    job = SweepJob(
        subject, data, asked.recipe(), request, asked.modules, asked.grid, asked.choice,
        resume, jobs, heal_best, ray,
    )  # fmt: skip
    with session.guarded() as progress:
        found = sweep_file(job, progress)
    finish_sweep(session, found, asked.texts)

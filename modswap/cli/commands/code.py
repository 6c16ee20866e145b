"""`modswap code`: how the model's own source looks after a swap."""

import typer

from modswap.cli import one_rule, options
from modswap.cli.session import note


def code(
    context: typer.Context,
    file: options.File,
    config: options.Config = None,
    match: one_rule.Match = None,
    after: one_rule.After = None,
    before: one_rule.Before = None,
    around: one_rule.Around = None,
    with_: one_rule.With = None,
    settings: one_rule.Settings = None,
    exclude: one_rule.Exclude = None,
    classes: one_rule.Classes = None,
    expect: one_rule.Expect = None,
    adapt: one_rule.Adapt = False,
    share: one_rule.Share = False,
    start: one_rule.Start = None,
    save_recipe: one_rule.SaveRecipe = None,
    inputs: options.Input = None,
    model: options.Model = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show how the model's source looks after a swap, as a diff that is proved."""
    # by `chosen`
    del (match, after, before, around, with_, settings, exclude, classes, expect,
         adapt, share, start, save_recipe)  # fmt: skip
    session = options.begin(context, file, quiet=quiet, verbose=verbose, no_color=no_color)
    chosen = one_rule.chosen(context, session)
    options.note_paths(session, [config], model)
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(None, strip_prefix)
    subject = options.subject(file, policy, model, inputs, renames)

    from modswap.core.asked.job import CodeJob
    from modswap.ops.code.job import code_change
    from modswap.report.code.diff import summary, unified

    recipe = chosen.recipe() if chosen.config is not None or chosen.rule is not None else None
    with session.guarded() as progress:
        change = code_change(CodeJob(subject, recipe), progress)
    session.emit(unified(change))
    if not session.quiet:
        for line in summary(change).splitlines():
            note(line)

"""The next steps that a page names, with the command of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modswap.core.healed.healing import Healing
from modswap.core.kept.outcome import Outcome
from modswap.core.words.printable import tame
from modswap.report.web.again import loading, shell_line, typed


@dataclass(frozen=True, slots=True)
class NextStep:
    """A step in words; its command is empty where there is none."""

    what: str
    command: str = ""


def next_steps(outcome: Outcome, args: Sequence[str] = ()) -> tuple[NextStep, ...]:
    """Return the steps after an outcome, the first one first.

    `args` are the words of the command that was typed; empty where there was none.
    """
    return tuple(_failing(outcome) if not outcome.ok else _holding(outcome, args))


def _failing(outcome: Outcome) -> Iterator[NextStep]:
    errors = outcome.error.all if outcome.error is not None else ()
    fixes = dict.fromkeys(error.fix for error in errors if error.fix)
    for fix in [*fixes][:3]:
        yield NextStep(fix[0].upper() + fix[1:])
    if not fixes:
        yield NextStep("See the failed checks below")


def _holding(outcome: Outcome, args: Sequence[str]) -> Iterator[NextStep]:
    if outcome.written is None and outcome.command in ("check", "replace"):
        _, *words = typed(outcome, args)
        yield NextStep(
            "Write the swapped file", shell_line("modswap", "replace", *words, "-o", "OUT")
        )
    out = str(outcome.written.file) if outcome.written is not None else "OUT"
    starts = {site.start for site in outcome.sites}
    if outcome.healing is not None:
        yield _after_healing(outcome.healing, out)
    elif starts == {"preserve"}:
        yield NextStep("Train: the new modules start behind gates of 0 and change nothing yet")
        yield NextStep(
            "Then fold the gates",
            shell_line("modswap", "finalize", out, *loading(args), "-o", "FINAL"),
        )
    elif "fresh" in starts:
        against = ("--against", outcome.checkpoint, "--data", "FOLDER")
        line = shell_line("modswap", "heal", out, *against, *loading(args), "-o", "HEALED")
        yield NextStep("Heal or train before use: the new weights are random", line)
    elif outcome.written is not None:
        yield NextStep("Use it, or train it further. In Python:", _loaded(out))


def _loaded(out: str) -> str:
    return f"modswap.load({tame(out)!r})"


def _after_healing(healing: Healing, out: str) -> NextStep:
    if healing.after.value >= healing.goal:
        reached = f"the goal of {healing.goal:g} is reached on {healing.held} samples"
        return NextStep(f"Use it: {reached}. In Python:", _loaded(out))
    found = f"{healing.after.metric} {healing.after.value:.3f}"
    return NextStep(f"Heal longer, or train: {found} is below the goal of {healing.goal:g}")

"""An outcome in one line."""

from dataclasses import dataclass

from modswap.core.healed.healing import Healing
from modswap.core.kept.outcome import Outcome
from modswap.report.healing import healing_words

OK, FAILED = "OK", "FAILED"


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict on an outcome, and its action in words."""

    ok: bool
    text: str

    @property
    def label(self) -> str:
        """Return the verdict in a word."""
        return OK if self.ok else FAILED


def headline_of(outcome: Outcome) -> Headline:
    """Return the outcome in one line."""
    seconds = f" ({outcome.seconds:.1f} s)" if outcome.seconds else ""
    if outcome.error is not None:
        about = ", ".join(filter(None, (outcome.recipe, outcome.checkpoint)))
        return Headline(ok=False, text=f"{about}{seconds}")
    sites = f"{len(outcome.sites)} site{'s' if len(outcome.sites) != 1 else ''}"
    return Headline(ok=True, text=f"{_done(outcome, sites)}{seconds}")


def _done(outcome: Outcome, sites: str) -> str:
    """Return the action of a command that held, in words; `sites` is their number."""
    if outcome.healing is not None and outcome.command == "heal":
        return _healed(outcome, outcome.healing, sites)
    if outcome.command == "revert":
        out = f"taken out of {outcome.checkpoint}"
        return f"{sites} {out}" if outcome.written else f"{sites} can be {out}; nothing was written"
    if outcome.command == "check":
        by = f" by {outcome.recipe}" if outcome.recipe else ""
        return f"the swap of {sites}{by} holds; nothing was written"
    if outcome.command == "finalize" and outcome.written is not None:
        return f"{sites} finalized in {outcome.checkpoint}"
    healed = f", {healing_words(outcome.healing)}" if outcome.healing is not None else ""
    if outcome.written is None:
        return f"the swap of {sites} holds{healed}; a dry run, nothing was written"
    return f"{sites} swapped in {outcome.checkpoint}{healed}"


def _healed(outcome: Outcome, healing: Healing, sites: str) -> str:
    dry = "" if outcome.written is not None else "; a dry run, nothing was written"
    count = len(healing.sites)
    if healing.exact:
        return f"{count} site{'s need' if count != 1 else ' needs'} no healing{dry}"
    if not outcome.sites:
        why = "broken off before" if healing.interrupted else "no stage brought"
        what = "anything was healed" if healing.interrupted else "it nearer to the original"
        return f"{outcome.checkpoint}: {why} {what}{dry}"
    return f"{sites} healed in {outcome.checkpoint}: {healing_words(healing)}{dry}"

"""A first recipe for a file: likely targets, their observed sizes, and a rule that holds."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from modswap.core.asked.job import Job, Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.kind_pattern import selection_of
from modswap.core.errors import ModswapError, ShapeError, UsageError
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.ops.apply import apply
from modswap.ops.first_input.find import first_pass
from modswap.ops.jobs.replace import check_file
from modswap.ops.jobs.starter.starter_text import Proposal, head, render, rules
from modswap.ops.jobs.starter.swap_targets import Kind, kinds_of
from modswap.ops.load.model import Loaded
from modswap.ops.outcomes import count_params, failure
from modswap.ops.recipes import parse_recipe
from modswap.ops.reopen import reopen
from modswap.ops.run.inputs import DummyCall
from modswap.ops.swap import prepare, verified
from modswap.ops.trace.sites import sites_of

# modules to try, in this order for maps, and in the other for tokens
MODULES = ("BiLevelRoutingAttention", "MultiHeadSelfAttention")
MAX_LOST_RATIO = 0.5  # of a model's parameters that a proposed rule may remove
MAX_LISTED = 6  # kinds beside the first
MAX_ROUNDS = 4  # of a kind, which loses the sites that fail in each
RULE_SECONDS = 120.0  # in which a rule that holds is looked for
LIST_SECONDS = 10.0  # in which further kinds are tried for the list
Attempt = Callable[[Recipe], ModswapError | None]


def starter_recipe(subject: Subject, progress: Progress = silent) -> str:
    """Return a commented recipe for a file; its rule was tried and holds.

    If the subject has no inputs, common ones are tried.

    Raises:
        ModswapError: If the file cannot be loaded, no input fits, or no target holds.
    """
    progress(f"loading {subject.file}")
    loaded = reopen(subject)
    progress("looking for an input that fits")
    first_input = first_pass(loaded, subject)
    call, model = first_input.calls[0].described(), loaded.model
    sites = sites_of(model, (first_input.traced,))
    kinds = kinds_of(model, sites)
    trials = _Trials(loaded, subject, call)
    progress("trying a rule")
    end = time.monotonic() + RULE_SECONDS
    passing = trials.passing(kinds, end)
    for first in passing:
        found = trials.checked([first, *trials.beside(first, kinds)])
        if found:
            return render(subject, call, found, "" if subject.inputs else first_input.record.note)
    raise trials.none(kinds, sites)


@dataclass
class _Trials:
    """Trials of rules on a model, which stays as it is."""

    loaded: Loaded
    subject: Subject
    call: DummyCall

    def __post_init__(self) -> None:
        modules = self.loaded.model.named_modules(remove_duplicate=False)
        self.classes = {path: type(module).__name__ for path, module in modules if path}
        self.errors: list[ModswapError] = []

    def passing(self, kinds: Sequence[Kind], end: float) -> Iterator[Proposal]:
        """Yield proposals whose passes hold, of all kinds and modules, until a time."""
        for kind in kinds:
            for module in MODULES[:: -1 if kind.sites[0].layout == "NLC" else 1]:
                if time.monotonic() > end:
                    return
                found = self._narrowed(kind, module, self._passes)
                if found is not None:
                    yield found

    def beside(self, first: Proposal, kinds: Sequence[Kind]) -> list[Proposal]:
        """Return proposals for the list of modules, whose passes hold, as far as the time goes.

        They are of the tier of the first, and none is inside another, or of the kind of another.
        """
        tier = (first.kind.tier, first.kind.adapt)
        rest = [one for one in kinds if (one.tier, one.adapt) == tier and one is not first.kind]
        apart: list[Proposal] = [first]
        for found in self.passing(rest[:MAX_LISTED], time.monotonic() + LIST_SECONDS):
            if not any(_nested(found, other) for other in apart):
                apart.append(found)
        return apart[1:]

    def checked(self, found: Sequence[Proposal]) -> list[Proposal]:
        """Return the proposals that a check of all of them passes, or the first alone, or none."""
        error = self._check(self._recipe(found))
        if error is None:
            return list(found)
        named = {one.where for one in error.all}
        if named.isdisjoint(site.path for site in found[0].sites) and len(found) > 1:
            return self.checked(found[:1])
        self.errors.append(error)
        alone = self._narrowed(found[0].kind, found[0].module, self._check, found[0].sites)
        return [] if alone is None else [alone]

    def _narrowed(
        self, kind: Kind, module: str, attempt: Attempt, sites: Sequence[Site] = ()
    ) -> Proposal | None:
        """Return the sites of a kind that a module can replace together; None for none.

        All sites are tried first, and then those that did not fail.
        """
        sites = sites or kind.sites
        for _ in range(MAX_ROUNDS):
            chosen = selection_of([site.path for site in sites], self.classes)
            found = Proposal(kind, tuple(sites), module, chosen)
            error = attempt(self._recipe([found]))
            if error is None:
                return found
            self.errors.append(error)
            sites = _without(sites, error)
            if not sites:
                break
        return None

    def _recipe(self, found: Sequence[Proposal]) -> Recipe:
        lines = [*head(self.subject, self.call), *rules(found)]
        return parse_recipe("\n".join(lines), "the starter recipe", ".")

    def _passes(self, recipe: Recipe) -> ModswapError | None:
        """Return the error of a recipe whose passes fail, or that removes too much; else None."""
        model = self.loaded.model
        old = dict(model.named_modules(remove_duplicate=False))
        params = count_params(model)
        try:
            prepared = prepare(model, recipe, unreal=True)
            with verified(model, prepared, silent) as standing:
                after = count_params(model)
        except ModswapError as error:
            return error
        apply(model, [((path,), old[path]) for paths, _ in prepared.placements for path in paths])
        lost = (params - after) / params
        if lost > MAX_LOST_RATIO:
            return ShapeError(f"it would remove {lost:.0%} of the model's parameters")
        return None if standing.verdict.ok else failure(standing.verdict)

    def _check(self, recipe: Recipe) -> ModswapError | None:
        """Return the error of `modswap check` with a recipe, or None."""
        try:
            subject = replace(self.subject, inputs=(), find_input=False)
            return check_file(Job(subject, recipe)).error
        except ModswapError as error:
            return error

    def _reason(self, sites: Sequence[Site]) -> str:
        """Return why the likeliest module is not replaced, as far as that is known."""
        if late := next((site for site in sites if site.other_layout == "LNC"), None):
            why = f"; {late.path!r} is not among them: it is given (length, batch, channels), and "
            return f"{why}these modules take the batch first"
        return f"; the first try: {self.errors[0].what}" if self.errors else ""

    def none(self, kinds: Sequence[Kind], sites: Sequence[Site]) -> UsageError:
        """Return the error of a model none of whose kinds holds."""
        same = [site for kind in kinds if not kind.adapt for site in kind.sites]
        others = sum(len(kind.sites) for kind in kinds) - len(same)
        names = " or ".join(MODULES)
        if same:
            which = f"none of {len(same)} modules that keep their shape can"
            which = "the one module that keeps its shape cannot" if len(same) == 1 else which
            what = f"{which} be replaced by {names}"
            what += ", nor one of the others with `adapt: true`" if others else ""
        elif others:
            what = f"none of {others} modules can be replaced by {names} with `adapt: true`, "
            what += "and no other keeps its shape"
        else:
            what = "no module of it takes and gives a map, or tokens, which another could take over"
        why = self._reason(sites)
        fix = "run `modswap tree --input …` to look around; `adapt: true` in a rule takes modules "
        fix += "that change channels or sizes, and a class of yours takes any"
        return UsageError(what + why, str(self.subject.file), fix)


def _nested(one: Proposal, other: Proposal) -> bool:
    """Return whether a site of a proposal is inside a site of another."""
    pairs = product(one.sites, other.sites)
    return any(
        f"{a.path}.".startswith(f"{b.path}.") or f"{b.path}.".startswith(f"{a.path}.")
        for a, b in pairs
    )


def _without(sites: Sequence[Site], error: ModswapError) -> tuple[Site, ...]:
    """Return the sites that an error does not name; if it names none of them, the last one."""
    named = {one.where for one in error.all}
    left = tuple(site for site in sites if named.isdisjoint(site.paths))
    if len(left) < len(sites):
        return left
    return (sites[-1],) if len(sites) > 1 else ()

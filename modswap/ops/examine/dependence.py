"""Examine whether outputs still depend on the inputs, and on no later or masked tokens."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from modswap.core.decided.dependence import InputChange
from modswap.core.finding import Finding
from modswap.ops.examine.alone.movement import change_by_input
from modswap.ops.examine.alone.pair import Pair
from modswap.ops.examine.alone.sites import finding_of, pairs, whole_model
from modswap.ops.examine.alone.tokens import seen_from_before, seen_through_mask
from modswap.ops.examine.bench import Bench


def dependence(bench: Bench) -> Iterator[Finding]:
    """Find ignored inputs, outputs that depend on later tokens, and masks without effect.

    Each argument and token of the calls of a site, and of the whole model, is changed; the outputs
    that change before and after the swap are compared.
    """
    failed = False
    picked = _picked(bench)
    for pair in pairs(bench):
        found = finding_of("dependence", pair, partial(_of_pair, picked=picked), bench)
        failed = failed or found.status == "failed"
        yield found
    if failed:  # the whole model would only repeat it
        yield Finding("dependence", "", "skipped", "a site fails it")
    else:
        yield finding_of("dependence", whole_model(bench), partial(_of_pair, picked=picked), bench)


def _picked(bench: Bench) -> Mapping[str, frozenset[str]]:
    """Return the inputs that rules with `input` do not pass on, by the path of their site.

    The model may then ignore inputs of its own: its path has an entry.
    """
    found: dict[str, frozenset[str]] = {}
    for built in bench.prepared.built:
        for site in built.sites if built.step.rule.input is not None else ():
            known = dict(enumerate(site.names))
            drops = built.blueprint.drops
            names = {known.get(int(n), n) if n.isdigit() else n for n in drops}
            found |= {site.path: frozenset(names), "": frozenset()}
    return found


def _of_pair(pair: Pair, *, picked: Mapping[str, frozenset[str]]) -> Finding:
    changes = [change_by_input(pair, index) for index in sorted(set(pair.inputs.same))]
    data = {"inputs": [change.cause for change in changes]}
    return (
        _ignored_input(pair, [change for change in changes if not _meant(pair, change, picked)])
        or _lost_causality(pair)
        or _lost_mask(pair)
        or Finding("dependence", pair.path, "passed", data=data)
    )


def _meant(pair: Pair, change: InputChange, picked: Mapping[str, frozenset[str]]) -> bool:
    """Return whether a rule says that an input is not passed on."""
    if not pair.path:
        return "" in picked
    return change.cause in picked.get(pair.path, frozenset())


def _ignored_input(pair: Pair, changes: Sequence[InputChange]) -> Finding | None:
    gone = [change.cause for change in changes if change.lost]
    if not gone:
        return None
    names = ", ".join(map(repr, gone))
    new = "new module" if pair.path else "swapped model"
    what = f"the {new} ignores {names}, on which the original's output depends"
    site = "this site" if pair.path else "the site that passes it on"
    fix = f"choose a module that takes it, or leave {site} out with `exclude`"
    return Finding("dependence", pair.path, "failed", what, fix, {"ignored": gone})


def _lost_causality(pair: Pair) -> Finding | None:
    seen = seen_from_before(pair)
    if seen is None:
        return None
    what = (
        f"causality is lost: token {seen.token} changes output {seen.output}, which lies before it"
    )
    fix = "choose a module that masks later tokens, such as SelfAttention with `mask: true`"
    return Finding("dependence", pair.path, "failed", what, fix, seen._asdict())


def _lost_mask(pair: Pair) -> Finding | None:
    seen = seen_through_mask(pair)
    if seen is None:
        return None
    output = "the output" if seen.output is None else f"output {seen.output}"
    what = (
        f"the mask is lost: token {seen.token} is masked and changes {output}, as it did not before"
    )
    fix = "choose a module that takes the mask, or one that treats each token alone"
    return Finding("dependence", pair.path, "failed", what, fix, seen._asdict())

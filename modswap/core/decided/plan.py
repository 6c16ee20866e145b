"""Deciding which sites each rule of a recipe selects, before anything is touched."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from modswap.core.asked.conditions import holds
from modswap.core.asked.patterns import Pattern, compile_pattern
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.keys import Conditions
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.source import Place
from modswap.core.decided.pattern_advice import (
    SHOWN_CLASSES,
    Advice,
    advice_for,
    class_advice,
    classes,
)
from modswap.core.errors import MatchError, together
from modswap.core.seen.site import Extent, Site, extent
from modswap.core.words.nearest import did_you_mean

MAX_NESTED_SHOWN = 3  # modules inside others of one rule that are named one by one
ADVICE = "run `modswap tree` to list the paths of this model"


@dataclass(frozen=True, slots=True)
class Step:
    """The work of a rule."""

    rule: Rule | Insert
    place: Place  # its place in the recipe, such as `("replace", 0)`
    where: str  # its place, `swap.yaml:7:5`
    sites: tuple[Site, ...]  # the sites that it selects, in the order of the model; at least one

    @property
    def key(self) -> str:
        """Return the key of the rule that holds its patterns."""
        return patterns_key(self.rule)


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a recipe on a model: a step for each rule, no site twice, none inside another."""

    steps: tuple[Step, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the paths of all selected sites."""
        return tuple(site.path for step in self.steps for site in step.sites)


def make_plan(recipe: Recipe, sites: Sequence[Site]) -> Plan:
    """Return which sites each rule selects; `sites` is every module but the model, in its order.

    Raises:
        MatchError: If a rule selects nothing or another number than it expects, a pattern of its
            `exclude` excludes nothing, or two rules select one site or a site inside another; all
            such errors at once.
    """
    errors: list[MatchError] = []
    steps: list[Step] = []
    for place, rule in recipe.rules:
        selection = _Selection(recipe, place, rule)
        where = selection.at(selection.key)
        steps.append(Step(rule, place, where, tuple(selection.select(sites))))
        errors += selection.errors
    if not errors:
        errors += _overlaps(steps)
    if errors:
        raise together(errors)
    return Plan(tuple(steps))


def patterns_key(rule: Rule | Insert) -> str:
    """Return the key of a rule that holds its patterns."""
    return rule.place if isinstance(rule, Insert) else "match"


class _Selection:
    """The selection of a rule, collecting its errors."""

    def __init__(self, recipe: Recipe, place: Place, rule: Rule | Insert) -> None:
        self.recipe = recipe
        self.place = place
        self.rule = rule
        # the key that holds the patterns
        self.key = patterns_key(rule)
        self.errors: list[MatchError] = []

    def at(self, *place: str | int) -> str:
        return self.recipe.at(*self.place, *place)

    def select(self, sites: Sequence[Site]) -> list[Site]:
        """Return the sites that the rule selects, and collect its errors."""
        hits = self._matched(sites)
        if self.errors:
            return []
        hits = self._not_excluded(hits)
        hits = self._of_class(hits)
        hits = self._where(hits)
        expected = self.rule.expect
        if hits and expected is not None and len(hits) != expected:
            found = ", ".join(site.path for site in hits[:8]) + (", …" if len(hits) > 8 else "")
            what = f"{_count(hits)}, expected {expected}: {found}"
            self._fail(("expect",), what, _expected(hits, expected, self.key))
        return hits

    def _matched(self, sites: Sequence[Site]) -> list[Site]:
        chosen: set[str] = set()
        for position, text in enumerate(self.rule.match):
            pattern = compile_pattern(text)
            found = [site.path for site in sites if _selects(pattern, site)]
            chosen.update(found)
            if not found:
                paths = [path for site in sites for path in site.paths]
                kinds = {site.short_class for site in sites}
                named = f"it is a class: `match: '**'` with `class: {text}` selects its modules"
                advice = advice_for(text, paths, named if text in kinds else ADVICE)
                self._fail((self.key, position), f"no module matches {text!r}", advice)
        return [site for site in sites if site.path in chosen]

    def _not_excluded(self, hits: list[Site]) -> list[Site]:
        for position, text in enumerate(self.rule.exclude):
            pattern = compile_pattern(text)
            left = [site for site in hits if not _selects(pattern, site)]
            if len(left) == len(hits):
                paths = [path for site in hits for path in site.paths]
                what = f"{text!r} excludes nothing that `{self.key}` selects"
                advice = advice_for(text, paths, "take it out, or correct it")
                self._fail(("exclude", position), what, advice)
            hits = left
        if not hits and not self.errors:
            what = f"`exclude` removes every module that `{self.key}` selects"
            self._fail(("exclude",), what, Advice("narrow `exclude`, or take it out"))
        return hits

    def _of_class(self, hits: list[Site]) -> list[Site]:
        names = self.rule.class_
        if not names or not hits:
            return hits
        left = [site for site in hits if any(is_class(site.class_name, name) for name in names)]
        if not left:
            there = sorted({site.short_class for site in hits})
            kinds = classes(hits) if len(there) > SHOWN_CLASSES else " or ".join(there)
            what = f"{_count(hits)} of class {kinds}, none is {' or '.join(names)}"
            advice = Advice(did_you_mean(names[0], there) or f"correct `class`, or `{self.key}`")
            if len(there) == 1:
                advice = Advice(f"set `class` to {there[0]}", (("class", there[0]),))
            self._fail(("class",), what, advice)
        return left

    def _where(self, hits: list[Site]) -> list[Site]:
        if self.rule.where is None or not hits:
            return hits
        left = [site for site in hits if satisfies(site, self.rule.where)]
        if not left:
            seen = "; ".join(f"{site.path} has {_facts(site)}" for site in hits[:4])
            wanted = _wanted(self.rule.where)
            self._fail(
                ("where",), f"{_count(hits)}, none with {wanted}: {seen}", Advice("widen `where`")
            )
        return left

    def _fail(self, place: Iterable[str | int], what: str, advice: Advice) -> None:
        """Collect an error at a key of the rule."""
        error = MatchError(what, self.at(*place), advice.fix, settings=advice.settings)
        self.errors.append(error)


def _expected(hits: Sequence[Site], expected: int, key: str) -> Advice:
    """Return how to select as many modules as a rule expects."""
    counts = Counter(site.short_class for site in hits)
    exact = [name for name, count in counts.items() if count == expected]
    fix = f"correct `expect`, or narrow `{key}`"
    if len(counts) > 1:
        fix += f"; of these there are {classes(hits)}"
    if len(exact) == 1:
        fix += f": `class: {exact[0]}` takes {expected}"
    return Advice(fix)


def _count(hits: Sequence[Site]) -> str:
    return "1 module matches" if len(hits) == 1 else f"{len(hits)} modules match"


def _selects(pattern: Pattern, site: Site) -> bool:
    return any(pattern.matches(path) for path in site.paths)


def is_class(class_name: str, wanted: str) -> bool:
    """Return whether a class has a name, bare or dotted.

    A dotted name may leave out inner modules, as public names do: `torch.nn.Conv2d` is
    `torch.nn.modules.conv.Conv2d`.
    """
    module, _, bare = class_name.rpartition(".")
    package, _, name = wanted.rpartition(".")
    return bare == name and (not package or f"{module}.".startswith(f"{package}."))


def satisfies(site: Site, conditions: Conditions) -> bool:
    """Return whether the sizes that the trace saw at a site meet every condition."""
    seen = _observed(site)
    sizes: dict[str, int | None] = {**(asdict(seen) if seen else {}), "calls": len(site.calls)}
    return all(holds(value, sizes.get(name)) for name, value in conditions if value is not None)


def _observed(site: Site) -> Extent | None:
    if site.input is None or site.layout is None:
        return None
    return extent(site.input.shape, site.layout)


def _facts(site: Site) -> str:
    seen = _observed(site)
    if seen is None:
        return f"{len(site.calls)} calls of unknown layout"
    if seen.height is None:
        return f"{seen.channels} channels, {seen.tokens} tokens"
    return f"{seen.channels} channels, {seen.height}x{seen.width}"


def _wanted(conditions: Conditions) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions if value is not None)


def _overlaps(steps: Sequence[Step]) -> Iterator[MatchError]:
    """Yield an error for every site that is selected twice or is inside another."""
    yield from _beside_replaced(steps)
    owner: dict[str, Step] = {}
    for step in steps:
        for site in step.sites if isinstance(step.rule, Rule) else ():
            for path in site.paths:
                if path in owner:
                    what = f"{path!r} is selected by the rule at {owner[path].where} already"
                    yield MatchError(what, step.where, "select each module by one rule only")
                    break
                owner[path] = step
    inside = [(path, outer) for path in owner if (outer := _outer(path, owner)) is not None]
    for step in steps:
        own = [(path, outer) for path, outer in inside if owner[path] is step]
        same = [path for path, outer in own if owner[outer] is step]
        if len(same) > MAX_NESTED_SHOWN:
            own = [pair for pair in own if owner[pair[1]] is not step]
            yield _catch_all(step, len(same))
        for path, outer in own:
            what = f"{path!r} is inside {outer!r}, which {_by(owner[outer], step)} replaces"
            fix = "select only one of the two: add the other to `exclude`"
            yield MatchError(what, step.where, fix, settings=(("exclude", path),))


def _beside_replaced(steps: Sequence[Step]) -> Iterator[MatchError]:
    """Yield an error for every module that others go beside, and that a rule replaces as well."""
    replacing = [step for step in steps if isinstance(step.rule, Rule)]
    owner = {path: step for step in replacing for site in step.sites for path in site.paths}
    for step in steps:
        for site in step.sites if isinstance(step.rule, Insert) else ():
            around = (place for path in site.paths for place in (path, *_parents(path)))
            found = next((place for place in around if place in owner), None)
            if found is not None:
                what = f"{site.path!r} would have a module beside it, and "
                what += f"is inside {found!r}, which " if found not in site.paths else "itself "
                what += f"is replaced by the rule at {owner[found].where}"
                fix = "leave it out of one of the two rules by `exclude`"
                yield MatchError(what, step.where, fix)


def _catch_all(step: Step, nested: int) -> MatchError:
    """Return the error of a rule that selects many modules inside others that it selects."""
    what = f"{_count(step.sites)}, {nested} of them inside others: {classes(step.sites)}"
    advice = class_advice(step.sites, step.rule.class_)
    return MatchError(what, step.where, advice.fix, settings=advice.settings)


def _outer(path: str, owner: Mapping[str, Step]) -> str | None:
    return next((parent for parent in _parents(path) if parent in owner), None)


def _by(outer: Step, inner: Step) -> str:
    return "the same rule" if outer is inner else f"the rule at {outer.where}"


def _parents(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path

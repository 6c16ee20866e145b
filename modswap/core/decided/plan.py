"""Deciding which sites each rule of a recipe selects, before anything is touched."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from modswap.core.asked.conditions import holds
from modswap.core.asked.patterns import Pattern, compile_pattern
from modswap.core.asked.recipe import Conditions, Recipe, Rule
from modswap.core.errors import MatchError, together
from modswap.core.finding import HERE, Settings
from modswap.core.seen.site import Extent, Site, extent
from modswap.core.words.nearest import in_question, nearest

ADVICE = "run `modswap tree` to list the paths of this model"


@dataclass(frozen=True, slots=True)
class Step:
    """The work of a rule."""

    rule: Rule
    index: int  # its position in the recipe, counted from 0
    where: str  # its place, `swap.yaml:7:5`
    sites: tuple[Site, ...]  # the sites that it selects, in the order of the model; at least one


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
    for index, rule in enumerate(recipe.replace):
        selection = _Selection(recipe, index, rule)
        steps.append(Step(rule, index, selection.at("match"), tuple(selection.select(sites))))
        errors += selection.errors
    if not errors:
        errors += _overlaps(steps)
    if errors:
        raise together(errors)
    return Plan(tuple(steps))


class _Selection:
    """The selection of a rule, collecting its errors."""

    def __init__(self, recipe: Recipe, index: int, rule: Rule) -> None:
        self.recipe = recipe
        self.index = index
        self.rule = rule
        self.errors: list[MatchError] = []

    def at(self, *place: str | int) -> str:
        return self.recipe.at("replace", self.index, *place)

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
            self._fail(
                ("expect",),
                f"{len(hits)} modules match, expected {expected}: {found}",
                "correct `expect`, or narrow `match`",
            )
        return hits

    def _matched(self, sites: Sequence[Site]) -> list[Site]:
        chosen: set[str] = set()
        for position, text in enumerate(self.rule.match):
            pattern = compile_pattern(text)
            found = [site.path for site in sites if _selects(pattern, site)]
            chosen.update(found)
            if not found:
                near = nearest(text, [path for site in sites for path in site.paths])
                self._fail(("match", position), f"no module matches {text!r}", ADVICE, near)
        return [site for site in sites if site.path in chosen]

    def _not_excluded(self, hits: list[Site]) -> list[Site]:
        for position, text in enumerate(self.rule.exclude):
            pattern = compile_pattern(text)
            left = [site for site in hits if not _selects(pattern, site)]
            if len(left) == len(hits):
                near = nearest(text, [path for site in hits for path in site.paths])
                what = f"{text!r} excludes nothing that `match` selects"
                self._fail(("exclude", position), what, "take it out, or correct it", near)
            hits = left
        if not hits and not self.errors:
            self._fail(("exclude",), "`exclude` removes every module that `match` selects", ADVICE)
        return hits

    def _of_class(self, hits: list[Site]) -> list[Site]:
        names = self.rule.class_
        if not names or not hits:
            return hits
        left = [site for site in hits if any(is_class(site.class_name, name) for name in names)]
        if not left:
            there = sorted({site.short_class for site in hits})
            what = f"{_count(hits)} of class {' or '.join(there)}, none is {' or '.join(names)}"
            settings: Settings = (("class", there[0]),) if len(there) == 1 else ()
            fix = f"set `class` to {there[0]}" if settings else ADVICE
            self.errors.append(MatchError(what, self.at("class"), fix, settings=settings))
        return left

    def _where(self, hits: list[Site]) -> list[Site]:
        if self.rule.where is None or not hits:
            return hits
        left = [site for site in hits if satisfies(site, self.rule.where)]
        if not left:
            seen = "; ".join(f"{site.path} has {_facts(site)}" for site in hits[:4])
            wanted = _wanted(self.rule.where)
            self._fail(("where",), f"{_count(hits)}, none with {wanted}: {seen}", "widen `where`")
        return left

    def _fail(
        self, place: Iterable[str | int], what: str, fix: str, near: Sequence[str] = ()
    ) -> None:
        """Collect an error at a key of the rule; near names go before the fix."""
        settings = tuple((HERE, name) for name in near)
        fix = in_question(near) or fix
        self.errors.append(MatchError(what, self.at(*place), fix, settings=settings))


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
    owner: dict[str, Step] = {}
    for step in steps:
        for site in step.sites:
            for path in site.paths:
                if path in owner:
                    what = f"{path!r} is selected by the rule at {owner[path].where} already"
                    yield MatchError(what, step.where, "select each module by one rule only")
                    break
                owner[path] = step
    for path, step in owner.items():
        outer = next((parent for parent in _parents(path) if parent in owner), None)
        if outer is not None:
            what = f"{path!r} is inside {outer!r}, which {_by(owner[outer], step)} replaces"
            fix = "select only one of the two: add the other to `exclude`"
            yield MatchError(what, step.where, fix, settings=(("exclude", path),))


def _by(outer: Step, inner: Step) -> str:
    return "the same rule" if outer is inner else f"the rule at {outer.where}"


def _parents(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path

"""The trials of a sweep: every site with every module and every combination of options."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from modswap.core.errors import UsageError
from modswap.core.swept.record import SiteTrial
from modswap.core.words.nearest import did_you_mean

MAX_TRIALS = 10_000
Grid = Mapping[str, Sequence[Any]]


def trials_of(
    sites: Sequence[str],
    modules: Mapping[str, Sequence[str] | None],
    settings: Mapping[str, Any],
    grid: Grid,
) -> tuple[SiteTrial, ...]:
    """Return the trials, site by site.

    Args:
        sites: Dotted names.
        modules: The names of the new modules, with the options that each has; None if unknown. A
            module is tried without the options that it does not have.
        settings: Options with one value.
        grid: Options with several.

    Raises:
        UsageError: If an option is given twice, or no module has it, or there are too many trials.
    """
    refuse_wrong(modules, settings, grid)
    variants = [(name, *one) for name, has in modules.items() for one in _args(has, settings, grid)]
    if len(sites) * len(variants) > MAX_TRIALS:
        what = f"{len(sites)} sites with {len(variants)} combinations are more than {MAX_TRIALS:,}"
        raise UsageError(f"{what} trials", "--grid", "select fewer sites, or try fewer values")
    return tuple(
        SiteTrial(site, name, args, base) for site in sites for name, args, base in variants
    )


def _args(
    has: Sequence[str] | None, settings: Mapping[str, Any], grid: Grid
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the varied arguments of a module in every combination, and the others."""
    own = [name for name in grid if has is None or name in has]
    base = {name: v for name, v in settings.items() if has is None or name in has}
    for values in product(*(grid[name] for name in own)):
        yield dict(zip(own, values, strict=True)), base


def refuse_wrong(
    modules: Mapping[str, Sequence[str] | None], settings: Mapping[str, Any], grid: Grid
) -> None:
    """Refuse options that no module has, values that are no list, and what is given twice.

    Raises:
        UsageError: If there is such an option.
    """
    for name, values in grid.items():
        _refuse_values(name, values, settings)
    known: dict[str, None] = {}
    for has in modules.values():
        if has is None:
            return  # the options of a class are seen when it is built
        known |= dict.fromkeys(has)
    for option, names in (("--set", settings), ("--grid", grid)):
        for name in names:
            _refuse_unknown(name, tuple(known), tuple(modules), option)


def _refuse_values(name: str, values: Any, settings: Mapping[str, Any]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        what = f"{name!r:.80} has {values!r:.40} in the place of a list of values"
        raise UsageError(what, "--grid", "give each option a list of values")
    if name in settings:
        raise UsageError(f"{name!r:.80} is set, and varied as well", "--grid", "keep one of them")


def _refuse_unknown(name: str, known: Sequence[str], modules: Sequence[str], option: str) -> None:
    if name not in known:
        have = f"{' and '.join(modules)} {'has' if len(modules) == 1 else 'have'}"
        fix = did_you_mean(name, known) or f"the options are {', '.join(known)}"
        raise UsageError(f"{have} no option {name!r:.80}", option, fix)

"""Fit a class that a recipe names as `package.module:Class` to a site."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import RecipeError, ShapeError, together
from modswap.core.seen.site import Layout, Site
from modswap.core.words.nearest import did_you_mean
from modswap.nn.catalogue.row import is_auto
from modswap.nn.custom.layout import Trial, find_layout
from modswap.nn.custom.observed import OBSERVED, SIZES, Observed, parameters
from modswap.nn.fit.inputs import called
from modswap.seeds import kept_random_state


def fit_custom(
    site: Site,
    cls: type[nn.Module],
    reference: str,
    args: Mapping[str, Any],
    *,
    adapt: bool,
    wants: Layout | None,
) -> Blueprint:
    """Return how to make a module of the user's own class for a site.

    Arguments that are left out or `auto` are taken from the site if their name is a usual name for
    channels or sizes; those that have a default, only if the class does not fit the site with it.
    The layout `wants` is found by trying where it is None.

    Raises:
        RecipeError: If an argument is unknown, or needed and neither given nor observed.
        ShapeError: If the class refuses its arguments, or cannot be fitted to the site.
    """
    called(site)
    given = {name: value for name, value in args.items() if not is_auto(value)}
    signature = _signature(cls)
    _check_arguments(site, reference, signature, args)
    observed = Observed(site, cls, reference)
    left_open = [name for name in dict.fromkeys((*args, *signature.needed)) if name not in given]
    choices = [observed.choice(name) for name in left_open]
    attempt = _ArgumentTrial(site, cls, reference, given, adapt=adapt, wants=wants)
    found = attempt.tried(choices)
    others = [] if isinstance(found, Blueprint) else list(observed.defaults(args))
    for more in _attempts(others):
        if isinstance(found, ShapeError):
            found = attempt.tried([*choices, *more])
    if isinstance(found, ShapeError):
        raise _named(found, others, observed.doubtful(given, found.what))
    return found


def _attempts(others: Sequence[Choice]) -> list[list[Choice]]:
    """Return the arguments to take from a site in place of defaults: few, then more of them."""
    channels = [choice for choice in others if choice.name not in SIZES]
    few = [channels] if channels and len(channels) < len(others) else []
    return [*few, list(others)] if others else []


@dataclass(frozen=True, slots=True)
class _ArgumentTrial:
    """A class that is fitted to a site with some arguments."""

    site: Site
    cls: type[nn.Module]
    reference: str  # the class's name in the recipe
    given: Mapping[str, Any]  # the recipe's arguments
    adapt: bool
    wants: Layout | None

    def tried(self, choices: Sequence[Choice]) -> Blueprint | ShapeError:
        """Return how to make the module with further arguments, or why it does not fit."""
        try:
            return self._fitted(choices)
        except ShapeError as error:
            return error

    def _fitted(self, choices: Sequence[Choice]) -> Blueprint:
        site, reference = self.site, self.reference
        complete = {**self.given, **{choice.name: choice.value for choice in choices}}
        module = _constructed(site, self.cls, reference, complete)
        found = find_layout(Trial(site, module, reference), self.wants, adapt=self.adapt)
        placed = [Choice("wants", found.wants, found.reason)] if found.reason else []
        return Blueprint(
            module=reference,
            args=complete,
            layout=site.layout if found.wants else None,
            wants=found.wants,
            ignores=found.ignores,
            adaptation=found.adaptation,
            choices=(*choices, *placed),
            keyword=found.keyword,
            repeats=found.repeats,
            drops=found.drops,
            grid=site.grid,
            changes=bool(site.changes),
        )


def _named(error: ShapeError, taken: Sequence[Choice], doubtful: Sequence[Choice]) -> ShapeError:
    """Return an error that names arguments whose values are others than the site's.

    Args:
        error: The error.
        taken: Arguments that were taken from the site in place of their defaults.
        doubtful: Arguments that may be the cause, with the values that may be the cure.
    """
    shown = "; ".join(f"{choice.name}: {choice.reason}" for choice in (*taken, *doubtful))
    what = f"{error.what} ({shown})" if shown else error.what
    values = ", ".join(f"{choice.name}: {choice.value}" for choice in doubtful)
    fix = f"set `args: {{{values}}}`, or {error.fix}" if doubtful else error.fix
    named = error.saying(what).with_fix(fix)
    named.settings = (*((choice.name, choice.value) for choice in doubtful), *error.settings)
    return named


@dataclass(frozen=True, slots=True)
class _Signature:
    """The names of the keyword arguments of a constructor."""

    known: tuple[str, ...]
    needed: tuple[str, ...]  # without a default
    takes_more: bool  # whether any other name is taken as well


def _signature(cls: type[nn.Module]) -> _Signature:
    known = parameters(cls)
    by_name = {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    }
    needed = tuple(n for n, parameter in by_name.items() if parameter.default is parameter.empty)
    takes_more = any(part.kind is part.VAR_KEYWORD for part in known.values())
    return _Signature(tuple(by_name), needed, takes_more)


def _check_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> None:
    """Refuse all arguments that are unknown, or missing and not observable."""
    errors = [
        *_unknown_arguments(site, reference, signature, args),
        *_missing_arguments(site, reference, signature, args),
    ]
    if errors:
        raise together(errors)


def _unknown_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> Iterator[RecipeError]:
    known = signature.known
    for name, value in args.items():
        if name not in known and not signature.takes_more:
            listed = f"it has {', '.join(known)}" if known else "it takes none"
            fix = did_you_mean(name, known) or listed
            yield RecipeError(f"{reference} has no argument {name!r}", site.path, fix)
        elif is_auto(value) and name not in OBSERVED:
            what = f"{name!r} of {reference} cannot be read from the site"
            yield RecipeError(what, site.path, f"give a value for `{name}` under `args`")


def _missing_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> Iterator[RecipeError]:
    for name in signature.needed:
        if name not in args and name not in OBSERVED:
            what = (
                f"{reference} needs {name!r}, which is not given and cannot be read from the site"
            )
            yield RecipeError(what, site.path, f"set `{name}` under `args`")


def _constructed(
    site: Site, cls: type[nn.Module], reference: str, args: Mapping[str, Any]
) -> nn.Module:
    """Return a module for the trial, without a change of the global random state."""
    try:
        with kept_random_state():
            return cls(**args).eval()
    except Exception as error:  # noqa: BLE001 - a class of the user's may raise anything
        shown = ", ".join(f"{name}={value!r}" for name, value in args.items())
        text = " ".join(str(error).split())[:200]
        what = f"{reference}({shown}) raised {type(error).__name__}: {text}"
        raise ShapeError(what, site.path, "correct `args`") from None

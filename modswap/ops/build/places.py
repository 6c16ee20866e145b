"""Find where rules put modules in beside others: the child's name, and the tensor that is meant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.plan import Plan, Step
from modswap.core.errors import MatchError, ModswapError, RecipeError, ShapeError, together
from modswap.core.seen.joint import Joint, Key, free_name, snake_case
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import Group, TensorInfo, Value
from modswap.nn import CATALOGUE
from modswap.nn.fit.inputs import called
from modswap.nn.inserted_site import refusal
from modswap.nn.insertion import Probe
from modswap.ops.apply import Placement, apply, module_at
from modswap.ops.build.folded_places import check_folds
from modswap.ops.run.describe import positional

MAX_SHOWN = 8  # tensors that an error names


@dataclass(frozen=True, slots=True)
class Spot:
    """A place beside a module, for one new module."""

    step: Step
    site: Site  # the module beside which it goes
    name: str  # of the new child
    joint: Joint

    @property
    def path(self) -> str:
        """Return the path of the new module."""
        return f"{self.site.path}.{self.name}"

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the path of the new module, and its aliases."""
        return tuple(f"{path}.{self.name}" for path in self.site.paths)


def spots_of(
    model: nn.Module, plan: Plan, recipe: Recipe, seen: Callable[[], Sequence[Site]]
) -> tuple[Spot, ...]:
    """Return every place beside a module that a plan's rules name; `seen` gives all modules.

    Raises:
        ShapeError: If no tensor is there, or it is not known which of several is meant.
        RecipeError: If a rule's `name` is that of an attribute of the module.
    """
    spots: list[Spot] = []
    errors: list[ModswapError] = []
    taken: dict[str, set[str]] = {}
    packing = _packing(model, seen()) if any(step.rule.beside for step in plan.steps) else ()
    for step in plan.steps:
        for site in step.sites if step.rule.beside else ():
            held = taken.setdefault(site.path, set())
            try:
                check_folds(model, site.path)
                _check_padding(packing, site)
                spots.append(_spot(module_at(model, site.path), step, site, recipe, held))
            except ModswapError as error:
                error.rule = step.where
                errors.append(error)
            else:
                held.add(spots[-1].name)
    if errors:
        raise together(errors)
    return tuple(spots)


def _packing(model: nn.Module, sites: Sequence[Site]) -> tuple[str, ...]:
    """Return the paths of torch's encoders that packed tokens by a padding mask in a pass."""
    return tuple(
        path
        for path, around in model.named_modules()
        if isinstance(around, nn.TransformerEncoder) and around.use_nested_tensor
        if any(_is_within(site.path, path) and _takes_padding(site) for site in sites)
    )


def _is_within(path: str, around: str) -> bool:
    return not around or path == around or path.startswith(f"{around}.")


def _takes_padding(site: Site) -> bool:
    given = (named for call in site.calls for named in call.kwargs)
    return any("padding_mask" in name and isinstance(one, TensorInfo) for name, one in given)


def _check_padding(packing: Sequence[str], site: Site) -> None:
    """Refuse a place inside torch's encoder that packs tokens by a padding mask.

    Raises:
        MatchError: With the encoder, beside which a module is safe.
    """
    for path in packing:
        if site.path != path and _is_within(site.path, path):
            name = repr(path) if path else "the model itself"
            what = f"it is inside {name}, torch's TransformerEncoder, which in evaluation packs "
            what += "tokens by the padding mask that it gets: no module can be beside its parts"
            plain = f"write the file with {path}.use_nested_tensor = False".replace(" .", " ")
            fix = f"put it in beside the whole encoder, {path}, or {plain}" if path else plain
            raise MatchError(what, site.path, fix)


def _spot(module: nn.Module, step: Step, site: Site, recipe: Recipe, taken: set[str]) -> Spot:
    """Return the place of a rule beside a module, which has the names `taken` already."""
    if wrong := refusal(module, site.path):
        raise wrong
    rule = step.rule
    if isinstance(rule, Rule):
        called(site)
        return Spot(step, site, _default_name(module, rule, taken), Joint("instead"))
    name = _name(module, rule, taken, recipe.at(*step.place, "name"))
    place = rule.place
    source = _source(module, site, rule.source) if place != "after" else ()
    target = _target(site, rule.target) if place != "before" else ()
    return Spot(step, site, name, Joint(place, source=source, target=target))


def _name(module: nn.Module, rule: Insert, taken: set[str], where: str) -> str:
    """Return the name of the new child."""
    if rule.name is None:
        return _default_name(module, rule, taken)
    if rule.name in {*dir(module)} - taken:
        what = f"{type(module).__name__} has an attribute {rule.name!r} already"
        raise RecipeError(what, where, "choose another `name`")
    return free_name(rule.name, taken)


def _default_name(module: nn.Module, rule: Rule | Insert, taken: set[str]) -> str:
    known = CATALOGUE.spelled(rule.with_) or rule.with_.rpartition(":")[2].rpartition(".")[2]
    return free_name(snake_case(known), {*dir(module), *taken})


def _source(module: nn.Module, site: Site, wanted: tuple[Key, ...]) -> tuple[Key, ...]:
    """Return the place of the input that is meant, in every call of a module."""
    paths = list(dict.fromkeys(_input_path(module, site, call, wanted) for call in called(site)))
    if len(paths) > 1:
        what = f"its calls give it {' and '.join(map(_shown, paths))}"
        raise ShapeError(what, site.path, "choose a module that is called in one way")
    return paths.pop()


def _input_path(
    module: nn.Module, site: Site, call: Call, wanted: tuple[Key, ...]
) -> tuple[Key, ...]:
    named: dict[Key, Value] = {**dict(enumerate(call.args)), **dict(call.kwargs)}
    if wanted:
        names = positional(module, len(call.args))
        first = names.index(str(wanted[0])) if wanted[0] in names else wanted[0]
        wanted = (first, *wanted[1:])
    found = {
        (key, *inner): tensor for key, value in named.items() for inner, tensor in _paths(value)
    }
    plain = [path for path in found if len(path) == 1]
    return _chosen(found, wanted, plain[:1], site, "input")


def _target(site: Site, wanted: tuple[Key, ...]) -> tuple[Key, ...]:
    """Return the place of the output that is meant, in every call of a module."""
    paths: list[tuple[Key, ...]] = []
    for call in called(site):
        found = dict(_paths(call.output))
        likely = [*found] if len(found) == 1 else []
        paths.append(_chosen(found, wanted, likely, site, "output"))
    paths = list(dict.fromkeys(paths))
    if len(paths) > 1:
        what = f"its calls return {' and '.join(map(_shown, paths))}"
        raise ShapeError(what, site.path, "choose a module that returns tensors in one way")
    return paths.pop()


def _chosen(
    found: Mapping[tuple[Key, ...], TensorInfo],
    wanted: tuple[Key, ...],
    likely: Sequence[tuple[Key, ...]],
    site: Site,
    key: str,
) -> tuple[Key, ...]:
    """Return the place that a rule names, or the only likely one, if a floating tensor is there."""
    if not wanted and not likely and len(found) == 1:
        likely = [*found]
    path = wanted or (likely[0] if likely else None)
    if path is None or path not in found:
        raise _no_tensor(found, path, site, key)
    if "float" not in found[path].dtype:
        what = f"its {key} {found[path]} holds no floating-point numbers"
        raise ShapeError(what, site.path, "choose another module, or another tensor of it")
    return path


def _no_tensor(
    found: Mapping[tuple[Key, ...], TensorInfo], path: tuple[Key, ...] | None, site: Site, key: str
) -> ShapeError:
    """Return the error for a place where no tensor is, or one of several; with those there are."""
    what = (
        f"its {key} is not a tensor" if path is None else f"its {key} {_shown(path)} is no tensor"
    )
    if not found:
        return ShapeError(f"{what}: there is none", site.path, "choose another module")
    listed = [f"{_shown(one)}: {tensor}" for one, tensor in found.items()][:MAX_SHOWN]
    fix = f"say which is meant: `{key}: {_yaml(next(iter(found)))}`"
    return ShapeError(f"{what}: there are {'; '.join(listed)}", site.path, fix)


def _paths(value: Value) -> Iterator[tuple[tuple[Key, ...], TensorInfo]]:
    """Yield the tensors inside a value, with the keys that lead to them."""
    if isinstance(value, TensorInfo):
        yield (), value
    elif isinstance(value, Group):
        listed = all(name == str(place) for place, name in enumerate(value.names))
        for place, (name, item) in enumerate(zip(value.names, value.items, strict=True)):
            for inner, tensor in _paths(item):
                yield (place if listed else name, *inner), tensor


def _shown(path: tuple[Key, ...]) -> str:
    return _yaml(path) if path else "the whole"


def _yaml(path: Sequence[Key]) -> str:
    """Return a place as a recipe says it."""
    return str(path[0]) if len(path) == 1 else f"[{', '.join(map(str, path))}]"


def open_spots(model: nn.Module, spots: Sequence[Spot]) -> Callable[[], None]:
    """Put a child that returns its input into every place; return a function that takes it out."""
    placements: list[Placement] = []
    for spot in spots:
        probe = Probe(spot.joint)
        probe.train(module_at(model, spot.site.path).training)
        placements.append((spot.paths, probe))
    return apply(model, placements)


def with_spots(plan: Plan, spots: Sequence[Spot], sites: Sequence[Site]) -> Plan:
    """Return a plan whose rules have the places as their sites, as a pass showed them."""
    seen = {site.path: site for site in sites}
    steps = []
    for step in plan.steps:
        own = [spot for spot in spots if spot.step is step]
        placed = tuple(_placed(seen[spot.path], spot) for spot in own)
        steps.append(replace(step, sites=placed) if own else step)
    return Plan(tuple(steps))


def _placed(site: Site, spot: Spot) -> Site:
    """Return a place as a site, of the dtype and device of the module beside it."""
    beside = spot.site
    dtype, device = site.dtype, site.device
    if beside.params:
        dtype, device = beside.dtype, beside.device
    return replace(site, dtype=dtype, device=device, beside=beside, joint=spot.joint)

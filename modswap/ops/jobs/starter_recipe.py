"""A first recipe for a file: likely targets, their observed sizes, and a rule that holds."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import Recipe, TensorInput
from modswap.core.errors import ModswapError, UsageError
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site, extent
from modswap.core.seen.values import difference
from modswap.core.words.printable import quoted, tame, without_commands
from modswap.ops.apply import apply
from modswap.ops.load.model import Loaded
from modswap.ops.outcomes import failure
from modswap.ops.recipes import parse_recipe
from modswap.ops.reopen import reopen
from modswap.ops.run.inputs import Case, DummyCall, example_calls
from modswap.ops.swap import prepare, verified
from modswap.ops.trace.passes import Trace, trace
from modswap.ops.trace.sites import sites_of

IMAGE_SIZES = (224, 256, 128, 64, 32, 512)  # tried in this order where no input is given
NAMES = ("attention", "attn", "gate", "se", "cbam", "scse", "eca", "mixer")
LISTED_TARGETS = 12  # in the recipe's comment
TRIED_TARGETS = 12  # of each kind
# modules to try, and arguments that a user may want to set
MODULES = {
    "BiLevelRoutingAttention": "{num_heads: 8, n_win: 7, topk: 4, auto_pad: true}",
    "MultiHeadSelfAttention": "{num_heads: 8}",  # where a class token prevents a map
}


@dataclass(frozen=True, slots=True)
class Target:
    """A site that a replacement could take."""

    site: Site
    likely: bool  # whether its name or class says that it is an attention or a gate


def starter_recipe(subject: Subject, progress: Progress = silent) -> str:
    """Return a commented recipe for a file; its rule was tried and holds.

    If the subject has no inputs, common image sizes are tried.

    Raises:
        ModswapError: If the file cannot be loaded, no input fits, or no target holds.
    """
    progress(f"loading {subject.file}")
    loaded = reopen(subject)
    progress("looking for an input that fits")
    traced, call = _first_pass(loaded.model, subject)
    targets = sorted(_targets(sites_of(loaded.model, (traced,))), key=lambda t: not t.likely)
    progress("trying a rule")
    site, module = _working(loaded, subject, call, targets)
    return _render(subject, call, site, module, targets)


def _first_pass(model: nn.Module, subject: Subject) -> tuple[Trace, DummyCall]:
    """Return the first pass that runs, and its input."""
    own = [call.described() for call in example_calls(model)]
    calls = [DummyCall(subject.inputs, {})] if subject.inputs else [*own, *_guesses(model)]
    failed: Trace | None = None
    for call in calls:
        traced = trace(model, Case(call), unreal=True)
        if traced.cause is not None:
            traced = trace(model, Case(call))
        if traced.cause is None:
            return traced, call
        failed = failed or traced
    tried = ", ".join(map(str, calls)) or "none, since no layer shows the shape of an input"
    why = f"; the first was refused: {failed.seen.error}" if failed else ""
    what = f"no dummy input fits; tried: {tried}{why}"
    raise UsageError(what, str(subject.file), "give one: `--input 1,3,224,224`")


def _guesses(model: nn.Module) -> Iterator[DummyCall]:
    """Yield inputs that the model's first layer accepts."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            channels = module.in_channels
            shapes = [(1, channels, size, size) for size in IMAGE_SIZES]
            yield from (DummyCall((TensorInput(shape=shape),), {}) for shape in shapes)
            return
        if isinstance(module, nn.Embedding):
            tokens = TensorInput(shape=(1, 16), dtype="int64")
            yield DummyCall((tokens,), {})
            return
        if isinstance(module, nn.Linear):
            shapes_2 = [(1, 16, module.in_features), (1, module.in_features)]
            yield from (DummyCall((TensorInput(shape=shape),), {}) for shape in shapes_2)
            return


def _targets(sites: Sequence[Site]) -> Iterator[Target]:
    """Yield the sites whose output is a map or tokens of the shape of their input."""
    for site in sites:
        seen, output = site.input, site.output
        if seen is None or output is None or site.layout is None:
            continue
        # an attention cannot take the place of a norm
        if site.params == 0 or "Norm" in site.short_class or difference(seen, output) is not None:
            continue
        words = _words(f"{site.path.rpartition('.')[2]} {site.short_class}")
        yield Target(site, not words.isdisjoint(NAMES))


def _words(name: str) -> set[str]:
    """Return the words of a name: `self_attn SEBlock` is self, attn, se, block."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _working(
    loaded: Loaded, subject: Subject, call: DummyCall, targets: Sequence[Target]
) -> tuple[Site, str]:
    """Return the first target whose swap holds, and the new module; the model stays as it is."""
    first: ModswapError | None = None
    likely = [target.site for target in targets if target.likely]
    others = [target.site for target in targets if not target.likely]
    for sites, module in product((likely[:TRIED_TARGETS], others[:TRIED_TARGETS]), MODULES):
        for site in sites:
            error = _tried(loaded.model, _recipe(subject, call, site, module))
            if error is None:
                return site, module
            first = first or error
    names = " or ".join(MODULES)
    what = f"none of {len(targets)} modules that keep their shape can be replaced by {names}"
    why = f"; the first try: {first.what}" if first else ""
    raise UsageError(what + why, str(subject.file), "run `modswap tree --input …` to look around")


def _tried(model: nn.Module, recipe: Recipe) -> ModswapError | None:
    """Return the error of a recipe that does not hold, or None; the model stays as it is."""
    old = dict(model.named_modules(remove_duplicate=False))
    try:
        prepared = prepare(model, recipe, unreal=True)
        with verified(model, prepared, silent) as standing:
            pass
    except ModswapError as error:
        return error
    apply(model, [((path,), old[path]) for paths, _ in prepared.placements for path in paths])
    return None if standing.verdict.ok else failure(standing.verdict)


def _recipe(subject: Subject, call: DummyCall, site: Site, module: str) -> Recipe:
    text = "\n".join([*_head(subject, call), *_rule(site, module)])
    return parse_recipe(text, "the starter recipe", ".")


def _head(subject: Subject, call: DummyCall) -> list[str]:
    lines = ["version: 1"]
    if subject.factory is not None:
        lines += ["model:", f"  factory: {_plain(subject.factory)}"]
    lines.append("inputs:")
    for value in call.args:
        dtype = "" if value.dtype == "float32" else f", dtype: {value.dtype}"
        lines.append(f"  - {{shape: {list(value.shape)}{dtype}}}")
    return lines


def _rule(site: Site, module: str) -> list[str]:
    return [
        "replace:",
        f"  - match: {_quoted(site.path)}",
        "    expect: 1",
        f"    with: {module}",
    ]


def _quoted(path: str) -> str:
    """Return a quoted YAML pattern that selects only this path."""
    special = bool(re.search(r"[*?\[\]{}\\\ud800-\udfff]", path)) or path.startswith("re:")
    if special and path.isprintable() and not {"'", "#"} & set(path):
        return f"'re:{_escaped(path)}'"
    return quoted(f"re:{_escaped(path)}" if special else path)


def _plain(text: str) -> str:
    """Return a text as YAML reads it, quoted if it has characters beyond those of most names."""
    return text if re.fullmatch(r"[\w./][\w./:-]*\w", text) else quoted(text)


def _escaped(path: str) -> str:
    # a recipe can hold no half of a character
    whole = re.sub("[\ud800-\udfff]", "\0", path)
    return "".join(f"\\{c}" if c in "*?[]{}.+()^$|\\" else c for c in whole).replace("\0", ".")


def _render(
    subject: Subject, call: DummyCall, site: Site, module: str, targets: Sequence[Target]
) -> str:
    """Return the recipe's text."""
    name = tame(subject.file.name)
    lines = [
        f"# A first recipe for {name}. The rule below was tried on it and holds.",
        f"#   modswap check {name} -c RECIPE                  # the dry run",
        f"#   modswap replace {name} -c RECIPE -o OUT         # the swap",
        "#",
        "# Modules whose output has the shape of their input, and that could be replaced:",
    ]
    listed = [(tame(t.site.path), tame(_seen(t.site))) for t in targets[:LISTED_TARGETS]]
    width = max(len(path) for path, _ in listed)
    lines += [f"#   {path:<{width}}  {seen}" for path, seen in listed]
    if len(targets) > LISTED_TARGETS:
        lines.append(
            f"#   … and {len(targets) - LISTED_TARGETS} more: modswap tree {name} --input …"
        )
    head = _head(subject, call)
    rule = _rule(site, module)
    lines += ["", *head, *rule]
    lines += [
        "    # args left out, or set to auto, are taken from the site; to choose:",
        f"    # args: {MODULES[module]}",
        '    # several modules at once: match: "**.*_attention", or a list of patterns',
        "    # one new module for all of them: share: true",
    ]
    return without_commands("\n".join(lines) + "\n")


def _seen(site: Site) -> str:
    seen = site.input
    if seen is None or site.layout is None:
        return site.short_class
    sizes = extent(seen.shape, site.layout)
    if sizes is None:
        return site.short_class
    size = f"{sizes.tokens} tokens" if sizes.height is None else f"{sizes.height}x{sizes.width}"
    return f"{site.short_class}, {site.layout}, {sizes.channels} channels, {size}"

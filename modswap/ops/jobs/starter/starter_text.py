"""The text of a first recipe."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.patterns import pattern_of
from modswap.core.asked.recipe import TensorInput
from modswap.core.decided.kind_pattern import Selection
from modswap.core.seen.site import Site, extent
from modswap.core.words.printable import quoted, tame, without_commands
from modswap.ops.jobs.starter.swap_targets import Kind
from modswap.ops.run.inputs import DummyCall

LISTED_TARGETS = 12  # of each kind, in the recipe's comment
# arguments that a user may want to set
EXAMPLES = {
    "BiLevelRoutingAttention": "{num_heads: 8, n_win: 7, topk: 4, auto_pad: true}",
    "MultiHeadSelfAttention": "{num_heads: 8}",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule that holds."""

    kind: Kind
    sites: tuple[Site, ...]  # those of the kind that the rule selects
    module: str  # name in the catalogue
    selection: Selection


def head(subject: Subject, call: DummyCall) -> list[str]:
    """Return the lines of a recipe before its rules."""
    lines = ["version: 1"]
    if subject.factory is not None:
        lines += ["model:", f"  factory: {_plain(subject.factory)}"]
    return [*lines, "inputs:", *_inputs(call)]


def _inputs(call: DummyCall) -> Iterator[str]:
    if len(call.args) == 1 and not call.kwargs and isinstance(call.args[0], TensorInput):
        yield f"  - {_value(call.args[0])}"
        return
    yield f"  - args: {_value(call.args)}"
    if call.kwargs:
        yield f"    kwargs: {_value(call.kwargs)}"


def _value(value: Any) -> str:
    """Return a value of a dummy input as YAML on one line."""
    if isinstance(value, TensorInput):
        fields = value.model_dump(mode="json", exclude_defaults=True)
        return f"{{{', '.join(f'{name}: {_value(one)}' for name, one in fields.items())}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_value(name)}: {_value(one)}' for name, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _plain(value)
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def rules(found: Sequence[Proposal]) -> list[str]:
    """Return the lines of the rules."""
    return ["replace:", *(line for one in found for line in _rule(one))]


def _rule(found: Proposal) -> list[str]:
    chosen = found.selection
    paths = {site.path for site in found.sites}
    patterns = [_path(text) if text in paths else quoted(text) for text in chosen.match]
    lines = [f"  - match: {_listed(patterns)}"]
    if chosen.exclude:
        lines.append(f"    exclude: {_listed(list(map(_path, chosen.exclude)))}")
    if chosen.class_:
        lines.append(f"    class: {_plain(chosen.class_)}")
    lines += [f"    expect: {len(found.sites)}", f"    with: {found.module}"]
    return [*lines, "    adapt: true"] if found.kind.adapt else lines


def _listed(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"[{', '.join(patterns)}]"


def _path(path: str) -> str:
    """Return a quoted YAML pattern that selects only this path."""
    pattern = pattern_of(path)
    if pattern != path and path.isprintable() and not {"'", "#"} & set(path):
        return f"'{pattern}'"
    return quoted(pattern)


def _plain(text: str) -> str:
    """Return a text as YAML reads it, quoted if it has characters beyond those of most names."""
    return text if re.fullmatch(r"[\w./][\w./:-]*\w", text) else quoted(text)


def render(subject: Subject, call: DummyCall, found: Sequence[Proposal], note: str = "") -> str:
    """Return the recipe's text: the first proposal is its rule, all of them are listed.

    `note` says how the dummy input was found.
    """
    name = tame(subject.file.name)
    first = found[0]
    changed = "Modules whose output differs from their input: a rule needs `adapt: true` for them."
    same = "Modules whose output has the shape of their input, and that were replaced in a trial:"
    allowed = _allowed(subject.policy)
    built = ["--model", subject.factory] if subject.factory is not None else []
    swap = _command("replace", name, "-c", "RECIPE", "-o", "OUT", *allowed)
    lines = [
        f"# A first recipe for {name}. The rule below was tried on it and holds.",
        f"#   {_command('check', name, '-c', 'RECIPE', *allowed):<{len(swap) + 9}}# the dry run",
        f"#   {swap}         # the swap",
        f"#   {_one_line(name, first, [*built, *allowed])}  # the same without a recipe",
        *_targets(same, [one for one in found if not one.kind.adapt]),
        *_targets(changed, [one for one in found if one.kind.adapt]),
        *(["#", f"# {note[:1].upper()}{tame(note[1:])}."] if note else []),
        "",
        *head(subject, call),
        *rules(found[:1]),
        "    # args left out, or set to auto, are taken from the site; to choose:",
        f"    # args: {EXAMPLES[first.module]}",
    ]
    if first.kind.adapt:
        lines.append(
            "    # adapt: a projection, a pooling or the site's own kind of tuple is added"
        )
    if len(first.sites) == 1:
        lines.append(
            '    # several modules at once: match: "**.*_attention", or a list of patterns'
        )
    lines.append("    # one new module for all of them: share: true")
    return without_commands("\n".join(lines) + "\n")


def _one_line(name: str, found: Proposal, needs: Sequence[str]) -> str:
    """Return the command that does what a rule says; `needs` are options that the file needs."""
    options = _options(found)
    words = [word for option in (*options, ("--with", found.module)) for word in option]
    words += ["--adapt"] if found.kind.adapt else []
    return _command("replace", name, *words, "-o", "OUT", *needs)


def _command(*words: str) -> str:
    return tame(shlex.join(["modswap", *words]))


def _allowed(policy: Policy) -> list[str]:
    """Return the options of a command for what the file may build."""
    words = [word for name in policy.allow for word in ("--allow", name)]
    words += [word for old, new in policy.aliases for word in ("--alias", f"{old}={new}")]
    return [*words, *(["--trust"] if policy.trust else [])]


def _options(found: Proposal) -> list[tuple[str, str]]:
    """Return the options that select the modules of a proposal."""
    chosen = found.selection
    paths = {site.path for site in found.sites}
    options = [("--match", pattern_of(text) if text in paths else text) for text in chosen.match]
    options += [("--exclude", pattern_of(text)) for text in chosen.exclude]
    return [*options, ("--class", chosen.class_)] if chosen.class_ else options


def _targets(title: str, found: Sequence[Proposal]) -> Iterator[str]:
    """Yield the lines that list sites."""
    if not found:
        return
    yield "#"
    yield f"# {title}"
    for one in found:
        listed = [(tame(site.path), tame(_seen(site))) for site in one.sites[:LISTED_TARGETS]]
        width = max(len(path) for path, _ in listed)
        yield from (f"#   {path:<{width}}  {seen}" for path, seen in listed)
        if len(one.sites) > LISTED_TARGETS:
            more, name = len(one.sites) - LISTED_TARGETS, tame(one.sites[0].short_class)
            yield f"#   … and {more} more of class {name}"


def _seen(site: Site) -> str:
    seen = site.input
    if seen is None or site.layout is None:
        return site.short_class
    sizes = extent(seen.shape, site.layout)
    if sizes is None:
        return site.short_class
    size = f"{sizes.tokens} tokens" if sizes.height is None else f"{sizes.height}x{sizes.width}"
    return f"{site.short_class}, {site.layout}, {sizes.channels} channels, {size}"

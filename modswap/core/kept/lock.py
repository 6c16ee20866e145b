"""The contents of a lock file, and the drift of a check from it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modswap.core.errors import DriftError
from modswap.core.kept.outcome import Outcome, SiteOutcome


class _LockPart(BaseModel):
    # later versions may add keys: unknown ones are passed over
    model_config = ConfigDict(frozen=True, extra="ignore")


class Fingerprint(_LockPart):
    """The identity of a checkpoint."""

    name: str  # its file or folder, relative to the lock file
    nbytes: int  # its size
    # `sha256` of every byte; or, of a file too large for that, `structure`: names, sizes and
    # checksums of a zip's records, or the head and 256 pieces of another file
    kind: Literal["sha256", "structure"]
    digest: str  # SHA-256 of that, in hexadecimal


class SiteLock(_LockPart):
    """The decisions at a site."""

    old: str  # class of the old module
    new: str  # class of the new module
    layout: str | None = None  # layout of the site's tensors
    # every constructor argument of the new module
    args: dict[str, Any] = Field(default_factory=dict)
    # values chosen for what the recipe left open
    chosen: dict[str, Any] = Field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return the facts that may drift, by name."""
        facts = {"class": self.old, "new class": self.new, "site layout": self.layout}
        return {**facts, **self.chosen, **self.args}


class Entry(_LockPart):
    """A recipe as it was checked."""

    recipe: str  # SHA-256 of its text in hexadecimal
    checkpoint: Fingerprint  # the file
    versions: dict[str, str] = Field(default_factory=dict)  # of modswap, torch and python
    sites: dict[str, SiteLock] = Field(default_factory=dict)  # decisions, by the path of the site


class Lock(_LockPart):
    """A lock file: an entry for each recipe, by its path relative to the lock file."""

    version: Literal[1] = 1
    recipes: dict[str, Entry] = Field(default_factory=dict)

    def text(self) -> str:
        """Return the text of the file; the same for the same content."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def entry_of(
    outcome: Outcome, recipe: str, checkpoint: Fingerprint, versions: Mapping[str, str]
) -> Entry:
    """Return the lock entry of an outcome; `recipe` is the SHA-256 of the recipe's text."""
    sites = {site.new_path or site.path: _site(site) for site in outcome.sites}
    return Entry(recipe=recipe, checkpoint=checkpoint, versions=dict(versions), sites=sites)


def _site(site: SiteOutcome) -> SiteLock:
    chosen = {choice.name: choice.value for choice in site.choices}
    return SiteLock(
        old=site.old_class,
        new=site.new_class,
        layout=site.layout,
        args=_plain(site.args),
        chosen=_plain(chosen),
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are after writing and reading them as JSON."""
    read: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return read


def drifts(then: Entry, now: Entry, name: str) -> tuple[DriftError, ...]:
    """Return an error for everything that differs from the lock file, naming the recipe.

    `now` has no sites if the check ended before.
    """
    fix = f"if that is meant, lock it anew: `modswap check {name} --lock`"
    return tuple(DriftError(what, name, fix) for what in dict.fromkeys(_drifted(then, now)))


def _drifted(then: Entry, now: Entry) -> Iterator[str]:
    if then.recipe != now.recipe:
        yield f"recipe was {then.recipe[:12]}, is {now.recipe[:12]}"
    old, new = then.checkpoint, now.checkpoint
    if (old.kind, old.digest, old.nbytes) != (new.kind, new.digest, new.nbytes):
        yield f"checkpoint was {_shown(old)}, is {_shown(new)}"
    for what, was, is_ in _compared(then.versions, now.versions):
        yield f"{what} version was {was}, is {is_}"
    if now.sites:
        yield from _sites(then.sites, now.sites)


def _shown(mark: Fingerprint) -> str:
    return f"{mark.name} ({mark.nbytes:,} bytes, {mark.kind} {mark.digest[:12]})"


def _sites(then: Mapping[str, SiteLock], now: Mapping[str, SiteLock]) -> Iterator[str]:
    for path in then:
        if path not in now:
            yield f"{path} was swapped, is not any more"
    for path, site in now.items():
        if path not in then:
            yield f"{path} was not swapped, is now"
            continue
        for what, was, is_ in _compared(then[path].facts(), site.facts()):
            yield f"{what} of {path} was {was}, is {is_}"


def _compared(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the differences, both sides as JSON, where `1` and `true` differ."""
    for name in dict.fromkeys((*then, *now)):
        was, is_ = (_text(side[name]) if name in side else "not set" for side in (then, now))
        if was != is_:
            yield name, was, is_


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

"""Take the modules that swaps put in beside others out of a file again."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from modswap.core.asked.job import Rework, Subject
from modswap.core.asked.renames import renamed
from modswap.core.asked.used_paths import paths_read
from modswap.core.decided.optimizer import Parameter
from modswap.core.errors import CheckpointError, ShapeError, UsageError, together
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.kept.receipt import Receipt, SiteRecord, read_receipt
from modswap.core.progress import Progress, silent
from modswap.io.formats.choice import ending_note
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.format import FileNames, Swap, Swaps
from modswap.io.formats.outline import survey
from modswap.io.formats.survey import Survey
from modswap.io.formats.target import refuse_target
from modswap.io.formats.writing import prepare_copy
from modswap.io.pickled.optimizers import Parameters
from modswap.io.pickled.values import INSERTION
from modswap.io.raw.held import Held, holding
from modswap.io.rewriting import Records, Rewriting
from modswap.ops.load.model import Loaded
from modswap.ops.reopen import reopen
from modswap.ops.write.rewrite import data_ledger, rewritten

_SHOWN = 4  # paths in a note
_STAYS = "the tensors of the module that was there before are no longer in the file"


@dataclass(frozen=True, slots=True)
class _Taken:
    """A module that is to be taken out: its paths, its class, and its parameter elements."""

    paths: tuple[str, ...]
    module: str
    params: int
    gated: bool = True  # whether it is known to have a tensor, that of its gate


def revert_file(job: Rework, progress: Progress = silent) -> Outcome:
    """Give a file the structure that it had before swaps; without `out` nothing is written.

    The file is changed as data. Its model is built only where a factory is named, to learn the
    names of the file's tensors, or the order of its parameters.

    Raises:
        UsageError: If no module of a swap is in it.
        ShapeError: If a swapped module cannot be taken out, since the old one is gone.
        ModswapError: If the file cannot be read or written.
    """
    started = time.monotonic()
    if job.out is not None:
        reads = paths_read(job.subject)
        refuse_target(job.subject.file, job.out, force=job.force, reads=reads)
    with holding(job.subject.file) as held:
        outcome = _held(job, held, held.watched(progress))
    return replace(outcome, seconds=time.monotonic() - started)


def _held(job: Rework, held: Held, progress: Progress) -> Outcome:
    subject, where = job.subject, str(job.subject.file)
    progress(f"reading {where}")
    found = survey(subject.file)
    receipt = read_receipt(found.receipt, where) if found.receipt else None
    taken, staying = _sorted_out(found, receipt)
    _refuse(taken, staying, receipt, job)
    model = _model(found, taken, subject, progress)
    rewriting = _rewriting(job, found, taken, model)
    fewer = sum(one.params for one in taken)
    outcome = Outcome(
        command="revert",
        checkpoint=where,
        recipe="",
        sites=tuple(map(_site, taken)),
        params_before=found.params,
        params_after=found.params - fewer,
        notes=(
            *(f"{path} stays as it is: {_STAYS}" for site in staying for path in site.paths[:1]),
            *_unknown(found, receipt, taken),
            *ending_note(found.format, subject.file, job.out),
            *rewriting.notes,
            *_advice(rewriting, model),
        ),
        stamps=held.stamps,
    )
    if job.out is None:
        held.refuse_change()
        return replace(outcome, ledger=data_ledger(rewriting, rewriting.after, where))
    progress(f"writing {job.out}")
    return rewritten(outcome, rewriting, job, job.out, _records(receipt, staying), held)


def _sorted_out(
    found: Survey, receipt: Receipt | None
) -> tuple[tuple[_Taken, ...], tuple[SiteRecord, ...]]:
    """Return the modules that can be taken out, and the records of those that cannot."""
    known = receipt.sites if receipt is not None else ()
    whole = found.places[0].kind == "module"
    every = list(_inside(found, known) if whole else _recorded(found, known))
    prefixes = _prefixes(every)
    # what was put into another new module goes with it
    outermost = tuple(one for one in every if not one.paths[0].startswith(prefixes))
    plain = (site for site in known if site.joint is None)
    return outermost, tuple(site for site in plain if not site.paths[0].startswith(prefixes))


def _prefixes(taken: Iterable[_Taken]) -> tuple[str, ...]:
    """Return the beginnings of the names of all tensors that go."""
    return tuple(f"{path}." for one in taken for path in one.paths)


def _inside(found: Survey, known: Sequence[SiteRecord]) -> Iterator[_Taken]:
    """Yield the modules beside others of a file that holds a whole module."""
    names = {path: site.module for site in known for path in site.paths}
    for one in found.sites:
        site = one.site
        if site.class_name == str(INSERTION):
            paths = (site.path, *site.aliases)
            yield _Taken(paths, names.get(site.path, site.class_name), site.params)


def _recorded(found: Survey, known: Sequence[SiteRecord]) -> Iterator[_Taken]:
    """Yield the modules beside others that the receipt of a file of weights names."""
    params = {one.site.path: one.site.params for one in found.sites}
    for site in known:
        if site.joint is not None:
            params_of = params.get(site.paths[0], 0)
            yield _Taken(site.paths, site.module, params_of, site.joint.has_gate)


def _refuse(
    taken: Sequence[_Taken], staying: Sequence[SiteRecord], receipt: Receipt | None, job: Rework
) -> None:
    """Refuse a file in which there is nothing to take out, or a module that cannot be."""
    where = str(job.subject.file)
    if not taken and not staying:
        what = "no module of a swap is recorded in it"
        fix = "name a file that `modswap replace` wrote; weights saved elsewhere have no receipt"
        raise UsageError(what, where, fix)
    if staying and not (job.partial and taken):
        fix = _instead(receipt, len(taken))
        raise together([ShapeError(_STAYS, site.paths[0], fix) for site in staying])


def _instead(receipt: Receipt | None, others: int) -> str:
    """Return what a user can do where an old module is gone."""
    fix = "use the file from before the swap"
    if receipt is not None and receipt.source is not None:
        fix = f"{fix}, {receipt.source.name!r}"
    rest = "the other one" if others == 1 else f"the {others} others"
    return f"{fix}, or add --partial to take out {rest}" if others else fix


def _unknown(found: Survey, receipt: Receipt | None, taken: Sequence[_Taken]) -> Iterator[str]:
    """Yield a note on modules of modswap of which no receipt says where they come from."""
    if receipt is not None or found.places[0].kind != "module":
        return
    gone = _prefixes(taken)
    own = (one.site for one in found.sites if one.site.class_name.startswith("modswap.nn."))
    paths = [site.path for site in own if not f"{site.path}.".startswith(gone)]
    if paths:
        yield f"no receipt says whether {', '.join(paths[:_SHOWN])} replaced other modules"


def _model(
    found: Survey, taken: Sequence[_Taken], subject: Subject, progress: Progress
) -> Loaded | None:
    """Return the model of weights, if a factory is named or the file has other names than it."""
    if found.places[0].kind == "module":
        return None
    missing = "" if subject.renames else _missing(found, taken)
    if subject.factory is None and not (missing and found.format == "folder"):
        if missing:
            what = f"no tensor in it belongs to {missing!r}, which its receipt names"
            fix = "say how the model is built, `--model FACTORY`, or `--rename OLD=NEW` as before"
            raise CheckpointError(what, str(subject.file), fix)
        return None
    progress("building the model")
    return reopen(subject)


def _missing(found: Survey, taken: Sequence[_Taken]) -> str:
    """Return the path of a module whose tensors have other names in the file; else empty."""
    prefix = found.places[0].prefix
    names = [name.removeprefix(prefix) for name in found.names]
    for one in taken:
        inner = f".{one.paths[0].rpartition('.')[2]}.module."
        if any(name.startswith(_prefixes([one])) for name in names):
            continue
        if one.gated or any(inner in f".{name}" for name in names):
            return one.paths[0]
    return ""


def _rewriting(
    job: Rework, found: Survey, taken: Sequence[_Taken], model: Loaded | None
) -> Rewriting:
    slots = tuple(Slot(place.keys, place.kind, None, place.prefix) for place in found.places)
    paths = tuple(path for one in taken for path in one.paths)
    prefixes = _prefixes(taken)
    names = _names(job.subject, found, prefixes, model)
    swaps = tuple(Swap(slot, (), names=names, taken=() if names else paths) for slot in slots)
    before = _parameters(found, model)
    after = [one for one in before if not one.name.startswith(prefixes)]
    container = Container(found.format, job.subject.file, None, slots, found.metadata)
    everything = Swaps(swaps, Parameters(before, after, prefixes))
    return prepare_copy(container, everything, job.out, job.subject.policy)


def _names(
    subject: Subject, found: Survey, prefixes: tuple[str, ...], model: Loaded | None
) -> FileNames | None:
    """Return the names in a file of weights of the tensors that go, if they are not the model's."""
    if model is not None and model.stored is not None:
        sources = model.stored.sources.items()
        gone = {one for name, held in sources if name.startswith(prefixes) for one in held}
        return FileNames(frozenset(gone), {}, {})
    if not subject.renames:
        return None
    start = found.places[0].prefix
    bare = [name.removeprefix(start) for name in found.names]
    own = [name for name in bare if renamed(name, subject.renames).startswith(prefixes)]
    return FileNames(frozenset(own), {}, {})


def _parameters(found: Survey, model: Loaded | None) -> tuple[Parameter, ...]:
    """Return the parameters of the model before, as far as they are known."""
    if model is None:
        return found.parameters or found.likely
    named = model.model.named_parameters()
    return tuple(Parameter(name, tuple(p.shape), p.requires_grad) for name, p in named)


def _advice(rewriting: Rewriting, model: Loaded | None) -> Iterator[str]:
    if model is None and any("was left out" in note for note in rewriting.notes):
        yield "`--model FACTORY` tells the order of the parameters, by which an optimizer is kept"


def _site(one: _Taken) -> SiteOutcome:
    """Return the record of a module that is taken out, for the report."""
    return SiteOutcome(
        path=one.paths[0],
        aliases=one.paths[1:],
        rule="",
        old_class=one.module.replace(":", "."),
        old_params=one.params,
        new_class="",
        new_params=0,
        args={},
        calls=(),
        layout=None,
        start="",
    )


def _records(receipt: Receipt | None, staying: Sequence[SiteRecord]) -> Records:
    """Return the receipt of what stays; the recipe inside would no longer be true."""
    if receipt is None or not staying:
        return Records()
    update = {"sites": tuple(staying), "recipe_sha256": "", "digests": {}}
    return Records("", receipt.model_copy(update=update).text())

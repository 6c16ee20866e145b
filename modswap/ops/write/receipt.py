"""Return the records that travel inside a written file: the recipe carried out, and the receipt."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from modswap.core.asked.job import Job
from modswap.core.asked.recipe import Recipe
from modswap.core.kept.receipt import Receipt, SiteRecord, SourceRecord, record
from modswap.core.version import __version__
from modswap.core.words.printable import tame
from modswap.io.raw.atomic import digest
from modswap.ops.run.inputs import DummyCall, entries_of
from modswap.ops.swap import Prepared

_DIGEST_BYTES = 256 << 20  # of a larger source no digest is taken, since it is read once more


def effective(recipe: Recipe, job: Job | None = None) -> Recipe:
    """Return the recipe as it was carried out, without `allow`, which only a user may say."""
    update: dict[str, Any] = {"allow": (), "checkpoint": None}
    if job is not None and job.subject.inputs:
        update["inputs"] = entries_of([DummyCall(job.subject.inputs, {})])
    return recipe.model_copy(update=update).read_from(recipe.source)


def make_receipt(
    prepared: Prepared | None, text: str, *, source: Path | None, earlier: Receipt | None
) -> Receipt:
    """Return the receipt of a swap; `prepared` is None if nothing is known of it.

    `text` is the recipe as it is written beside the receipt; the modules of an earlier swap may
    still be there. Where nothing was planned, as in a healing, the swap is the earlier one.
    """
    made = [built for built in prepared.built if not built.there] if prepared else []
    new = [record(built.paths, built.blueprint) for built in made]
    gone = tuple(path for site in new for path in site.paths)
    kept = [site for site in (earlier.sites if earlier else ()) if not _covered(site, gone)]
    again = earlier if prepared is not None and not prepared.plan.steps else None
    before = again.source if again is not None else None
    return Receipt(
        modswap=__version__,
        torch=torch.__version__,
        source=before or (_source(source) if source is not None else None),
        recipe_sha256=sha256(text.encode()).hexdigest(),
        sites=(*kept, *new),
    )


def _source(file: Path) -> SourceRecord:
    name = tame(file.name)  # may hold any bytes
    if file.is_dir():
        nbytes = sum(one.stat().st_size for one in file.rglob("*") if one.is_file())
        return SourceRecord(name=name, nbytes=nbytes)
    nbytes = file.stat().st_size
    return SourceRecord(
        name=name, nbytes=nbytes, sha256=digest(file) if nbytes <= _DIGEST_BYTES else ""
    )


def _covered(site: SiteRecord, gone: tuple[str, ...]) -> bool:
    return all(any(p == g or p.startswith(f"{g}.") for g in gone) for p in site.paths)

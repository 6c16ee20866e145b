"""Rewrite a file with new modules in it, its own bytes copied."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modswap.core.asked.job import Job, Rework
from modswap.core.kept.ledger import ledger
from modswap.core.kept.outcome import Ledger, Outcome
from modswap.core.kept.receipt import Receipt
from modswap.io.formats.writing import write_rewriting
from modswap.io.raw.held import Held
from modswap.io.recipe.reader import write_recipe
from modswap.io.rewriting import Mark, Records, Rewriting
from modswap.ops.load.checksums import checksum_notes
from modswap.ops.swap import Prepared
from modswap.ops.write.receipt import effective, make_receipt


def rewritten(
    outcome: Outcome,
    rewriting: Rewriting,
    job: Job | Rework,
    out: Path,
    records: Records,
    held: Held | None,
) -> Outcome:
    """Copy a file with new modules in it, every copy compared on the way; return the outcome.

    Raises:
        CheckpointError: If it cannot be written, a record of the source is damaged, or the source
            is `held` and changed.
    """
    source, checksums = job.subject.file, job.subject.policy.checksum
    found: list[Ledger] = []

    def put(file: Path) -> str:
        done = rewriting.write(file, records, checksums=checksums)
        found.append(replace(data_ledger(rewriting, done.tensors, str(out)), proved=True))
        return done.sha256

    written = write_rewriting(source, out, put, force=job.force, held=held)
    notes = (*checksum_notes(job.subject), *outcome.notes)
    outcome = replace(outcome, ledger=found[0], written=written, notes=notes)
    return replace(outcome, receipt_text=records.receipt)


def records_of(job: Job, prepared: Prepared, source: Path, earlier: Receipt | None) -> Records:
    """Return the recipe and the receipt that travel with a written file."""
    text = write_recipe(effective(job.recipe, job))
    receipt = make_receipt(prepared, text, source=source, earlier=earlier)
    return Records(text, receipt.text())


def data_ledger(rewriting: Rewriting, after: Mapping[str, Mark], where: str) -> Ledger:
    """Return the ledger of a file that was read as data."""
    return ledger(
        rewriting.before,
        after,
        rewriting.changes,
        same=lambda a, b: a.content == b.content,
        size=lambda mark: (mark.place, mark.nbytes),
        where=where,
    )

"""Bad inputs, each with how every command has to end on it."""

from tests.io.corpus import (
    foreign,
    hostile,
    legacy,
    recipes,
    records,
    safetensors_files,
    tensor_kinds,
    zips,
)
from tests.io.corpus.case import Case

CASES: tuple[Case, ...] = (
    *foreign.CASES,
    *zips.CASES,
    *hostile.CASES,
    *legacy.CASES,
    *safetensors_files.CASES,
    *records.CASES,
    *recipes.CASES,
    *tensor_kinds.CASES,
)

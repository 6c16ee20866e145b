"""Bad inputs, each with how every command has to end on it."""

from tests.io.corpus.case import Case
from tests.io.corpus.foreign import CASES as FOREIGN

CASES: tuple[Case, ...] = (*FOREIGN,)

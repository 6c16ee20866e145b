"""Bad inputs, each with how every command has to end on it."""

from tests.io.corpus.case import Case
from tests.io.corpus.foreign import CASES as FOREIGN
from tests.io.corpus.hostile import CASES as HOSTILE
from tests.io.corpus.zips import CASES as ZIPS

CASES: tuple[Case, ...] = (*FOREIGN, *HOSTILE, *ZIPS)

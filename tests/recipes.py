"""Parts of recipes for tests of what follows the examinations."""

from modswap.ops.examine.table import EXAMINATIONS

# the passes that were asked for, and no examination
UNEXAMINED = f"verify: {{skip: [{', '.join(row.name for row in EXAMINATIONS)}]}}"

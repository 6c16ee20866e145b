"""Parts of recipes for tests in which examinations are not the point."""

from modswap.ops.examine.table import EXAMINATIONS

# the passes of the recipe, and no examination
UNEXAMINED = f"verify: {{skip: [{', '.join(row.name for row in EXAMINATIONS)}]}}\n"

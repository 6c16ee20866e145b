"""The sections of a report for people, in their order."""

from collections.abc import Mapping

# Did it hold, where is the file, what does it cost, what changed, what is to be done?
SECTIONS: Mapping[str, str] = {  # with their headings
    "verdict": "Verdict",
    "written": "File",
    "cost": "Cost",
    "healing": "Healing",
    "sites": "Sites",
    "tensors": "Tensors",
    "findings": "Findings",
    "counts": "Checks",
}

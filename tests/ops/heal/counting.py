"""Run under torchrun: each kind of work that processes share, and the traffic that it makes."""

import json
import sys
from pathlib import Path

from modswap.core.asked.healing import HealingRequest
from modswap.core.progress import silent
from modswap.ops.heal import ranks
from modswap.ops.heal.closed.fit import fit_closed
from modswap.ops.heal.fitted import Fits
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.healer import Healer
from modswap.ops.heal.norms import estimate_again
from modswap.ops.heal.site_errors import site_error
from modswap.ops.heal.sites import sites_to_heal
from tests.ops.heal.nets import classifier, models, new_module, swapped


def main(out: Path) -> None:
    """Write the calls and bytes of each kind, as the first process counts them."""
    net = classifier()
    both = models(net, swapped(net, new_module("BRA")))
    healer = Healer(both, sites_to_heal(both.original, both.model), HealingRequest(steps=20))
    (site,) = healer.sites
    learn = healer.learn
    fits = Fits(
        both, healer.sites, healer.request, learn, lambda: healer.best, silent, ResumeFile(None, {})
    )
    healer.best = healer._judged()
    work = {
        "closed": lambda: fit_closed(both, site, learn, 1.0, inherited=False),
        "error": lambda: site_error(both, site, healer.held),
        "norms": lambda: estimate_again(both, ("norm",), learn),
        "fit": fits.local,
        "end": fits.end,
    }
    found = {}
    for name, run in work.items():
        with ranks.counted() as traffic:
            run()
        found[name] = traffic.nbytes
    if ranks.first():
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    with ranks.joined("cpu"):
        main(Path(sys.argv[1]))
